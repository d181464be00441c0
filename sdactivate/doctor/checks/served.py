"""Checks on the running system: messages of a server that runs but does not serve all requests.

systemd reports such a service as active, but the front gets errors. A row of `ROWS` has what the
server writes then. To add a case, add a row with the server's exact text, its meaning and the fix.
Then add a line with the server's exact text to tests/doctor/test_served.py.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sdactivate.doctor import advice, refusals, uwsgi_options, variables
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.answers import errors
from sdactivate.doctor.checks.handling import options
from sdactivate.doctor.finding import Advice, Case, Fix, Hit, restart
from sdactivate.doctor.last_start import Line, cause
from sdactivate.doctor.private import grant
from sdactivate.systemd.unitfile import Unit

_HTTP = ("21573", "21327", "16709", "21589", "17473")
"""The first bytes of GET, POST, HEAD, PUT and DELETE, read as the length of a uwsgi packet."""


class Row(NamedTuple):
    """A server's message, its meaning (a format for the pattern's groups), and what fixes it."""

    pattern: re.Pattern[str]
    means: str
    fix: Callable[[Unit, re.Match[str]], Fix | None]
    """None where the message means nothing for a service of this kind."""


def _advice(text: str) -> Callable[[Unit, re.Match[str]], Fix]:
    return lambda unit, found: Advice(text.format(unit=unit.name, **found.groupdict()))


def _buffer(unit: Unit, found: re.Match[str]) -> Fix:
    if found["size"] in _HTTP:
        return Advice(
            "use uwsgi in the front (nginx: include uwsgi_params; uwsgi_pass), or use HTTP in "
            f"uWSGI (http-socket = instead of socket =); then systemctl restart {unit.name}"
        )
    return Advice(
        "set buffer-size = 32768 in uWSGI's configuration, or --buffer-size=32768 in ExecStart= "
        f"of {unit.name}; then systemctl restart {unit.name}"
    )


_WORKERS = ("-w", "--workers")


def _one_worker(unit: Unit, found: re.Match[str]) -> Fix | None:
    """Return the fix for sessions in the memory of one process, where several serve."""
    given = [value for it, value in options(common.words(unit)) if it in _WORKERS]
    if common.server(unit) == "uwsgi":
        given = uwsgi_options.values(unit, "processes", "workers")
    elif not given:
        given = [variables.value(unit, "WEB_CONCURRENCY")]
    if not given or given[-1] in ("", "1"):
        return None
    return Advice(
        f"set one worker process (--workers 1) in {unit.name}, with threads or an asynchronous "
        "worker class for more clients; or run several services, each with one worker process and "
        "with a message queue, behind a front that sends each client to the same one (nginx: "
        "ip_hash)"
    )


ROWS: tuple[Row, ...] = (
    Row(
        re.compile(r"Invalid session (?P<session>\S+) \(further occurrences of this error"),
        "Socket.IO keeps a session in the memory of one worker process, and another one got the "
        "request: it answers 400",
        _one_worker,
    ),
    Row(
        re.compile(r"invalid request block size: (?P<size>\d+) \(max (?P<most>\d+)\)"),
        "uWSGI accepts at most {most} bytes of request header, but got {size}: it sends no "
        "response, and the front answers 502",
        _buffer,
    ),
    Row(
        re.compile(r"uWSGI listen queue of socket .* full !!! \((?P<now>\d+)/(?P<most>\d+)\)"),
        "{now} connections were waiting in a backlog of {most}: fronts answered 502",
        _advice("use more processes or threads, or set listen = 1024 in the uWSGI configuration "
                "of {unit}"),
    ),
    Row(
        re.compile(r"\[CRITICAL\] WORKER TIMEOUT \(pid:"),
        "gunicorn killed a worker whose request took longer than --timeout (30 s by default): "
        "its client got 500 or 502",
        _advice("find out what the request waits for, or set a longer --timeout in ExecStart= of "
                "{unit}"),
    ),
    Row(
        re.compile(r"was sent SIGKILL! Perhaps out of memory\?"),
        "a gunicorn worker was killed, perhaps by the kernel because memory ran out",
        _advice("see in journalctl -k whether memory ran out; if so, use fewer workers or more "
                "memory"),
    ),
    Row(
        re.compile(r"Invalid request from ip=\S*: (?P<what>(?:Request Line|Error: limit).*)"),
        "gunicorn refuses requests: {what}",
        _advice("set --limit-request-line or --limit-request-field_size in ExecStart= of {unit}"),
    ),
)  # fmt: skip


def turned_away(case: Case) -> Iterator[Hit]:
    for service in _running(case):
        lines = case.running.said(service.name)
        for row in ROWS:
            hits = [it for it in map(row.pattern.search, lines) if it]
            fix = row.fix(service, hits[-1]) if hits else None
            if fix:
                times = common.times(len(hits))
                last = hits[-1]
                yield Hit(
                    service.name,
                    f"{row.means.format(**last.groupdict())} ({times} in the last hour)",
                    fix,
                )


# -- a server without its application --------------------------------------------------------------

_NO_APPLICATION = re.compile(r"\*\*\* no app loaded\. going in full dynamic mode \*\*\*")
# gunicorn's exit codes for a worker that could not start or not load the application. Then gunicorn
# exits as soon as its other workers have
_ENDING = re.compile(
    r"\[ERROR\] (?:Shutting down: Master|Worker \(pid:\d+\) exited with code [34])"
)
_ENDED = re.compile(r"\[ERROR\] Worker \(pid:\d+\) exited with code (?P<code>\d+)")
_OFTEN = 3  # workers that end in the last hour
_NOT_STARTED = re.compile(r"\[emperor-tyrant\] invalid permissions for vassal (?P<vassal>\S+)")
_CURSED = re.compile(r"\[emperor\] curse the uwsgi instance (?P<vassal>\S+)")


def without_application(case: Case) -> Iterator[Hit]:
    for service in _running(case):
        lines = case.running.said(service.name)
        if any(map(_NO_APPLICATION.search, lines)):
            yield _no_application(service, lines)
        if any(map(_ENDING.search, lines)):
            said = _reason(lines)
            yield Hit(
                service.name,
                "gunicorn is shutting down because none of its workers could load the "
                f"application: {said}",
                advice.fix(said, service)
                or Advice("correct what the log reports, then start the service again"),
            )
        elif len(ended := [it["code"] for it in map(_ENDED.search, lines) if it]) >= _OFTEN:
            said = _reason(it for it in lines if not _ENDED.search(it))
            yield Hit(
                service.name,
                f"gunicorn's workers end by themselves, with exit code {ended[-1]} "
                f"({common.times(len(ended))} in the last hour), and requests are not answered"
                + (f"; the reason: {said}" if said else ""),
                advice.fix(said, service)
                or Advice("correct what the log reports, then restart the service"),
            )
        yield from _vassals(service, lines)


def _reason(lines: Iterable[str]) -> str:
    """Return the cause that a server has logged; "" for none."""
    why = cause([Line(it) for it in lines])
    return why.said if why else ""


def _no_application(service: Unit, lines: list[str]) -> Hit:
    said = _reason(it for it in lines if not _NO_APPLICATION.search(it))
    return Hit(
        service.name,
        "uWSGI is running but has loaded no application: it answers every request with 500"
        + (f"; the reason: {said}" if said else ""),
        advice.fix(said, service)
        or Advice(
            f"correct what the log reports, then systemctl restart {service.name}; with need-app = "
            "true the start fails instead"
        ),
    )


def _vassals(service: Unit, lines: list[str]) -> Iterator[Hit]:
    directory = uwsgi_options.emperor(service)
    for vassal in dict.fromkeys(it["vassal"] for it in map(_NOT_STARTED.search, lines) if it):
        path = posixpath.join(directory, vassal)
        user = uwsgi_options.values_of(path, "uid") if directory else []
        told = f"chown {path} to the user that its application should run as"
        yield Hit(
            service.name,
            "in tyrant mode uWSGI's emperor runs each vassal as the owner of the vassal's file, "
            f"and starts none whose file belongs to root: it does not start {path}",
            grant(("chown", f"{user[-1]}:"), path, told) if user else Advice(told),
            then=str(restart(service.name)),
        )
    for vassal in dict.fromkeys(it["vassal"] for it in map(_CURSED.search, lines) if it):
        why = cause([Line(it) for it in lines])
        said = f": {why.said}" if why and why.kind else ""
        yield Hit(
            service.name,
            f"uWSGI's emperor stops the vassal {vassal} again and again{said}",
            (advice.fix(why.said, service) if why else None)
            or Advice("correct what the vassal reports, then touch its file"),
        )


# -- why requests fail ----------------------------------------------------------------------------


def lacks(case: Case) -> Iterator[Hit]:
    for service in _running(case):
        found: dict[str, Fix] = {}
        for error in errors(case.running.said(service.name)):
            if not refusals.refusal(error, service) and (fix := advice.fix(error, service)):
                found[error] = fix
        for error, fix in found.items():
            yield Hit(service.name, f"requests have failed in the last hour: {error}", fix)


def _running(case: Case) -> Iterator[Unit]:
    for service in common.services(case.service):
        if "@." not in service.name and (
            case.running.property(service.name, "ActiveState") == "active"
        ):
            yield service
