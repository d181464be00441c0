"""The parts of every front's configuration that pass requests to a deployment.

Rules that need nginx's values by scope use `front_requests.Passing`. A `Way` has only texts, and
there are ways of all fronts: nginx's servers, Apache's virtual hosts, Caddy's sites, lighttpd's
files, and HAProxy's backends with the frontends that use them.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from sdactivate.doctor.checks.live_fronts import at_fronts
from sdactivate.doctor.doors import asked, concerning, texts
from sdactivate.doctor.finding import Case
from sdactivate.doctor.host_state import InstalledFront
from sdactivate.front_upstreams import (
    Upstream,
    bare,
    by_apache,
    by_nginx,
    groups,
    haproxy_sections,
    upstreams,
)


class Way(NamedTuple):
    """A place where a front passes requests to the deployment."""

    installed: InstalledFront
    unit: str
    """The deployment's unit that listens there."""
    upstream: Upstream
    protocol: str
    """http, uwsgi, fastcgi or scgi; "" where the configuration does not say it."""
    file: str
    line: int
    word: str
    """The directive or scheme that passes requests on: proxy_pass, http://, reverse_proxy."""
    text: str
    """The server around it (nginx, Apache, Caddy), its file (lighttpd), or its backend with the
    frontends and defaults (HAProxy), without comments."""
    first: int
    """The line with which that text begins; 0 for HAProxy's, which is put together."""
    names: tuple[str, ...] = ()
    """The host names that the server answers for, if it has any."""

    @property
    def place(self) -> str:
        """The file and the line, for people."""
        return f"{self.file}, line {self.line}"

    @property
    def front(self) -> str:
        """The front's name, as in `fronts.FRONTS`."""
        return self.installed.front.name

    @property
    def renewed(self) -> str:
        """The command with which a change takes effect."""
        return f"systemctl {self.installed.front.renew} {self.installed.packaging.unit}"


def ways(case: Case) -> list[Way]:
    """Return the ways from all fronts to a deployment."""
    return case.running.machine.once(("ways", case.deployment.name), lambda: list(_look(case)))


def rest(case: Case, installed: InstalledFront) -> str:
    """Return a front's configuration without its servers: what holds for all of them."""

    def look() -> str:
        configuration = case.running.machine.configuration(installed)
        found = "\n".join(texts(case.running, installed).values())
        for server in configuration.servers:
            found = found.replace(server.text, "")
        return bare(found)

    return case.running.machine.once(("rest", installed.packaging.unit), look)


def _look(case: Case) -> Iterator[Way]:
    for installed, unit, upstream, servers in at_fronts(case):
        front = installed.front.name
        if front == "lighttpd":
            yield from _lighttpd(case, installed, unit, upstream)
        elif front == "haproxy":
            yield from _haproxy(case, installed, unit, upstream)
        for server in sorted(servers, key=lambda it: (it.file, it.line)):
            text = bare(server.text)
            if front == "nginx":
                named = groups(concerning(case.running, installed, upstream), upstream)
                hits = list(by_nginx(text, named, upstream))
            elif front == "apache":
                hits = list(by_apache(text, upstream))
            else:
                hits = list(_by_caddy(text, upstream))
            for start, protocol, word in hits:
                line = server.line + text.count("\n", 0, start)
                at = (server.file, line, word, text, server.line, server.names)
                yield Way(installed, unit, upstream, protocol, *at)


_CADDY = re.compile(r"^[ \t]*(?P<word>reverse_proxy|php_fastcgi)\b[^\n]*", re.MULTILINE)


def _by_caddy(text: str, upstream: Upstream) -> Iterator[tuple[int, str, str]]:
    same = (upstream.path, upstream.port)
    for hit in _CADDY.finditer(text):
        if any((it.path, it.port) == same for it in upstreams("caddy", {"": hit[0]})):
            yield hit.start("word"), "http", hit["word"]


_LIGHTTPD = re.compile(r"\b(?P<word>(?P<how>proxy|fastcgi|scgi|uwsgi)\.server)\s*\+?=")
_LIGHTTPD_SPEAKS = {"proxy": "http", "fastcgi": "fastcgi", "scgi": "scgi", "uwsgi": "uwsgi"}


def _lighttpd(
    case: Case, installed: InstalledFront, unit: str, upstream: Upstream
) -> Iterator[Way]:
    same = (upstream.path, upstream.port)
    for file, text in concerning(case.running, installed, upstream).items():
        plain = bare(text)
        hits = list(_LIGHTTPD.finditer(plain))
        for place, hit in enumerate(hits):
            end = hits[place + 1].start() if hits[place + 1 :] else len(plain)
            part = plain[hit.start() : end]
            if any((it.path, it.port) == same for it in upstreams("lighttpd", {"": part})):
                line = plain.count("\n", 0, hit.start()) + 1
                at = (file, line, hit["word"], plain, 1)
                yield Way(installed, unit, upstream, _LIGHTTPD_SPEAKS[hit["how"]], *at)


_TCP = re.compile(r"^[ \t]*mode[ \t]+tcp\b", re.MULTILINE)
_USES = re.compile(r"^[ \t]*(?:default_backend|use_backend)[ \t]+(\S+)", re.MULTILINE)


def _haproxy(case: Case, installed: InstalledFront, unit: str, upstream: Upstream) -> Iterator[Way]:
    files = texts(case.running, installed)
    path = f"{installed.packaging.chroot}{upstream.path}" if upstream.path else ""
    sections = case.running.machine.once("sections", lambda: haproxy_sections(files))
    defaults = [it.text for it in sections if it.kind == "defaults"]
    for found in asked(case.running, installed):
        if (found.path, found.port) != (path, upstream.port):
            continue
        name = found.server.partition("/")[0]
        own = [it for it in sections if it.kind in ("backend", "listen") and it.name == name]
        before = [
            it.text for it in sections if it.kind == "frontend" and name in _USES.findall(it.text)
        ]
        text = "\n".join([*defaults, *before, *(it.text for it in own)])
        protocol = "" if any(_TCP.search(it.text) for it in own) else "http"
        yield Way(
            installed, unit, found, protocol, found.file, found.line, "server", bare(text), 0
        )  # fmt: skip
