"""Restarts and reloads under load: how many requests fail, and how long the longest one waits.

The socket is held by the activator (activator.py), as systemd holds it. 16 clients for each
protocol send requests straight to the socket, and 16 more through nginx, each with a pause of 40 ms
between two requests, while the server is restarted (or reloaded) again and again. `none` is the
same load with nothing happening, to compare with.
"""

import contextlib
import json
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import front
from bench.activator import Activator
from bench.load import Bench
from bench.process import Failed
from bench.servers import SERVERS, SOCKET, Case, version

OURS = "sdactivate"
CLIENTS = 16
PAUSE_MS = 40
BETWEEN_S = 0.3
LONGEST_S = 3600
# Enough of "none" for its p99 to mean something
QUIET_S = 5

DELAY = f"function delay() return {PAUSE_MS} end\n"


def actions(server: str) -> list[str]:
    return ["none", "restart", *(["reload"] if SERVERS[server].reload else [])]


@contextlib.contextmanager
def direct(bench: Bench, protocol: str, found: dict[str, Any]) -> Iterator[None]:
    """Load on the socket for as long as the block runs; `found` gets the report."""
    load = bench.generate(protocol, c=str(CLIENTS), t=str(LONGEST_S), w=str(PAUSE_MS))
    with load:
        try:
            yield
        finally:
            load.terminate()
            assert load.stdout
            found |= json.loads(load.stdout.read())


@contextlib.contextmanager
def through_nginx(bench: Bench, protocol: str, found: dict[str, Any]) -> Iterator[None]:
    """The same through nginx."""
    script = bench.directory / f"restart-{protocol}.lua"  # several wrks read while one is written
    script.write_text(front.SCRIPT + DELAY)
    with front.nginx(bench.socket, protocol) as port:
        argv = front.wrk_command(port, script, LONGEST_S, CLIENTS)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as load:
            try:
                yield
            finally:
                load.send_signal(signal.SIGINT)
                assert load.stdout
                found |= front.report(load.stdout.read())


def once(
    bench: Bench, server: str, protocols: tuple[str, ...], app: str, action: str, times: int
) -> Iterator[dict[str, Any]]:
    """One run: a row for each protocol, on the socket and through nginx."""
    activator = Activator(bench, Case(server, protocols[0], app))
    reports: dict[tuple[str, str], dict[str, Any]] = {}
    took = []
    try:
        with contextlib.ExitStack() as loads:
            for protocol in protocols:
                for via, load in (("socket", direct), ("nginx", through_nginx)):
                    if via == "nginx" and front.absent():
                        continue
                    report = reports[protocol, via] = {}
                    loads.enter_context(load(bench, protocol, report))
            if action == "none":
                time.sleep(QUIET_S)
            else:
                act: Callable[[], None] = getattr(activator, action)
                for _ in range(times):
                    time.sleep(BETWEEN_S)
                    began = time.monotonic()
                    act()
                    took.append(time.monotonic() - began)
    finally:
        activator.close()
    for (protocol, via), report in reports.items():
        yield {
            "server": server,
            "protocol": protocol,
            "together": len(protocols) > 1,
            "app": app,
            "action": action,
            "times": len(took),
            "took_s": statistics.median(took) if took else 0,
            "killed": activator.killed,
            "via": via,
            **report,
            "failed": sum(report["failures"].values()),
        }


def runs(bench: Bench, times: int, own_times: int, app: str, servers: list[str]) -> dict[str, Any]:
    """Every server that inherits a socket, with its first protocol; ours with all, together.

    times: how often each is restarted and reloaded; own_times: ours, which promises more.
    """
    found: list[dict[str, Any]] = []
    failed: dict[str, str] = {name: "not installed" for name in servers if not version(name)}
    for name in servers:
        row = SERVERS[name]
        if SOCKET in row.argv(Case(name, row.protocols[0], app)):
            failed[name] = "takes no inherited socket"
        if name in failed:
            continue
        sets = [row.protocols[:1]]
        if name == OURS:
            sets.append(("scgi", "fastcgi", "uwsgi", "http"))
        for protocols in sets:
            for action in actions(name):
                try:
                    number = own_times if name == OURS else times
                    found += once(bench, name, protocols, app, action, number)
                except Failed as error:
                    failed[f"{action}: {name} {' '.join(protocols)}"] = str(error)
    return {"rows": found, "failed": failed}
