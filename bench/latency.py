"""What requests wait for each other: beside computing ones, in bursts, and on a mixed site.

`beside`: two, three and five requests that compute for 3 s are sent, and 50 ms later a trivial one.
`bursts`: the same Django site with eight threads and with one, side by side; each is left alone for
some seconds and then loaded for 0.3 s, or for 5 s. Pinned, the server has a core of its own and the
load another; "half a core" means that another process computes on the server's core.
`mixed`: 9 requests in 10 compute 1 ms, 1 in 10 waits 1 s; what the quick ones take.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import process
from bench.load import Bench, Running
from bench.process import Failed
from bench.ratios import beside, in_turns, turn
from bench.servers import Case
from bench.wire import PARAMS, PROTOCOLS

Row = dict[str, Any]
BURST, LONG, QUIET = 0.3, 5.0, 5.0  # seconds
CONNECTIONS = (4, 8, 16, 64)
PLACES = {"pinned": "pinned", "any": "not pinned", "half": "half a core"}
LENGTHS = {"bursts": BURST, "runs": LONG}
COMPUTING = (2, 3, 5)
RATE, FOR = 20, 60.0  # requests a second of the mixed site, and seconds
GUARD = 600.0


def ask(path: Path, target: str) -> float:
    """Return how long a request took, in milliseconds. Raises Failed."""
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(GUARD)
        peer.connect(str(path))
        peer.sendall(PROTOCOLS["scgi"].request(PARAMS | {"PATH_INFO": target}))
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
    if not answer.startswith(b"Status: 200"):
        raise Failed(f"{target}: {answer[:80]!r}")
    return (time.monotonic() - began) * 1000


def told(values: list[float]) -> Row:
    """The median, the smallest and the largest."""
    return {"ms": statistics.median(values), "least": min(values), "most": max(values)}


def beside_computing(server: Running, times: int) -> Iterator[Row]:
    """What a trivial request takes beside some that compute for 3 s."""
    for count in COMPUTING:
        found = []
        for _ in range(times):
            threads = [
                threading.Thread(target=ask, args=(server.bench.socket, "/compute/3000"))
                for _ in range(count)
            ]
            for thread in threads:
                thread.start()
            time.sleep(0.05)
            found.append(ask(server.bench.socket, "/"))
            for thread in threads:
                thread.join()
            time.sleep(1)
        yield {"computing": count, **told(found), "goal_ms": 300}


@contextlib.contextmanager
def disturbed(place: str, servers: list[Running]) -> Iterator[None]:
    """Let the servers run as `place` says while the block runs."""
    cores = set(os.sched_getaffinity(0)) if place == "not pinned" else {process.SERVER_CORE}
    for server in servers:
        for task in Path(f"/proc/{server.pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), cores)
    other = 0
    if place == "half a core":
        other = os.fork()
        if not other:
            os.sched_setaffinity(0, {process.SERVER_CORE})
            while True:
                pass
    try:
        yield
    finally:
        if other:
            os.kill(other, signal.SIGKILL)
            os.waitpid(other, 0)


def bursts(bench: Bench, turns: int, quiet: float, place: str, seconds: float) -> Iterator[Row]:
    """The slowest hundredth with eight threads in terms of one thread's, as `place` says."""
    cases = [Case("sdactivate", "http", "djmw", 1, threads) for threads in (8, 1)]
    with contextlib.ExitStack() as stack:
        servers = {case: stack.enter_context(beside(bench, case)) for case in cases}
        for server in servers.values():
            turn(server, 1.0)  # to warm up
        stack.enter_context(disturbed(place, list(servers.values())))
        for connections in CONNECTIONS:
            found: dict[Any, list[float]] = {case: [] for case in cases}
            for case in in_turns(cases, turns):
                time.sleep(quiet)
                report = turn(servers[case], seconds, connections)
                found[case].append(report["p99_us"] / 1000)
            several, one = (statistics.median(found[case]) for case in cases)
            yield {
                "place": place,
                "seconds": seconds,
                "connections": connections,
                "eight_ms": several,
                "one_ms": one,
                "ratio": several / one,
                "goal": 1.5,
            }


def mixed(server: Running, seconds: float) -> Row:
    """What quick requests take beside some that wait for a second, in milliseconds."""
    chance = random.Random(1)
    quick: list[float] = []
    threads = []

    def one(target: str) -> None:
        took = ask(server.bench.socket, target)
        if target != "/wait/1000":
            quick.append(took)

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(chance.expovariate(RATE))
        target = "/wait/1000" if chance.random() < 0.1 else "/compute/1"
        threads.append(threading.Thread(target=one, args=(target,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    p50, p99 = statistics.median(quick), statistics.quantiles(quick, n=100)[-1]
    return {"requests": len(threads), "p50_ms": p50, "p99_ms": p99, "ratio": p99 / p50, "goal": 3}


@contextlib.contextmanager
def mixed_site(bench: Bench) -> Iterator[Running]:
    with beside(bench, Case("sdactivate", "scgi", "mixed", 1, 8)) as server:
        yield server


def beside_part(bench: Bench, turns: int, quick: bool) -> Iterator[Row]:
    with mixed_site(bench) as server:
        yield from beside_computing(server, 1 if quick else 5)


def mixed_part(bench: Bench, turns: int, quick: bool) -> Iterator[Row]:
    with mixed_site(bench) as server:
        yield mixed(server, 5 if quick else FOR)


def bursts_part(place: str, seconds: float) -> Part:
    return lambda bench, turns, quick: bursts(bench, turns, 0.5 if quick else QUIET, place, seconds)


# Each takes a quarter of an hour at most
Part = Callable[[Bench, int, bool], Iterator[Row]]
PARTS: dict[str, Part] = {
    "beside": beside_part,
    "mixed": mixed_part,
    **{
        f"{kind}-{name}": bursts_part(place, seconds)
        for kind, seconds in LENGTHS.items()
        for name, place in PLACES.items()
    },
}


def measure(bench: Bench, name: str, turns: int, quick: bool) -> Row:
    """Return the rows of one part; `turns` of each cell."""
    rows = list(said(PARTS[name](bench, turns, quick)))
    return {"turns": turns, "quiet_s": 0.5 if quick else QUIET, "rows": rows}


def said(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        print(row, file=sys.stderr, flush=True)
        yield row
