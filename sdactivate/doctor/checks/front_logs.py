"""Checks on the running system: requests and responses that a front gives up on, by its log.

`front_requests` has nginx's rows, which need its configuration by scope. Here are those of the
other fronts. Measured: Apache 2.4.62, HAProxy 2.6, lighttpd 1.4.69, Caddy 2.6.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from sdactivate.doctor.checks import common, front_requests
from sdactivate.doctor.checks.front_requests import logged_since_change
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.doors import asked
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.host_state import InstalledFront


class Row(NamedTuple):
    """What a front logs, its meaning, what its client gets, and what fixes it.

    The pattern's group `at` is the address of the server; `name` is HAProxy's BACKEND/SERVER. A
    pattern without them counts only if the front passes requests to nothing else.
    """

    front: str
    pattern: re.Pattern[str]
    means: str
    status: int
    fix: str


_LONG = "find out what the request waits for, or "
_SERVER = " (and a server timeout that is as long; gunicorn: --timeout)"
GIVEN_UP: tuple[Row, ...] = (
    Row(
        "apache",
        re.compile(r"\(70007\).*AH01102: error reading status line from remote server (?P<at>\S+)"),
        "a response took longer than it waits (timeout= of ProxyPass, ProxyTimeout, Timeout)",
        502,
        f"{_LONG}set a longer ProxyTimeout in the virtual host of {{place}}{_SERVER}",
    ),
    Row(
        "apache",
        re.compile(r"AH10124: header size is over the limit allowed by ResponseFieldSize"),
        "a field of a response's header, usually a cookie, was longer than ResponseFieldSize",
        502,
        "set ResponseFieldSize 65536 in the virtual host of {place}",
    ),
    Row(
        "haproxy",
        re.compile(r" (?P<name>\S+/\S+) [-\d/+]+ 504 .* sH-- "),
        "a response took longer than it waits (timeout server)",
        504,
        f"{_LONG}set a longer timeout server in the sections of {{place}}{_SERVER}",
    ),
    Row(
        "haproxy",
        re.compile(r" (?P<name>\S+/\S+) [-\d/+]+ 502 .* PH-- "),
        "a response's header was invalid, or larger than its buffer (usually because of cookies)",
        502,
        "set tune.bufsize 65536 in the section global",
    ),
    Row(
        "lighttpd",
        re.compile(r"read timeout on socket: (?:tcp:(?P<at>\S+)|unix:(?P<path>\S+))"),
        'a response took longer than it waits ("read-timeout")',
        504,
        f'{_LONG}set a longer "read-timeout" in the server at {{place}}{_SERVER}',
    ),
    Row(
        "lighttpd",
        re.compile(r"response headers too large for "),
        "a response's header, usually because of its cookies, was larger than 64 KiB",
        502,
        "have the application send fewer or smaller cookies: lighttpd's limit is fixed",
    ),
    Row(
        "caddy",
        re.compile(r'"msg":"(?:net/http: )?timeout awaiting response headers"'),
        "a response took longer than it waits (response_header_timeout)",
        504,
        f"{_LONG}set a longer response_header_timeout in the transport at {{place}}{_SERVER}",
    ),
)
REFUSED: tuple[Row, ...] = (
    Row(
        "lighttpd",
        re.compile(r"request-size too long: (?P<bytes>\d+) -> 413"),
        "server.max-request-size",
        413,
        "set server.max-request-size = {kilobytes} in {file} (in KiB)",
    ),
    Row(
        "caddy",
        re.compile(r'HTTP 413: http: request body too large".*?"Content-Length":\["(?P<bytes>\d+)'),
        "max_size of request_body",
        413,
        "set max_size {megabytes}MB in request_body of {file}",
    ),
)


def answer_given_up(case: Case) -> Iterator[Hit]:
    """Responses that a front did not wait for, or whose header it had no room for."""
    yield from front_requests.answer_given_up(case)
    for way, row, hits in _logged(case, GIVEN_UP):
        title = way.installed.front.title
        times = common.times(len(hits))
        yield Hit(
            way.installed.packaging.unit,
            f"{title} has given up on a response {times} in the last hour, and the client got "
            f"{row.status}: {row.means}",
            Advice(row.fix.format(place=way.place, file=way.file)),
            way.unit,
            then=way.renewed,
        )


def body_refused(case: Case) -> Iterator[Hit]:
    """Requests whose bodies are longer than a front allows."""
    yield from front_requests.body_refused(case)
    for way, row, hits in _logged(case, REFUSED):
        title = way.installed.front.title
        longest = max(int(it["bytes"]) for it in hits)
        megabytes = max(2 * longest >> 20, 10)
        fix = row.fix.format(file=way.file, kilobytes=megabytes << 10, megabytes=megabytes)
        yield Hit(
            way.installed.packaging.unit,
            f"{title} refused a request body {common.times(len(hits))} in the last hour: the "
            f"longest had {longest} bytes, more than {row.means} allows",
            Advice(fix),
            way.unit,
            then=way.renewed,
        )


def _logged(case: Case, rows: tuple[Row, ...]) -> Iterator[tuple[Way, Row, list[re.Match[str]]]]:
    told: set[tuple[str, str]] = set()
    for way in ways(case):
        for row in (it for it in rows if it.front == way.front):
            key = (way.installed.packaging.unit, row.means)
            if key in told:
                continue
            hits = [it for it in _found(case, way.installed, row) if _is_of(case, way, it)]
            if hits:
                told.add(key)
                yield way, row, hits


def _found(case: Case, installed: InstalledFront, row: Row) -> list[re.Match[str]]:
    def look() -> list[re.Match[str]]:
        lines = logged_since_change(case, installed)
        return [it for it in map(row.pattern.search, lines) if it]

    return case.running.machine.once((row.means, installed.packaging.unit), look)


def _is_of(case: Case, way: Way, found: re.Match[str]) -> bool:
    """Whether a line of a front's log is about the deployment."""
    said = found.groupdict()
    if said.get("name"):
        return bool(said["name"] == way.upstream.server)
    if said.get("path"):
        return bool(said["path"] == way.upstream.path)
    if said.get("at") and way.upstream.port:
        return bool(said["at"].endswith(f":{way.upstream.port}"))
    others = {(it.path, it.port) for it in asked(case.running, way.installed)}
    return len(others) == 1
