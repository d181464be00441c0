"""What is lost when a process leaves: restarts and reloads, cell by cell, with clients in pieces.

A cell is a protocol, a number of workers and threads, and an action. 24 clients (pieces.py) send
heads and bodies in separate writes while the server is restarted or reloaded again and again, on
the socket, through nginx that keeps connections where the protocol can, or through nginx as
`gen --kind nginx` configures it. A request is lost when it met a closed connection after its
beginning had been taken, or was not answered; it hangs when there is no answer within ten seconds.
"""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from bench import front
from bench.activator import Activator
from bench.load import Bench
from bench.servers import Case

PROTOCOLS = ("scgi", "fastcgi", "uwsgi", "http")
SIZES = tuple(product((1, 2, 4), (1, 8)))
ACTIONS = ("restart", "reload")
WAYS = ("socket", "nginx", "generated")
CLIENTS = 24
BETWEEN_S = 0.1


@contextlib.contextmanager
def clients(address: str, protocol: str) -> Iterator[dict[str, int]]:
    """24 clients for as long as the block runs; then their counts are in what was given."""
    found: dict[str, int] = {}
    argv = [sys.executable, "-m", "bench.pieces", address, protocol, str(CLIENTS)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield found
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.stdout
            found.update(json.loads(running.stdout.read()))


def cell(
    bench: Bench,
    protocol: str,
    workers: int,
    threads: int,
    action: str,
    times: int,
    via: str = "socket",
) -> dict[str, Any]:
    """Restart or reload so often; returns the row of the cell."""
    activator = Activator(bench, Case("sdactivate", protocol, "trivial", workers, threads))
    took = []
    with contextlib.ExitStack() as stack:
        stack.callback(activator.close)
        address, spoken = str(bench.socket), protocol
        if via != "socket":
            nginx = front.generated if via == "generated" else front.nginx
            address, spoken = str(stack.enter_context(nginx(bench.socket, protocol))), "http"
        with clients(address, spoken) as found:
            time.sleep(0.5)  # until the clients run
            for _ in range(times):
                time.sleep(BETWEEN_S)
                began = time.monotonic()
                getattr(activator, action)()
                took.append(time.monotonic() - began)
            time.sleep(0.2)
    lost = {reason: count for reason, count in found.items() if reason.startswith("lost")}
    return {
        "protocol": protocol,
        "workers": workers,
        "threads": threads,
        "action": action,
        "via": via,
        "times": times,
        "took_s": sorted(took)[len(took) // 2],
        "requests": found.get("requests", 0),
        "again": found.get("again", 0),
        "lost": sum(lost.values()),
        "reasons": lost,
        "hung": found.get("hung", 0),
    }


def runs(
    bench: Bench,
    times: int,
    protocols: Sequence[str] = PROTOCOLS,
    ways: Sequence[str] = WAYS,
) -> dict[str, Any]:
    """Every cell of `protocols`; `times`: reloads, and restarts, of each protocol."""
    each = -(-times // (len(SIZES) * len(ways)))
    rows = []
    for protocol, via, action, (workers, threads) in product(protocols, ways, ACTIONS, SIZES):
        rows.append(cell(bench, protocol, workers, threads, action, each, via))
        row = rows[-1]
        shown = {name: row[name] for name in ("requests", "again", "lost", "hung")}
        print(protocol, via, action, workers, threads, shown, row["reasons"], file=sys.stderr)
        sys.stderr.flush()
    return {"rows": rows}
