"""Server x protocol x application, in interleaved rounds: CPU per request, latency, memory.

Each round runs every case once (A B C A B C ...), so that what the machine does meanwhile falls on
all of them. A row of the result is one case in one round, on the socket or through nginx.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from bench import front, handler, process
from bench.load import Bench, Running, running
from bench.process import Failed
from bench.servers import SERVERS, Case, version

APPS = ("trivial", "dj", "djmw", "page")
# What is measured: workers, threads, applications, connections, whether through nginx too.
SUITES = {
    "one": (1, 1, APPS, (8,), True),
    "two": (2, 1, ("trivial", "djmw"), (8,), False),
    "threads": (1, 8, ("trivial", "djmw", "page"), (8,), False),
    "sleep": (1, 8, ("sleep",), (8, 16), False),
}
NO_SERVER = "no server"


def cases(suite: str, servers: Iterable[str], apps: Iterable[str]) -> Iterator[Case]:
    """The cases of a suite, with the loop without a server where there is one process."""
    workers, threads, known, _, _ = SUITES[suite]
    for app in known:
        if app not in apps:
            continue
        if (workers, threads) == (1, 1):
            yield Case(NO_SERVER, "", app)
        for name in servers:
            row = SERVERS[name]
            if workers <= row.most_workers and threads <= row.most_threads and version(name):
                protocols = row.protocols if suite == "one" else row.protocols[:1]
                if name == "sdactivate":
                    protocols = row.protocols
                for protocol in protocols:
                    yield Case(name, protocol, app, workers, threads)


def handler_loop(app: str, seconds: float) -> dict[str, Any]:
    argv = [sys.executable, "-m", handler.__name__, app, str(seconds)]
    done = subprocess.run(
        argv, cwd=process.ROOT, env=process.environment(), capture_output=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def rows(bench: Bench, suite: str, case: Case, seconds: float) -> Iterator[dict[str, Any]]:
    """Every measurement of one case."""
    _, _, _, connections, nginx = SUITES[suite]
    if case.server == NO_SERVER:
        yield {"via": "loop", **handler_loop(case.app, seconds)}
        return
    with running(bench, case) as server:
        idle = server.memory()
        for number in connections:
            row = {"via": "socket", "connections": number, **server.direct(seconds, number)}
            yield row | {"idle_mib": idle, "mib": server.memory()}
        if nginx and not front.absent():
            yield through_nginx(server, seconds)


def through_nginx(server: Running, seconds: float) -> dict[str, Any]:
    return {"via": "nginx", "connections": 8, **front.through_nginx(server, seconds)}


def rounds(
    bench: Bench,
    number: int,
    seconds: float,
    suites: list[str],
    servers: list[str],
    apps: list[str],
) -> dict[str, Any]:
    """Run the suites `number` times over; the rows, and what could not be measured and why."""
    found: list[dict[str, Any]] = []
    failed: dict[str, str] = {name: "not installed" for name in servers if not version(name)}
    if missing := front.absent():
        failed["through nginx"] = f"{', '.join(missing)}: not installed"
    for turn in range(1, number + 1):
        for suite in suites:
            for case in cases(suite, servers, apps):
                if str(case) in failed:
                    continue
                try:
                    for row in rows(bench, suite, case, seconds):
                        found.append({"suite": suite, "round": turn, **case._asdict(), **row})
                        say(turn, case, row)
                except Failed as error:
                    failed[str(case)] = str(error)
                    print(f"{turn} {case}: {error}", file=sys.stderr)
    return {"rounds": number, "seconds": seconds, "rows": found, "failed": failed}


def say(turn: int, case: Case, row: dict[str, Any]) -> None:
    lost = sum(row.get("failures", {}).values())
    print(
        f"{turn} {case!s:40} {row['via']:6} {row['cpu_us']:8.1f} us "
        f"{row['requests_per_s']:8.0f}/s p99 {row.get('p99_us', 0) / 1000:6.2f} ms"
        + (f" {lost} failed" if lost else ""),
        file=sys.stderr,
        flush=True,
    )
