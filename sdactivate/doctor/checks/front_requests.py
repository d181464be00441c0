"""Checks on the running system: what a front refuses by itself, and the host name it passes on."""

import contextlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import NamedTuple

from sdactivate import front_scopes
from sdactivate.doctor import django_settings, text_file
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.front_ways import Way, rest, ways
from sdactivate.doctor.checks.live_fronts import own_servers
from sdactivate.doctor.doors import concerning, texts
from sdactivate.doctor.finding import Advice, Case, Hit, restart
from sdactivate.doctor.host_state import InstalledFront
from sdactivate.front_config import Server
from sdactivate.front_scopes import Block
from sdactivate.front_upstreams import Upstream, bare, by_nginx, groups
from sdactivate.systemd.unitfile import Unit

_MOST = 1 << 16  # bytes of an included file
_NO_PREFIX = ("=", "~", "~*")


class Passing(NamedTuple):
    """A place where nginx passes requests to the deployment, and the blocks around it."""

    installed: InstalledFront
    server: Server
    unit: str
    upstream: Upstream
    protocol: str
    start: int
    target: str
    look: Callable[[], list[Block]]

    @property
    def blocks(self) -> list[Block]:
        """The blocks around it, the outermost first."""
        return self.look()

    @property
    def place(self) -> str:
        """The file and the line, for people."""
        return f"{self.server.file}, line {self.line}"

    @property
    def prefix(self) -> str:
        """The prefix of paths that its location is for; "" if that is no location of a prefix."""
        words = self.blocks[-1].words
        is_prefix = words[:1] == ("location",) and len(words) > 1 and words[1] not in _NO_PREFIX
        return words[-1] if is_prefix and not words[-1].startswith("@") else ""

    @property
    def line(self) -> int:
        """The line of the directive that passes requests on."""
        return self.server.line + self.server.text.count("\n", 0, self.start)

    def value(self, setting: str) -> str:
        """Return the value that nginx's `setting` has there; "" if it has its default."""
        held = front_scopes.innermost(self.blocks, setting)
        return held[-1].words[1] if held and len(held[-1].words) > 1 else ""

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields that are set in requests over HTTP: names as written, and values."""
        setting = "proxy_set_header"
        held = front_scopes.innermost(self.blocks, setting) if self.protocol == "http" else []
        return [(it.words[1], it.words[2]) for it in held if len(it.words) > 2]

    @property
    def then(self) -> str:
        """The command that applies a change."""
        return f"systemctl {self.installed.front.renew} {self.installed.packaging.unit}"


def passings(case: Case) -> list[Passing]:
    """Return the places where nginx passes requests to a deployment."""
    return case.running.machine.once(
        ("passing", case.deployment.name), lambda: list(_look_for_passing(case))
    )


def _look_for_passing(case: Case) -> Iterator[Passing]:
    for installed, server, unit, upstream in own_servers(case):
        if installed.front.name != "nginx":
            continue
        top = posixpath.dirname(installed.packaging.main)
        text = bare(server.text)
        named = groups(concerning(case.running, installed, upstream), upstream)
        for start, protocol, word in by_nginx(text, named, upstream):
            target = text[start + len(word) :].partition(";")[0].strip().strip("\"'")
            look = cache(partial(_blocks, case, installed, text, start, top))
            yield Passing(installed, server, unit, upstream, protocol, start, target, look)


def _blocks(case: Case, installed: InstalledFront, text: str, start: int, top: str) -> list[Block]:
    return [_everywhere(case, installed), *front_scopes.at(text, start, partial(_included, top))]


def _included(top: str, name: str) -> str:
    """Return the text of an included file such as proxy_params; "" for a pattern."""
    return text_file.read(os.path.join(top, name), _MOST) or ""


def _everywhere(case: Case, installed: InstalledFront) -> Block:
    """Return the directives outside of nginx's servers, which apply to all of them."""
    machine = case.running.machine

    def look() -> Block:
        configuration = machine.configuration(installed)
        found = Block((), [])
        for file, text in configuration.files.items():
            for server in configuration.servers:
                text = text.replace(server.text, "") if server.file == file else text
            # In the main file they are in http {}; in included files, outside of any block
            inside = text.find("http {")
            for block in front_scopes.at(text, inside + 6 if inside >= 0 else 0):
                found.directives.extend(block.directives)
        return found

    return machine.once(("everywhere", installed.packaging.unit), look)


