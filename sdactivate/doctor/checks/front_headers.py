"""Checks on the running system: header fields and events that a front does not pass on at once."""

import re
from collections.abc import Iterator, Mapping

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.front_requests import (
    MODULES,
    Passing,
    application,
    logged_since_change,
    passings,
)
from sdactivate.doctor.checks.front_ways import rest, ways
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.host_state import InstalledFront
from sdactivate.front_config import Server
from sdactivate.systemd.unitfile import Unit

_INVALID = re.compile(r'client sent invalid header line: "(?P<name>\w*_\w*):')
_READS = re.compile(
    r"""(?:\bheaders\b[^\n]{0,40}?|\bAPIKeyHeader\(\s*(?:name\s*=\s*)?)
        (?<!\w)b?["'](?P<name>[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+)["']""",
    re.VERBOSE,
)


def underscores_dropped(case: Case) -> Iterator[Hit]:
    """Fields with an underscore in their name, which nginx drops unless it is told not to."""
    told: set[Server] = set()
    for passing in passings(case):
        if passing.server in told or passing.value("underscores_in_headers") == "on":
            continue
        told.add(passing.server)
        logged = _dropped(case, passing.installed)
        read = _read(case, case.service) if case.service else None
        if logged:
            because = f"{logged[-1]} was dropped ({common.times(len(logged))} in the last hour)"
        elif read:
            because = f"the application reads {read[0]} ({read[1]})"
        else:
            continue
        yield Hit(
            passing.installed.packaging.unit,
            f"nginx drops header fields whose name has an underscore ({passing.place}), and logs "
            f"that only at the level info: {because}",
            Advice(
                f"set underscores_in_headers on; in the server of {passing.server.file}, line "
                f"{passing.server.line} (if several servers listen there: in the default one), or "
                "use a name with hyphens"
            ),
            passing.unit,
            then=passing.then,
        )


def _dropped(case: Case, installed: InstalledFront) -> list[str]:
    def look() -> list[str]:
        lines = logged_since_change(case, installed)
        return [it["name"] for it in map(_INVALID.search, lines) if it]

    return case.running.machine.once(("dropped", installed.packaging.unit), look)


def _read(case: Case, service: Unit) -> tuple[str, str] | None:
    """The name of a field with an underscore that a site's module reads, and the place."""
    module = application(case, service)
    found = _READS.search(module[1]) if module else None
    if module is None or found is None:
        return None
    line = module[1].count("\n", 0, found.start("name")) + 1
    return found["name"], f"{module[0]}, line {line}"


# -- fields that a front sends twice, or removes ---------------------------------------------------


def sent_twice(case: Case) -> Iterator[Hit]:
    """Fields that nginx is told to set twice: it sends both lines."""
    told: set[tuple[str, int]] = set()
    for passing in passings(case):
        names: dict[str, str] = {}
        for name, value in passing.fields:
            if not value:  # not sent at all
                continue
            if name.lower() not in names:
                names[name.lower()] = name
                continue
            place = (passing.server.file, passing.server.line)
            if place in told:
                continue
            told.add(place)
            yield Hit(
                passing.installed.packaging.unit,
                f"nginx sets {name} twice for the requests that it passes on at {passing.place}, "
                "and sends both lines: of a second Host servers may answer 400, of other fields "
                "the application sees one, or both joined",
                Advice(f"remove one of the two proxy_set_header {name} lines"),
                passing.unit,
                then=passing.then,
            )


_REMOVES: Mapping[str, re.Pattern[str]] = {
    "apache": re.compile(r"^[ \t]*RequestHeader[ \t]+unset[ \t]+\"?(?P<name>[\w-]+)", re.M | re.I),
    "caddy": re.compile(r"^[ \t]*header_up[ \t]+-(?P<name>[\w-]+)", re.M),
    "haproxy": re.compile(r"^[ \t]*http-request[ \t]+del-header[ \t]+(?P<name>[\w-]+)", re.M),
}
_NOT_TO_PASS_ON = re.compile(
    r"user|auth-|group|role|email|cert|ssl|verify|client|remote|real|forwarded|original|proxy|"
    r"^(?:accept-encoding|connection|expect|host|keep-alive|te|upgrade)$",
    re.IGNORECASE,
)
"""Fields that a front has reason to remove, because it says itself who the client is."""
_ASKS_FOR_LOGIN = re.compile(
    r"AuthType|auth_basic|auth_request|basic_?auth|http-request auth", re.I
)


