"""Checks on how a service starts, stops and is watched: limits, time-outs, work at each start."""

import math
import re
from collections.abc import Iterator, Mapping

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.handling import commands_of, options, serves_in_process
from sdactivate.doctor.finding import Advice, Case, Hit, Lines
from sdactivate.external_servers import SERVERS
from sdactivate.systemd.unitfile import Entry, Unit

_USUAL_STARTS, _USUAL_INTERVAL = 5, 10.0  # systemd-system.conf(5), DefaultStartLimitBurst=
_USUAL_STOP = 90.0  # the same, DefaultTimeoutStopSec=
_MARGIN = 10  # seconds
_INFINITE = ("infinity", "0")
# Measured: none of them contains the text WATCHDOG.
_SILENT = (*SERVERS, "waitress")


def never_watched(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        entry, server = service.entry("WatchdogSec"), common.server(service)
        if entry is None or entry.value in _INFINITE or server not in _SILENT:
            continue
        if serves_in_process(service):
            continue  # sdactivate sends WATCHDOG=1
        if service.value("NotifyAccess") == "all":
            continue  # the application may send it
        yield Hit(
            entry,
            f"{server} never sends WATCHDOG=1: systemd kills it when WatchdogSec={entry.value} has "
            "passed after a start, even while it serves",
            Lines(service.name, "Service", ("WatchdogSec=0",), True),
        )


def low_start_limit(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        burst = _last(service, "StartLimitBurst")
        span = _last(service, "StartLimitIntervalSec") or _last(service, "StartLimitInterval")
        if burst is None or not burst.value.isdecimal() or not case.sockets:
            continue
        count = int(burst.value)
        seconds = common.seconds(span.value) if span else _USUAL_INTERVAL
        if not count or not seconds or count >= _USUAL_STARTS:
            continue
        if count / seconds < _USUAL_STARTS / _USUAL_INTERVAL:
            yield Hit(
                burst,
                f"after {count} starts in {seconds:g} s systemd does not start the service again, "
                f"and {case.sockets[0].name} fails too: every client is refused until both are "
                "started by hand",
                Lines(service.name, "Unit", ("StartLimitIntervalSec=0",)),
            )


def _last(service: Unit, key: str) -> Entry | None:
    """Return the effective line: in [Unit], or in [Service], where older units have it."""
    return service.entry(key, "Unit") or service.entry(key)


_GRACE: Mapping[str, str] = {
    "gunicorn": "--graceful-timeout",
    "hypercorn": "--graceful-timeout",
    "uvicorn": "--timeout-graceful-shutdown",
    "uwsgi": "--worker-reload-mercy",
}
"""The option of each server for how long its requests may take at a stop, in seconds."""


def stopped_too_soon(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        line = service.entry("TimeoutStopSec") or service.entry("TimeoutSec")
        patience = common.seconds(line.value) if line else _USUAL_STOP
        if patience is None or (line and line.value in _INFINITE):
            continue
        for entry, grace in _graces(service):
            if patience < grace < math.inf:
                unsaid = "" if line else " (the default)"
                yield Hit(
                    line or entry,
                    f"at a stop, requests may take {grace:g} s, but systemd kills the server "
                    f"after {patience:g} s{unsaid}",
                    Lines(service.name, "Service", (f"TimeoutStopSec={grace + _MARGIN:g}",)),
                )


def _graces(service: Unit) -> Iterator[tuple[Entry, float]]:
    """Yield each command line that limits how long requests may take at a stop, and the limit."""
    for entry, words in commands_of(service, "ExecStart"):
        flag = "--graceful-timeout" if common.is_ours(service) else ""
        flag = flag or _GRACE.get(common.server_in(words), "")
        said = [value for option, value in options(words) if option == flag]
        if said and (seconds := common.seconds(said[-1])) is not None:
            yield entry, seconds


_MIGRATES = (
    re.compile(r"\S*(manage\.py|django-admin(\.py)?|-m django) (\S+ )*?migrate( .*)?"),
    re.compile(r"\S*\balembic (\S+ )*?upgrade( .*)?"),
    re.compile(r"\S*\bflask (\S+ )*?db upgrade( .*)?"),
)
_ONLY_LOOKS = ("--check", "--plan", "--sql")


def migrates(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        keys = ("ExecStartPre", "ExecStart") if case.sockets else ()
        for entry, words in commands_of(service, *keys):
            text = " ".join(words)
            if any(it.search(text) for it in _MIGRATES) and not set(_ONLY_LOOKS) & {*words}:
                yield Hit(
                    entry,
                    "every start migrates the database, even a restart after a crash. Clients "
                    "wait for the migration. TimeoutStartSec= can end it halfway. Processes that "
                    "still serve with the old code find tables that it does not know",
                    Advice(
                        "make it a step of the release: `sdactivate release`, or "
                        f"`sdactivate run {service.prefix} -- manage.py migrate` before the restart"
                    ),
                )