# -- bodies that are too long ----------------------------------------------------------------------

_TOO_LONG = re.compile(
    r"client intended to send too large body: (?P<bytes>\d+) bytes.*?, server: (?P<server>[^,]*)"
)
_NAMES = re.compile(r"^\s*server_name\s+[\"']?([^\s;\"']*)", re.MULTILINE)
_SIZE = re.compile(r"(\d+)([kKmMgG]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_USUAL = "1m"


def body_refused(case: Case) -> Iterator[Hit]:
    """Requests that nginx answered with 413, because their bodies are longer than it allows."""
    told: set[Server] = set()
    for passing in passings(case):
        installed, server = passing.installed, passing.server
        if server in told:
            continue
        lines = _too_long(case, installed)
        name = (_NAMES.search(server.text) or ("", ""))[1]
        hits = [it for it in lines if it["server"] == name]
        if not hits:
            continue
        longest = max(int(it["bytes"]) for it in hits)
        set_to = passing.value("client_max_body_size")
        limit = set_to or _USUAL
        if longest <= _bytes(limit):
            continue
        told.add(server)
        times = common.times(len(hits))
        says = f"client_max_body_size is {limit}" + ("" if set_to else " (the default)")
        yield Hit(
            installed.packaging.unit,
            f"{installed.front.title} refused a request body {times} in the last hour, with 413: "
            f"the longest had {longest} bytes, and {says}",
            Advice(
                f"set `client_max_body_size {_enough(longest)};` in the server of {server.file}, "
                f"line {server.line}" + (" (change the line that is there)" if set_to else "")
            ),
            passing.unit,
            then=passing.then,
        )


def _too_long(case: Case, installed: InstalledFront) -> list[re.Match[str]]:
    host = case.running

    def look() -> list[re.Match[str]]:
        lines = host.front_log(installed, host.since(installed.packaging.unit))
        return [it for it in map(_TOO_LONG.search, lines) if it]

    return host.machine.once(("too long", installed.packaging.unit), look)


def _bytes(size: str) -> float:
    found = _SIZE.fullmatch(size)
    number = int(found[1]) * _UNITS[found[2].lower()] if found else 0
    return number or float("inf")  # 0: no limit


def _enough(length: int) -> str:
    """Return a limit for nginx: twice the length of that body, at least 10 megabytes."""
    megabytes = max(2 * length >> 20, 10)
    return f"{megabytes}m"


# -- answers that the front gives up on -----------------------------------------------------------


class GivenUp(NamedTuple):
    """What nginx logs when it gives up on a response, what its client gets, and what fixes it."""

    words: str
    means: str
    status: int
    setting: str
    usual: str
    fix: str


GIVEN_UP: tuple[GivenUp, ...] = (
    GivenUp(
        "upstream sent too big header while reading response header from upstream",
        "the header of a response, usually because of its cookies, was larger than the buffer",
        502,
        "proxy_buffer_size",
        "4k or 8k",
        "set proxy_buffer_size 128k; and proxy_buffers 4 256k;",
    ),
    GivenUp(
        "upstream timed out (110: Connection timed out) while reading response header from "
        "upstream",
        "a response took longer than nginx waits",
        504,
        "proxy_read_timeout",
        "60s",
        "find out what the request waits for, or set a longer proxy_read_timeout (and a server "
        "timeout that is as long; gunicorn: --timeout)",
    ),
)


def answer_given_up(case: Case) -> Iterator[Hit]:
    """Responses that nginx did not wait for, or whose header did not fit its buffer."""
    told: set[tuple[Server, str]] = set()
    for passing in passings(case):
        lines = _given_up(case, passing.installed)
        for row in GIVEN_UP:
            hits = [it for it in lines if row.words in it and _is_of(passing, it)]
            if not hits or (passing.server, row.words) in told:
                continue
            told.add((passing.server, row.words))
            setting = row.setting.replace("proxy_", f"{MODULES[passing.protocol]}_")
            now = passing.value(setting) or row.usual
            times = common.times(len(hits))
            yield Hit(
                passing.installed.packaging.unit,
                f"{passing.installed.front.title} has given up on a response {times} in the last "
                f"hour, and the client got {row.status}: {row.means} ({setting} is {now})",
                Advice(
                    f"{row.fix.replace('proxy_', setting.partition('_')[0] + '_')} in "
                    f"{passing.place}"
                ),
                passing.unit,
                then=passing.then,
            )


MODULES = {"http": "proxy", "uwsgi": "uwsgi", "fastcgi": "fastcgi", "scgi": "scgi"}
"""What the names of nginx's settings begin with, by protocol."""
_UPSTREAM = re.compile(r'upstream: "\w+://(?P<at>unix:[^":]+|[^"/]+)')


def _is_of(passing: Passing, line: str) -> bool:
    """Return whether a line of nginx's log is about a response of the deployment."""
    found = _UPSTREAM.search(line)
    if found is None:
        return False
    at = found["at"]
    path = at.removeprefix("unix:")
    if at.startswith("unix:"):
        return path == passing.upstream.path
    return bool(passing.upstream.port) and at.endswith(f":{passing.upstream.port}")


def renewed(case: Case, installed: InstalledFront) -> float:
    """Return when a front was started or its configuration changed, in seconds since the epoch.

    An hour ago, if that is later: what was logged before may be fixed.
    """
    machine = case.running.machine

    def newest() -> float:
        times = [0.0]
        for file in texts(case.running, installed):
            with contextlib.suppress(OSError):
                times.append(os.stat(file).st_mtime)
        return max(times)

    changed = machine.once(("configured", installed.packaging.unit), newest)
    return max(case.running.since(installed.packaging.unit), changed)


def logged_since_change(case: Case, installed: InstalledFront) -> list[str]:
    """Return what a front has logged since its configuration was changed."""

    def look() -> list[str]:
        return case.running.front_log(installed, renewed(case, installed))

    return case.running.machine.once(("logged since a change", installed.packaging.unit), look)


def _given_up(case: Case, installed: InstalledFront) -> list[str]:
    def look() -> list[str]:
        lines = logged_since_change(case, installed)
        return [line for line in lines if any(row.words in line for row in GIVEN_UP)]

    return case.running.machine.once(("given up", installed.packaging.unit), look)


# -- WebSockets ------------------------------------------------------------------------------------

_ASGI = ("uvicorn", "hypercorn", "daphne")


def websockets_not_passed(case: Case) -> Iterator[Hit]:
    """An application with WebSockets, behind a front that does not pass Upgrade on."""
    for service in common.services(case.service):
        if not any(it in _ASGI for it in _servers(service)):
            continue
        for title in dict.fromkeys(it.installed.front.title for it in ways(case)):
            passes = [it for it in ways(case) if it.installed.front.title == title]
            if any(_passes_upgrade(case, it) for it in passes):
                continue
            module = application(case, service)
            if module is None or not re.search(r"websocket", module[1], re.IGNORECASE):
                continue
            first = passes[0]
            yield Hit(
                first.installed.packaging.unit,
                f"{title} does not pass on Upgrade ({first.place}), but the application of "
                f"{service.name} has WebSockets ({module[0]}): their requests get 404 or 400",
                Advice(_UPGRADES[first.front].format(place=first.place)),
                first.unit,
                then=first.renewed,
            )


_UPGRADES = {
    "nginx": "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; and "
    'proxy_set_header Connection "upgrade"; at {place} (in a location of the WebSockets\' paths, '
    "where the site has other pages: docs/asgi.md)",
    "apache": "add upgrade=websocket behind the address of ProxyPass at {place} (Apache 2.4.47 or "
    "later; before, load proxy_wstunnel and pass the WebSockets' path to ws://)",
    "lighttpd": 'add proxy.header = ("upgrade" => "enable") next to proxy.server at {place}',
}
"""How each front is told to pass it on. Caddy and HAProxy do so by themselves."""


def _servers(service: Unit) -> set[str]:
    # gunicorn -k uvicorn.workers.UvicornWorker
    in_gunicorn = any("uvicorn" in it.lower() for it in common.words(service))
    return {common.server(service), *(["uvicorn"] if in_gunicorn else [])}


_PASSES_UPGRADE = {
    "apache": re.compile(r"\bupgrade=\w|\bwss?://", re.IGNORECASE),
    "lighttpd": re.compile(r'"upgrade"\s*=>\s*"enable"'),
}


def _passes_upgrade(case: Case, way: Way) -> bool:
    if way.protocol != "http":
        return True  # another rule's
    if way.front == "nginx":
        held = [
            directive
            for it in passings(case)
            if (it.server.file, it.line) == (way.file, way.line)
            for directive in front_scopes.innermost(it.blocks, "proxy_set_header")
        ]
        return any(len(it.words) > 1 and it.words[1].lower() == "upgrade" for it in held)
    pattern = _PASSES_UPGRADE.get(way.front)
    text = f"{way.text}\n{rest(case, way.installed)}"
    return pattern is None or pattern.search(text) is not None


# -- the host name that the application sees -------------------------------------------------------


def _sent(passing: Passing) -> str:
    """Return the name that nginx sends as Host; "" if it is the client's or a variable."""
    fields = {name.lower(): value for name, value in passing.fields}
    if "x-forwarded-host" in fields:
        return ""
    value = fields.get("host", "$proxy_host")
    if value in ("$proxy_host", "$proxy_host:$proxy_port"):
        host = passing.target.partition("://")[2]
        return "localhost" if host.startswith("unix:") else host.partition("/")[0]
    return "" if "$" in value else value


def host_not_passed(case: Case) -> Iterator[Hit]:
    """nginx sends the name of its upstream as Host, which is its default."""
    told: set[Server] = set()
    for passing in passings(case):
        if passing.protocol != "http" or passing.server in told:
            continue
        if (sent := _sent(passing)) and sent not in passing.server.names:
            told.add(passing.server)
            own = any(it.words[0] == "proxy_set_header" for it in passing.blocks[-1].directives)
            beside = " next to the others there" if own else ""
            yield Hit(
                passing.installed.packaging.unit,
                f"{passing.installed.front.title} does not pass on the client's Host "
                f"({passing.place}): the application is asked for '{sent}', builds addresses and "
                "redirects with that name, and may refuse it (Django: 400, DisallowedHost)",
                Advice(f"add proxy_set_header Host $host; in {passing.place}{beside}"),
                passing.unit,
                then=passing.then,
            )
    yield from _host_without_port(case)
    yield from _host_with_usual_port(case)
    yield from _host_not_passed_by_others(case)


_USUAL_PORTS = {80, 443}
_BUILDS_ADDRESSES = re.compile(
    r"_external\s*=\s*True|build_absolute_uri|base_url|request\.url\b|HTTP_HOST|[\"']host[\"']"
)


def _host_without_port(case: Case) -> Iterator[Hit]:
    """$host has no port, so that addresses lead to port 80, where the site may not be."""
    module = application(case, case.service) if case.service else None
    if module is None or not _BUILDS_ADDRESSES.search(module[1]):
        return
    told: set[Server] = set()
    for passing in passings(case):
        ports = passing.server.ports
        fields = {name.lower(): value for name, value in passing.fields}
        if (
            passing.protocol != "http"
            or passing.server in told
            or not ports
            or ports & _USUAL_PORTS
            or fields.get("host") != "$host"
            or {"x-forwarded-port", "x-forwarded-host"} & fields.keys()
        ):
            continue
        told.add(passing.server)
        port = min(ports)
        yield Hit(
            passing.installed.packaging.unit,
            f"nginx listens on port {port}, and passes on Host without the port ($host, "
            f"{passing.place}): the application's redirects lead to port 80",
            Advice(
                f"write proxy_set_header Host $http_host; instead in {passing.server.file} (not if "
                f"clients reach port {port} by another front, or another port)"
            ),
            passing.unit,
            then=passing.then,
        )


def _host_with_usual_port(case: Case) -> Iterator[Hit]:
    """Host with :80 or :443, which browsers leave out: Django compares it with their Origin."""
    site = site_settings(case)
    if site is None or {"USE_X_FORWARDED_HOST", "CSRF_TRUSTED_ORIGINS"} & site.bound.keys():
        return
    told: set[Server] = set()
    for passing in passings(case):
        sent = [value for name, value in passing.fields if name.lower() == "host"]
        usual = [it for it in sent if re.fullmatch(r"\$(?:host|http_host):(?:80|443|\$\w+)", it)]
        if not usual or passing.server in told or not passing.server.ports & _USUAL_PORTS:
            continue
        told.add(passing.server)
        yield Hit(
            passing.installed.packaging.unit,
            f"nginx passes on Host as {usual[0]} ({passing.place}), and browsers send no usual "
            "port in Origin: Django refuses forms (403, CSRF: Origin checking failed)",
            Advice(
                f"write proxy_set_header Host $http_host; instead, in the server of {passing.place}"
            ),
            passing.unit,
            then=passing.then,
        )


_PRESERVES = re.compile(r"^[ \t]*ProxyPreserveHost[ \t]+On\b", re.MULTILINE | re.IGNORECASE)
_TARGET = re.compile(r"\bhttps?://([^/\s\"|]+)")
_SETS_HOST = {
    "caddy": re.compile(r"^[ \t]*header_up[ \t]+Host[ \t]+\"?([^\s\"]+)", re.MULTILINE),
    "haproxy": re.compile(
        r"^[ \t]*http-request[ \t]+set-header[ \t]+Host[ \t]+\"?([^\s\"]+)", re.MULTILINE
    ),
}
_HOST_FIXES = {
    "apache": "add ProxyPreserveHost On in the virtual host of {place}",
    "caddy": "remove header_up Host from the site of {place}: Caddy passes Host on by itself",
    "haproxy": "remove http-request set-header Host from the sections of {place}: HAProxy passes "
    "Host on by itself",
}


def _sent_by_others(case: Case, way: Way) -> str:
    """What another front sends as Host; "" for the one of the client's request.

    Apache sends the client's as X-Forwarded-Host beside it, which Django may be told to use.
    """
    if way.protocol != "http" or way.front == "nginx":
        return ""
    line = way.text.split("\n")[way.line - way.first] if way.first else ""
    if way.front == "apache":
        if _PRESERVES.search(f"{way.text}\n{rest(case, way.installed)}"):
            return ""
        site = site_settings(case)
        if site and "USE_X_FORWARDED_HOST" in site.bound:
            return ""
        found = _TARGET.search(line)
        return found[1] if found else ""
    pattern = _SETS_HOST.get(way.front)
    found = pattern.search(way.text) if pattern else None
    if found is None or "%" in found[1]:
        return ""
    if "upstream" in found[1]:
        return way.upstream.path or f"localhost:{way.upstream.port}"
    return "" if "{" in found[1] else found[1]


def _host_not_passed_by_others(case: Case) -> Iterator[Hit]:
    """Apache sends its upstream's name without ProxyPreserveHost; others where they are told to."""
    told: set[tuple[str, str]] = set()
    for way in ways(case):
        sent = _sent_by_others(case, way)
        if not sent or sent in way.names or (way.file, way.text) in told:
            continue
        service, site = case.service, site_settings(case)
        refused = service is not None and any(
            it["host"] == sent for it in map(_REFUSED.search, _logged(case, service)) if it
        )
        if way.front == "apache" and not refused and not (site and site.is_whole):
            continue  # the application may use X-Forwarded-Host
        told.add((way.file, way.text))
        yield Hit(
            way.installed.packaging.unit,
            f"{way.installed.front.title} does not pass on the client's Host ({way.place}): the "
            f"application is asked for '{sent}', builds addresses and redirects with that name, "
            "and may refuse it (Django: 400, DisallowedHost; 403, CSRF)",
            Advice(_HOST_FIXES[way.front].format(place=way.place)),
            way.unit,
            then=way.renewed,
        )


def site_settings(case: Case) -> django_settings.Settings | None:
    """Return the settings of a deployment's Django site; None if they can't be read."""

    def look() -> django_settings.Settings | None:
        read = partial(module_text, case)
        return django_settings.settings(case.service, read) if case.service else None

    return case.running.machine.once(("settings", case.deployment.name), look)


def application(case: Case, service: Unit) -> tuple[str, str] | None:
    """Return the path and the text of the module that a service serves; None if it is not known."""
    look = partial(django_settings.application, service, partial(module_text, case))
    return case.running.machine.once(("application", service.name), look)


def module_text(case: Case, path: str) -> str | None:
    """Return the text of a module, read once: many sites may share it."""
    look = partial(django_settings.read_module, path)
    return case.running.machine.once(("module", path), look)


_REFUSED = re.compile(r"Invalid HTTP_HOST header: '(?P<host>[^'\s]{1,255})'\.")


def host_not_allowed(case: Case) -> Iterator[Hit]:
    """Names under which the front serves the site, but which ALLOWED_HOSTS does not contain."""
    for service in common.services(case.service):
        asked = _asked(case)
        if not asked:
            continue
        allowed = django_settings.allowed_hosts(service, partial(module_text, case))
        logged = {it["host"] for line in _logged(case, service) if (it := _REFUSED.search(line))}
        for host, place in asked.items():
            if allowed and not allowed.has(host):
                where = f"in {allowed.file}, line {allowed.line}"
                yield _not_allowed(service, host, place, where)
            elif allowed is None and host in logged:
                yield _not_allowed(service, host, place, "in the site's settings")


def _logged(case: Case, service: Unit) -> list[str]:
    return case.running.said(service.name) if "@." not in service.name else []


def _asked(case: Case) -> dict[str, str]:
    """Return the host names that the front sends to the application, and where they are set."""
    found: dict[str, str] = {}
    for passing in passings(case):
        sent = _sent(passing) if passing.protocol == "http" else ""
        for name in [sent] if sent else passing.server.names:
            if not re.search(r"[*~^$]", name):
                found.setdefault(name, passing.place)
    for way in ways(case):
        if way.front in ("apache", "caddy"):
            sent = _sent_by_others(case, way)
            for name in [sent] if sent else way.names:
                if not re.search(r"[*~^${]", name):
                    found.setdefault(name, way.place)
    return found


def _not_allowed(service: Unit, host: str, place: str, where: str) -> Hit:
    return Hit(
        service.name,
        f"the front asks for '{host}' ({place}), but ALLOWED_HOSTS {where} does not contain it: "
        "Django answers 400 (DisallowedHost)",
        Advice(f"add '{host}' to ALLOWED_HOSTS {where}"),
        then=str(restart(service.name)),
    )
