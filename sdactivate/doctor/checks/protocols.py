"""Checks on the running system: the protocol that a front uses, and whether it reports HTTPS."""

import os
import posixpath
import re
from collections.abc import Iterator, Mapping

from sdactivate.backends import BACKENDS
from sdactivate.doctor import text_file, uwsgi_options
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.front_ways import Way, rest, ways
from sdactivate.doctor.checks.handling import options
from sdactivate.doctor.doors import concerning, own_sockets
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.host_state import HostState, InstalledFront
from sdactivate.front_upstreams import Spoken, Upstream, spoken
from sdactivate.systemd.unitfile import Unit

_WORDS = {
    "nginx": {"http": "proxy_pass http://", "uwsgi": "uwsgi_pass ", "fastcgi": "fastcgi_pass ",
              "scgi": "scgi_pass "},
    "apache": {"http": "http://", "uwsgi": "uwsgi://", "fastcgi": "fcgi://", "scgi": "scgi://"},
}  # fmt: skip
"""The text that precedes an address in each front's configuration, by protocol."""


def another_protocol(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        speaks = protocols(service)
        for upstream, unit in _upstreams(case) if speaks else ():
            for installed, said in _spoken(case.running, upstream):
                if said.protocol in speaks:
                    continue
                front, packaging = installed.front, installed.packaging
                right = _WORDS[front.name][speaks[0]]
                target = f"unix:{upstream.path}" if upstream.path else f"127.0.0.1:{upstream.port}"
                yield Hit(
                    packaging.unit,
                    f"{front.title} uses {said.protocol} for {upstream.name} ({said.word} in "
                    f"{said.file}, line {said.line}), but {common.server(service)} of "
                    f"{service.name} uses {' or '.join(speaks)} there",
                    Advice(
                        f"in {said.file}, line {said.line}, write {right}{target} and the other "
                        f"directives that this protocol needs, then systemctl {front.renew} "
                        f"{packaging.unit}"
                    ),
                    unit,
                    path=upstream.path,
                )


def protocols(service: Unit) -> tuple[str, ...]:
    """Return the protocols of a service's server; () if they are unknown, or if it knows all.

    Our server recognizes the protocol by a connection's first byte.
    """
    name = common.server(service)
    if not name or common.is_ours(service):
        return ()
    if name == "uwsgi":
        return uwsgi_options.protocols(service)
    if name == "gunicorn":
        words = [it for line in service.entries_of("ExecStart")
                 for it in options(common.command(line, service))]  # fmt: skip
        if any(option in ("-c", "--config") for option, _ in words):
            return ()  # the file may set another
        return ("uwsgi",) if ("--protocol", "uwsgi") in words else ("http",)
    return BACKENDS[name].protocols[:1]


def _upstreams(case: Case) -> Iterator[tuple[Upstream, str]]:
    """Yield each address of the deployment for a front, and the unit that listens there."""
    for unit, path in case.running.paths():
        yield Upstream("", 0, path), unit
    for own in own_sockets(case.running):
        if case.service:
            yield Upstream("", 0, own.path, own.port), case.service.name


def _spoken(host: HostState, upstream: Upstream) -> Iterator[tuple[InstalledFront, Spoken]]:
    for installed in host.fronts:
        if installed.front.name in _WORDS:
            for said in spoken(
                installed.front.name, concerning(host, installed, upstream), upstream
            ):
                yield installed, said


# -- HTTPS that is not reported to the application -------------------------------------------------

_ENDS_TLS: Mapping[str, re.Pattern[str]] = {
    "nginx": re.compile(r"^\s*listen\s[^;]*\bssl\b|^\s*ssl\s+on\s*;", re.MULTILINE),
    "apache": re.compile(r"^[ \t]*SSLEngine[ \t]+(?:on|optional)\b", re.MULTILINE | re.IGNORECASE),
    "haproxy": re.compile(r"^[ \t]*bind[ \t][^\n]*\bssl\b", re.MULTILINE),
}
_FIELDS = r"(?:X-Forwarded-(?:Proto\w*|Ssl)|X-Scheme|X-Url-Scheme|Forwarded)"
_TELLS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"^\s*{pattern}", re.MULTILINE | re.IGNORECASE)
    for name, pattern in {
        "nginx": rf"proxy_set_header\s+{_FIELDS}\s",
        "apache": rf"RequestHeader\s+(?:set|setifempty|add|append|merge)\s+[\"']?{_FIELDS}\b",
        "haproxy": rf"(?:http-request\s+(?:set|add)-header|reqadd|reqset)\s+{_FIELDS}\b",
    }.items()
}
_INCLUDE = re.compile(r"^\s*include\s+([^;]+);", re.MULTILINE)
_TOLD_BY = {
    "nginx": "add proxy_set_header X-Forwarded-Proto $scheme; in {file}, next to the other "
    "proxy_set_header lines",
    "apache": 'add RequestHeader set X-Forwarded-Proto "https" in the virtual host of {place} '
    "(module headers)",
    "haproxy": "add http-request set-header X-Forwarded-Proto https if {{ ssl_fc }} to the "
    "frontend of {place}",
}
"""How each front tells it. Caddy and lighttpd do so by themselves."""


def https_not_told(case: Case) -> Iterator[Hit]:
    told: set[tuple[str, str]] = set()
    for way in ways(case):
        if way.protocol != "http" or (way.file, way.text) in told:
            continue
        if ends_tls(way) and not tells_https(case, way):
            told.add((way.file, way.text))
            yield _untold(way)


def ends_tls(way: Way) -> bool:
    """Whether the part of a front around a way terminates HTTPS."""
    pattern = _ENDS_TLS.get(way.front)
    return pattern is not None and pattern.search(way.text) is not None


def tells_https(case: Case, way: Way) -> bool:
    """Whether a front tells the application that the client uses HTTPS."""
    pattern = _TELLS.get(way.front)
    if pattern is None:
        return True
    text = way.text
    if way.front == "nginx":
        text = _with_includes(text, posixpath.dirname(way.installed.packaging.main))
    return bool(pattern.search(text) or pattern.search(rest(case, way.installed)))


def _untold(way: Way) -> Hit:
    return Hit(
        way.installed.packaging.unit,
        f"{way.installed.front.title} terminates HTTPS for {way.place}, but does not tell the "
        "application. The application then builds http:// addresses and refuses forms from "
        "https:// pages (Django: Origin checking failed). If it redirects to HTTPS (Django: "
        "SECURE_SSL_REDIRECT), it redirects for ever",
        Advice(
            f"{_TOLD_BY[way.front].format(file=way.file, place=way.place)}, then {way.renewed}; "
            "make the application trust it (Django: SECURE_PROXY_SSL_HEADER)"
        ),
        way.unit,
    )


def _with_includes(text: str, top: str) -> str:
    """Return the text of a server of nginx, with the files that it includes (proxy_params)."""
    parts = [text]
    for named in _INCLUDE.findall(text):
        path = os.path.join(top, named.strip("\"' "))
        if held := text_file.read(path, 1 << 16):
            parts.append(held)
    return "\n".join(parts)
