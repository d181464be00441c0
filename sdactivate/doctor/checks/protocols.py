"""Checks on the running system: the protocol that a front uses, and whether it reports HTTPS."""

import os
import posixpath
import re
from collections.abc import Iterator

from sdactivate.backends import BACKENDS
from sdactivate.doctor import uwsgi_options
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.handling import options
from sdactivate.doctor.checks.live_fronts import own_servers
from sdactivate.doctor.doors import concerning, own_sockets
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.host_state import HostState, InstalledFront, Machine
from sdactivate.front_config import Server
from sdactivate.front_upstreams import Spoken, Upstream, by_nginx, groups, spoken
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

_ENDS_TLS = re.compile(r"^\s*listen\s[^;]*\bssl\b|^\s*ssl\s+on\s*;", re.MULTILINE)
_TELLS = re.compile(
    r"^\s*proxy_set_header\s+(?:X-Forwarded-(?:Proto\w*|Ssl)|X-Scheme|X-Url-Scheme|Forwarded)\s",
    re.MULTILINE | re.IGNORECASE,
)
_INCLUDE = re.compile(r"^\s*include\s+([^;]+);", re.MULTILINE)


def https_not_told(case: Case) -> Iterator[Hit]:
    told = set()
    for installed, server, unit, upstream in own_servers(case):
        if installed.front.name != "nginx" or server in told:
            continue
        top = posixpath.dirname(installed.packaging.main)
        if (
            _ENDS_TLS.search(server.text)
            and _speaks_http(case.running, installed, server, upstream)
            and not _is_told_to_all(case.running.machine, installed)
            and not _TELLS.search(_with_includes(server, top))
        ):
            told.add(server)
            yield _untold(installed, server, unit)


def _is_told_to_all(machine: Machine, installed: InstalledFront) -> bool:
    """Return whether nginx reports it for all servers, by a line outside of them."""

    def look() -> bool:
        configuration = machine.configuration(installed)
        rest = "\n".join(configuration.files.values())
        for server in configuration.servers:
            rest = rest.replace(server.text, "")
        return _TELLS.search(rest) is not None

    return machine.once(("tells all", installed.packaging.unit), look)


def _speaks_http(
    host: HostState, installed: InstalledFront, server: Server, upstream: Upstream
) -> bool:
    """Whether a server of nginx's passes requests on to `upstream` over HTTP."""
    named = groups(concerning(host, installed, upstream), upstream)
    return any(word == "http" for _, word, _ in by_nginx(server.text, named, upstream))


def _untold(installed: InstalledFront, server: Server, unit: str) -> Hit:
    front, packaging = installed.front, installed.packaging
    return Hit(
        packaging.unit,
        f"{front.title}'s server in {server.file}, line {server.line}, terminates HTTPS but does "
        "not tell the application. The application then builds http:// addresses and refuses "
        "forms from https:// pages (Django: Origin checking failed). If it redirects to HTTPS "
        "(Django: SECURE_SSL_REDIRECT), it redirects for ever",
        Advice(
            f"add proxy_set_header X-Forwarded-Proto $scheme; in {server.file}, next to the other "
            f"proxy_set_header lines, then systemctl {front.renew} {packaging.unit}; make the "
            "application trust it (Django: SECURE_PROXY_SSL_HEADER)"
        ),
        unit,
    )


def _with_includes(server: Server, top: str) -> str:
    """Return the text of a server, with the files that it includes (proxy_params)."""
    parts = [server.text]
    for named in _INCLUDE.findall(server.text):
        path = os.path.join(top, named.strip("\"' "))
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                parts.append(file.read(1 << 16).decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(parts)
