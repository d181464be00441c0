"""Memory and descriptors of a server over a million requests of all kinds.

Every protocol asks for every kind of answer (apps/kinds.py) at the same time, from closed loops on
the socket, and beside them come a few peers that are each of them different: in the hosts, paths,
fields and cookies that they send, in how they cut it, in what they get wrong, and in when they
leave. After each step, when all have been answered, the process's RSS, descriptors and threads are
written down. Flat means that after the first fifth RSS is never more than 2 MiB over what it was
there.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.apps.kinds import KINDS
from bench.load import Bench, Running, running
from bench.process import Failed
from bench.servers import Case
from bench.wire import PARAMS, PROTOCOLS, posted

STEPS = 20
FIRST = STEPS // 5  # the steps in which it may grow
FLAT_MIB = 2.0
UPLOAD = b"x" * 20_000
ODD = 50  # one request in so many is an odd one


def request(protocol: str, kind: str) -> bytes:
    """Return a request of one kind; /read has a body."""
    params = PARAMS | {"REQUEST_URI": f"/{kind}", "PATH_INFO": f"/{kind}", "QUERY_STRING": ""}
    if kind == "read":
        return PROTOCOLS[protocol].request(posted(params, UPLOAD), UPLOAD)
    return PROTOCOLS[protocol].request(params)


def odd_request(chance: random.Random) -> bytes:
    """Return a request over HTTP unlike all others, which may be wrong."""
    word = f"{chance.getrandbits(64):x}"
    host = chance.choice(("www.example.com", f"{word}.example", "a@b", ""))
    field = chance.choice(("Cookie", f"X-{word}", "Expect", "X_Odd", "Transfer-Encoding", "TE"))
    path = chance.choice((f"/{word}", "/pieces", "/large", "*", f"/%{word}", "/" + word * 600))
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{field}: {word * 20}\r\n\r\n".encode()


def odd(path: Path, count: int, chance: random.Random) -> None:
    """Let so many odd peers come, one after the other."""
    for _ in range(count):
        with socket.socket(socket.AF_UNIX) as peer, contextlib.suppress(OSError):
            peer.settimeout(10)
            peer.connect(str(path))
            data = odd_request(chance)
            at = chance.choice((len(data), len(data), chance.randrange(len(data))))
            peer.sendall(data[:at])
            if chance.random() < 0.8:
                peer.sendall(data[at:])
                peer.recv(65536)


def seen(pid: int) -> dict[str, float]:
    """Return a process's RSS in MiB, its descriptors and its threads."""
    status = Path(f"/proc/{pid}/status").read_text()
    rss, threads = (
        int(re.findall(rf"^{name}:\s+(\d+)", status, re.M)[0]) for name in ("VmRSS", "Threads")
    )
    fds = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return {"rss_mib": rss / 1024, "fds": fds, "threads": threads}


def step(server: Running, count: int, chance: random.Random) -> int:
    """Send about so many requests of all kinds; return how many were answered. Raises Failed."""
    bench = server.bench
    loops = []
    for protocol in PROTOCOLS:
        for kind in KINDS:
            path = bench.directory / f"{protocol}-{kind}"
            if not path.exists():
                path.write_bytes(request(protocol, kind))
            each = str(count // (len(PROTOCOLS) * len(KINDS)))
            loops.append(bench.generate(protocol, r=str(path), n=each, c="2"))
    few = count // ODD
    odd(bench.socket, few, chance)
    reports = [loop.communicate()[0] for loop in loops]
    if any(loop.returncode for loop in loops):
        raise Failed("a load generator has failed")
    answered = [int(re.findall(r'"requests": (\d+)', report)[0]) for report in reports]
    if not all(answered):
        raise Failed(f"a kind of request was not answered: {reports[answered.index(0)]}")
    return sum(answered) + few


def steps(bench: Bench, count: int, seconds: float) -> Iterator[dict[str, float]]:
    """Send `count` requests, or as many as `seconds` allow; a row for each step."""
    chance = random.Random(17)
    until = time.monotonic() + seconds
    with running(bench, Case("sdactivate", "http", "kinds", 1, 8)) as server:
        sent = 0
        for _ in range(STEPS):
            if time.monotonic() > until:
                return
            sent += step(server, count // STEPS, chance)
            time.sleep(0.2)  # what was begun ends
            row = {"requests": sent} | seen(server.pid)
            say(row)
            yield row


def say(row: dict[str, float]) -> None:
    told = "{requests:9} requests: {rss_mib:6.1f} MiB, {fds} descriptors, {threads} threads"
    print(told.format(**row), file=sys.stderr, flush=True)


def measure(bench: Bench, count: int, seconds: float) -> dict[str, Any]:
    """Return the rows, by how much RSS grew after the first fifth, and whether that is flat."""
    rows = list(steps(bench, count, seconds))
    later = [row["rss_mib"] for row in rows[FIRST - 1 :]]
    if not later:
        raise Failed(f"{seconds:g} s are not enough for a fifth of {count} requests")
    grown = max(later) - later[0]
    print(f"grown after the first fifth: {grown:.1f} MiB", file=sys.stderr)
    return {
        "count": count,
        "rows": rows,
        "whole": len(rows) == STEPS,
        "grown_mib": grown,
        "flat": grown <= FLAT_MIB,
    }