def removed(case: Case) -> Iterator[Hit]:
    """Fields that a front removes from requests, though the application's module reads them."""
    module = application(case, case.service) if case.service else None
    if module is None:
        return
    told: set[tuple[str, str]] = set()
    for way in ways(case):
        pattern = _REMOVES.get(way.front)
        names = [it["name"] for it in pattern.finditer(way.text)] if pattern else []
        if way.front == "nginx":
            names = [
                name
                for it in passings(case)
                if (it.server.file, it.line) == (way.file, way.line)
                for name, value in it.fields
                if not value
            ]
        for name in names:
            read = re.search(_reading(name), module[1], re.IGNORECASE | re.MULTILINE)
            key = (way.file, name.lower())
            sets = re.search(rf"\b(?:set|add|header_up|set-header)\s+\"?{name}\b", way.text, re.I)
            if read is None or sets or _NOT_TO_PASS_ON.search(name) or key in told:
                continue
            if name.lower() == "authorization" and _ASKS_FOR_LOGIN.search(way.text):
                continue
            told.add(key)
            line = module[1].count("\n", 0, read.start()) + 1
            yield Hit(
                way.installed.packaging.unit,
                f"{way.installed.front.title} removes {name} from the requests that it passes on "
                f"at {way.place}, but the application reads it ({module[0]}, line {line})",
                Advice(f"remove the line that removes {name} in {way.file}"),
                way.unit,
                then=way.renewed,
            )


def _reading(name: str) -> str:
    """Return a regular expression for code that reads a field: its name in quotes, no comment."""
    spelt = re.sub("[-_]", "[-_]", name)
    return rf"^[^#\n]*[\"'](?:HTTP_)?{spelt}[\"']"


# -- events ----------------------------------------------------------------------------------------

_EVENTS = re.compile(r"text/event-stream|\bflask_sse\b")
"""What sends events without X-Accel-Buffering: sse-starlette and django-eventstream send it."""
_UNBUFFERED = re.compile(r"x-accel-buffering", re.IGNORECASE)
_STREAMS = re.compile(r"^[ \t]*server\.stream-response-body\s*=\s*[12]\b", re.MULTILINE)


def events_held_back(case: Case) -> Iterator[Hit]:
    """An application that sends events, behind a front that collects its responses."""
    for service in common.services(case.service):
        module = application(case, service)
        found = _EVENTS.search(module[1]) if module else None
        if module is None or found is None or _UNBUFFERED.search(module[1]):
            continue
        line = module[1].count("\n", 0, found.start()) + 1
        sends = f"but the application sends events ({module[0]}, line {line}): they do not arrive"
        held = passings(case)
        if held and all(_collects(it) for it in held):
            first = held[0]
            setting = f"{MODULES[first.protocol]}_buffering"
            yield Hit(
                first.installed.packaging.unit,
                f"nginx collects responses before it passes them on ({first.place}), {sends} until "
                "4 or 8 KiB are full or the response ends",
                Advice(
                    f"add {setting} off; at {first.place} (if the site has other pages too, in a "
                    "location for the events' path), or have the application send the header "
                    "X-Accel-Buffering: no"
                ),
                first.unit,
                then=first.then,
            )
        for way in ways(case):
            text = f"{way.text}\n{rest(case, way.installed)}"
            if way.front == "lighttpd" and not _STREAMS.search(text):
                yield Hit(
                    way.installed.packaging.unit,
                    f"lighttpd collects responses before it passes them on ({way.place}), {sends} "
                    "until the response ends",
                    Advice(f"set server.stream-response-body = 2 in {way.file}"),
                    way.unit,
                    then=way.renewed,
                )
                break


def _collects(it: Passing) -> bool:
    return it.value(f"{MODULES[it.protocol]}_buffering") != "off"
