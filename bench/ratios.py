"""What serving costs here in terms of a peer: side by side, in turns of a quarter of a second.

A machine that others use too is faster at one time and slower at another, by half as much and more,
so two figures taken a minute apart say little about each other. Here every server of a comparison
is running, and they are loaded in turns, one after the other and back again, again and again.
Each turn gives one ratio of neighbours in time; what is told is the median of these ratios, and
the quartiles. Where threads are compared a turn takes longer, for the server finds out in the
first moments of a load how many of them it wants.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from bench import front
from bench.apps.sleep import SECONDS
from bench.load import Bench, Running, running
from bench.matrix import NO_SERVER, handler_loop
from bench.process import Failed, environment
from bench.servers import Case, version

Figures = dict[str, float]
Measure = Callable[[], Figures]
T = TypeVar("T")


class Comparison(NamedTuple):
    """One server against others: `figure` of its answer, and what the ratio should be at most.

    via: how they are loaded, see VIA.
    """

    ours: Case
    peers: dict[Case, float | None]
    figure: str = "cpu_us"
    via: str = "socket"


# By server and protocol: what this server's cost should be at most in terms of theirs
Peers = dict[tuple[str, str], float | None]
TRIVIAL: dict[str, Peers] = {
    "scgi": {("uwsgi", "scgi"): 0.75, ("flup", "scgi"): 0.3, ("flup-quiet", "scgi"): None},
    "uwsgi": {("uwsgi", "uwsgi"): 0.8, ("gunicorn-sync", "uwsgi"): 0.15},
    "fastcgi": {("uwsgi", "fastcgi-close"): 0.75, ("flup", "fastcgi-close"): 0.3},
    "fastcgi-close": {("uwsgi", "fastcgi-close"): None, ("flup", "fastcgi-close"): None},
    "http": {("granian", "http"): 0.6, ("bjoern", "http"): 0.9, ("gunicorn-gthread", "http"): 0.08},
    "http-close": {("uwsgi", "http-close"): 0.9, ("bjoern", "http-close"): None},
}
# A Django site with the default middleware: no server at all, and the strongest of the others
STRONGEST: Peers = {
    (NO_SERVER, ""): 1.08,
    ("uwsgi", "uwsgi"): 0.85,
    ("granian", "http"): 0.88,
    ("bjoern", "http"): None,
}
DJANGO: dict[str, Peers] = {
    **dict.fromkeys(("scgi", "fastcgi", "uwsgi"), STRONGEST),
    "http": {**STRONGEST, ("bjoern", "http"): 1.03, ("gunicorn-gthread", "http"): 0.52},
}
# The same where more of the cost is the application's own
PAGE: dict[str, Peers] = {
    protocol: {peer: most and max(most, 1.0) for peer, most in peers.items()}
    for protocol, peers in (DJANGO | {"http": DJANGO["http"] | {("bjoern", "http"): 1.0}}).items()
}
# The servers written in C, in the protocols that both have
SHARED: dict[str, Peers] = {
    "scgi": {("uwsgi", "scgi"): 1.0},
    "uwsgi": {("uwsgi", "uwsgi"): 1.0},
    "fastcgi-close": {("uwsgi", "fastcgi-close"): 1.0},
    "http": {("bjoern", "http"): 1.0},
    "http-close": {("uwsgi", "http-close"): 1.0, ("bjoern", "http-close"): 1.0},
}
# Those that have no unix sockets
TCP: dict[str, Peers] = {"http": {("fastwsgi", "http"): 1.0, ("fastpysgi", "http"): 1.0}}
# What stands behind a front, each with the protocols that are best for it
NGINX: dict[str, Peers] = {
    "scgi": {("uwsgi", "uwsgi"): None, ("gunicorn-sync", "uwsgi"): None},
    "http": {("bjoern", "http"): None, ("granian", "http"): None},
}


def _case(server: str, protocol: str, app: str, threads: int = 1, workers: int = 1) -> Case:
    return Case(server, protocol, app, workers, threads)


def _against(
    apps: Iterable[str],
    table: dict[str, Peers],
    ours: str = "sdactivate",
    workers: int = 1,
    via: str = "socket",
) -> list[Comparison]:
    """The comparisons of a table, with each of these applications."""
    return [
        Comparison(
            _case(ours, protocol, app, workers=workers),
            {
                _case(server, other, app, workers=workers): most
                for (server, other), most in peers.items()
            },
            via=via,
        )
        for app in apps
        for protocol, peers in table.items()
    ]


# Each takes six minutes or less
PARTS: dict[str, list[Comparison]] = {
    "trivial": _against(["trivial"], TRIVIAL),
    "djmw": _against(["djmw"], DJANGO),
    "page": _against(["page"], PAGE),
    "json": _against(["json"], SHARED),
    "file": _against(["file"], SHARED),
    "post": _against(["post"], SHARED),
    "tcp": _against(["trivial", "djmw"], TCP, "sdactivate-tcp"),
    "nginx": _against(["trivial", "djmw"], NGINX, via="nginx"),
    "nginx-two": _against(["trivial", "djmw"], NGINX, workers=2, via="nginx"),
}
# This checkout in terms of another one: what a change costs
CHANGED = _against(
    ("trivial", "djmw", "post"),
    {
        protocol: {("before", protocol): None}
        for protocol in ("scgi", "uwsgi", "fastcgi", "http", "http-close")
    },
)
# Eight threads that compute, against one; eight that wait, against what they could do
THREADED = [
    Comparison(
        _case("sdactivate", protocol, "djmw", 8),
        {_case("sdactivate", protocol, "djmw"): 1.5, _case("uwsgi", "uwsgi", "djmw", 8): None},
        "p99_us",
    )
    for protocol in ("scgi", "http")
]
SLEEPING = [
    _case(server, protocol, "sleep", 8)
    for server, protocol in (("sdactivate", "scgi"), ("sdactivate", "http"), ("uwsgi", "uwsgi"))
]


@contextlib.contextmanager
def on_its_socket(server: Running) -> Iterator[front.Turn]:
    yield lambda seconds: turn(server, seconds)


VIA: dict[str, Callable[[Running], contextlib.AbstractContextManager[front.Turn]]] = {
    "socket": on_its_socket,
    "nginx": front.before,
}


@contextlib.contextmanager
def ready(bench: Bench, case: Case, seconds: float, via: str = "socket") -> Iterator[Measure]:
    """A server that is running, or the loop without one: what one turn of it gives."""
    if case.server == NO_SERVER:
        yield lambda: handler_loop(case.app, seconds)
        return
    with beside(bench, case) as server, VIA[via](server) as measure:
        yield lambda: measure(seconds)


def beside(bench: Bench, case: Case) -> contextlib.AbstractContextManager[Running]:
    """A server that is running, in a place of its own."""
    return running(bench.beside(str(case).replace(" ", "-")), case)


def in_turns(things: Iterable[T], turns: int) -> Iterator[T]:
    """Each of them so many times: one after the other and back again."""
    forth = list(things)
    for number in range(turns):
        yield from forth if number % 2 else forth[::-1]


def turn(server: Running, seconds: float, connections: int = 8) -> Figures:
    load = {"t": str(seconds), "c": str(connections)}
    return server.measured(lambda: server.load(**load))


def compare(
    bench: Bench, wanted: Comparison, turns: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Measure one comparison; a row for each peer."""
    cases = [wanted.ours, *(case for case in wanted.peers if _is_here(case))]
    figures: dict[Case, list[float]] = {case: [] for case in cases}
    with contextlib.ExitStack() as stack:
        measures = {
            case: stack.enter_context(ready(bench, case, seconds, wanted.via)) for case in cases
        }
        for measure in measures.values():
            measure()  # to warm up
        for case in in_turns(cases, turns):
            figures[case].append(measures[case]()[wanted.figure])
    ours = figures[wanted.ours]
    for case in cases[1:]:
        ratios = [mine / its for mine, its in zip(ours, figures[case], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        yield {
            "figure": wanted.figure,
            "via": wanted.via,
            "ours": wanted.ours._asdict(),
            "peer": case._asdict(),
            "ours_median": statistics.median(ours),
            "peer_median": statistics.median(figures[case]),
            "ratio": middle,
            "quartiles": [low, high],
            "most": wanted.peers[case],
        }


def _is_here(case: Case) -> bool:
    return case.server == NO_SERVER or version(case.server) is not None


def asleep(bench: Bench, cases: list[Case], turns: int, seconds: float) -> Iterator[dict[str, Any]]:
    """The share of what its threads allow that an application reaches which sleeps.

    With a connection for each thread, which then waits for the client as well, and with two.
    """
    rates: dict[tuple[Case, int], list[float]] = {
        (case, times * case.threads): [] for case in cases for times in (1, 2)
    }
    with contextlib.ExitStack() as stack:
        servers = {case: stack.enter_context(beside(bench, case)) for case in cases}
        for server in servers.values():
            turn(server, seconds)
        for case, connections in in_turns(rates, turns):
            figures = turn(servers[case], seconds, connections)
            rates[case, connections].append(figures["requests_per_s"])
    for (case, connections), found in rates.items():
        shares = [rate * SECONDS / case.threads for rate in found]
        low, middle, high = statistics.quantiles(shares, n=4)
        row = {"share": middle, "quartiles": [low, high], "least": 0.95}
        yield {"ours": case._asdict(), "connections": connections, **row}


def hot_path() -> str:
    """Return which form of the native server's hot path is measured: servers have no variables."""
    program = "from sdactivate.servers.native import accel; print(accel.in_use)"
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, env=environment(), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def measure(
    bench: Bench, comparisons: list[Comparison], turns: int, seconds: float
) -> dict[str, Any]:
    """Every comparison; the rows, and what could not be measured and why."""
    form = hot_path()
    print(f"sdactivate: {form}", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for wanted in comparisons:
        for case in wanted.peers:
            if not _is_here(case):
                failed[case.server] = "not installed"
        if wanted.via == "nginx" and (missing := front.absent()):
            failed["through nginx"] = f"{', '.join(missing)}: not installed"
            continue
        try:
            for row in compare(bench, wanted, turns, seconds):
                rows.append(row)
                say(row)
        except Failed as error:
            failed[str(wanted.ours)] = str(error)
    said = {"turns": turns, "seconds": seconds, "hot_path": form}
    return said | {"rows": rows, "failed": failed}


def threads(bench: Bench, turns: int, seconds: float) -> dict[str, Any]:
    """What several threads do to each other."""
    result = measure(bench, THREADED, turns, seconds)
    here = [case for case in SLEEPING if _is_here(case)]
    return result | {"sleeping": list(asleep(bench, here, turns, seconds))}


def say(row: dict[str, Any]) -> None:
    ours, peer = Case(**row["ours"]), Case(**row["peer"])
    print(
        f"{ours!s:34} {row['ours_median']:8.1f}  {peer!s:34} {row['peer_median']:8.1f}  "
        f"{row['figure']} ratio {row['ratio']:.2f}",
        file=sys.stderr,
        flush=True,
    )
