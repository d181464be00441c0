"""Read a front's own configuration: the included files, and which server answers for a host.

It reads only what decides which server answers: the includes in their order, and the ports and
names of each server (nginx), virtual host (Apache) or site (Caddy). lighttpd merges every block
that matches a request, and HAProxy has no predefined server: of these two only the files are read.

    nginx   https://nginx.org/en/docs/http/request_processing.html
    Apache  https://httpd.apache.org/docs/2.4/vhosts/details.html
    Caddy   https://caddyserver.com/docs/caddyfile/concepts#addresses
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from sdactivate.front_includes import UNREADABLE, At, Includes
from sdactivate.front_scopes import TOKENS
from sdactivate.fronts import Front, Packaging

T = TypeVar("T")
_NOTHING: Mapping[str, str] = {}
_MOST_FILES, _MOST_BYTES, _LONGEST = 2000, 16 << 20, 4096
"""Limits for one configuration: number of files, bytes in total, characters of one value."""


class Server(NamedTuple):
    """One server of a front's configuration."""

    file: str
    """The file that defines it, by the path that the front includes it by."""
    line: int
    ports: frozenset[int]
    """The ports on which it listens on every address of the host; empty for a server on one address
    only."""
    names: tuple[str, ...]
    """The host names that it answers for; (): it has none."""
    is_default: bool
    """Whether it is declared as the default server."""
    text: str


class _Include(NamedTuple):
    pattern: str


class _Found(NamedTuple):
    """A server as its file defines it."""

    start: int
    end: int
    ports: frozenset[int]
    names: tuple[str, ...]
    is_default: bool = False


_Reader = Callable[[str], Iterator[_Include | _Found]]


class Configuration(NamedTuple):
    """The configuration that was read."""

    files: Mapping[str, str]
    """The files' texts by path, in the order in which the front reads them, the main file first."""
    servers: tuple[Server, ...]
    """The servers, in the same order."""
    missed: tuple[str, ...] = ()
    """Planned files that nothing includes. They are read anyway, after all others."""

    def naming(self, socket: str) -> list[str]:
        """Return the files that name the socket at exactly this path."""
        return [path for path, text in self.files.items() if names_socket(text, socket)]


def names_socket(text: str, path: str) -> bool:
    """Whether a front's configuration names the socket at exactly this `path`."""
    at = text.find(path)
    while at >= 0:
        if not _GOES_ON.match(text, at + len(path)):
            return True
        at = text.find(path, at + 1)
    return False


_GOES_ON = re.compile(r"\.*[\w/-]")
_LAST = re.compile(r"/([\w.-]+)")
_PLAIN = re.compile(r"[\w.-]*[\w-]")


class Naming(Generic[T]):
    """An index of many texts by the sockets that they name.

    The keys are the last components of all paths in the texts: if a text names a path, the part
    after its last slash is the path's last component, perhaps followed by dots (`names_socket`).
    """

    def __init__(self, texts: Iterable[tuple[T, str]]) -> None:
        """texts: pairs of any object and the text to index it by."""
        self._texts = list(texts)
        self._places: dict[str, list[int]] = {}
        for place, (_, text) in enumerate(self._texts):
            for last in {it.rstrip(".") for it in _LAST.findall(text)}:
                self._places.setdefault(last, []).append(place)

    def of(self, path: str) -> list[T]:
        """Return the objects whose texts name the socket at `path`, in their order."""
        last = path.rpartition("/")[2]
        is_plain = "/" in path and _PLAIN.fullmatch(last)
        places = self._places.get(last, ()) if is_plain else range(len(self._texts))
        texts = (self._texts[place] for place in places)
        return [thing for thing, text in texts if names_socket(text, path)]


def read(
    front: Front, packaging: Packaging, at: At = Path, planned: Mapping[str, str] = _NOTHING
) -> Configuration:
    """Return the configuration of `front`, packaged like this; empty if its main file is missing.

    planned: files that will be written, by path, with their text. Unreadable files are left out.
    """
    files: dict[str, str] = {}
    servers: list[Server] = []
    reader = _READERS.get(front.name)
    base = [os.path.dirname(packaging.main)]
    left = _MOST_BYTES
    includes = Includes(at, planned, with_directories=front.name == "apache")

    def walk(path: str) -> None:
        nonlocal left
        if reader is None or path in files or len(files) >= _MOST_FILES:
            return
        text = planned[path] if path in planned else _text(path, at, left)
        if text is None:
            return
        left -= len(text)
        files[path] = text
        if root := _SERVER_ROOT.search(text) if front.name == "apache" else None:
            base[0] = root[1]
        line, seen = 1, 0
        for found in reader(text):
            if isinstance(found, _Include):
                for included in includes.files(os.path.join(base[0], found.pattern)):
                    walk(included)
            else:
                line += text.count("\n", seen, found.start)
                seen = found.start
                servers.append(Server(path, line, *found[2:], text[found.start : found.end]))

    if packaging.main:
        walk(packaging.main)
    if front.name == "haproxy" and files and "NAME" in packaging.config:
        # HAProxy includes nothing: its unit names this directory and the main file.
        for path in includes.files(packaging.config.replace("NAME", "*")):
            walk(path)
    missed = tuple(path for path in planned if files and path not in files)
    for path in missed:
        walk(path)
    return Configuration(files, tuple(servers), missed)


def _text(path: str, at: At, most: int) -> str | None:
    try:
        with open(os.open(at(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(max(most, 0)).decode(errors="replace")
    except UNREADABLE:
        return None


# -- who answers ---------------------------------------------------------------------------------


def answers_instead(
    front: Front, servers: tuple[Server, ...], own: Callable[[Server], bool]
) -> Iterator[tuple[str, Server]]:
    """Yield each host name that another server answers instead of the site's own, and that server.

    "" stands for all hosts that no server names, if the site serves any host. Caddy refuses two
    sites with one address: then the other one is yielded, whatever their order.
    """
    for mine in filter(own, servers):
        for port in sorted(mine.ports):
            rivals = [server for server in servers if port in server.ports]
            for name in mine.names or ("",):
                fitting = [
                    server
                    for server in rivals
                    if (name in server.names if name else front.name != "caddy" or not server.names)
                ]
                if front.name == "caddy":
                    fitting.sort(key=own)
                elif not name:
                    fitting.sort(key=lambda server: not server.is_default)
                if fitting and not own(fitting[0]):
                    yield name, fitting[0]


def has_name(server: Server, name: str) -> bool:
    """Whether a server names the host `name`, exactly or by a pattern.

    A regular expression of nginx's counts as one that may match.
    """
    return any(
        it == name.lower()
        or it[:1] == "~"
        or (it[:2] == "*." and name.lower().endswith(it[1:]))
        or (it[:1] == "." and f".{name.lower()}".endswith(it))
        or (it[-2:] == ".*" and name.lower().startswith(it[:-1]))
        for it in server.names
    )


def default_for(front: Front, servers: tuple[Server, ...], name: str, port: int) -> Server | None:
    """Return the server that answers for `name` because no server on `port` names it, or None.

    It is the default server: the declared one, else the first (nginx, Apache), or Caddy's site
    without a host name.
    """
    there = [server for server in servers if port in server.ports]
    if any(has_name(server, name) for server in there):
        return None
    if front.name == "caddy":
        there = [server for server in there if not server.names]
    elif front.name == "nginx":
        there.sort(key=lambda server: not server.is_default)
    return there[0] if there else None


PACKAGED: dict[str, tuple[str, ...]] = {
    "/etc/nginx/sites-enabled/default": ("rm", "/etc/nginx/sites-enabled/default"),
    # packages of nginx.org
    "/etc/nginx/conf.d/default.conf": (
        *("mv", "/etc/nginx/conf.d/default.conf"),
        "/etc/nginx/conf.d/default.conf.off",
    ),
    "/etc/apache2/sites-enabled/000-default.conf": ("a2dissite", "000-default"),
}
"""Default servers that packages install in files of their own, with the command that disables
each."""


class InTheWay(NamedTuple):
    """A server that answers instead of the site's own."""

    because: str
    """The finding: a sentence without a full stop."""
    command: tuple[str, ...]
    """The command that disables that server; () if a file must be edited."""
    fix: str
    """The fix in words, with the command that reloads the front."""


def in_the_way(
    front: Front,
    packaging: Packaging,
    servers: tuple[Server, ...],
    own: Callable[[Server], bool],
) -> list[InTheWay]:
    """Return the servers that answer instead of the site's own, each once, with the fix."""
    hosts: dict[Server, list[str]] = {}
    for name, server in answers_instead(front, servers, own):
        if name not in hosts.setdefault(server, []):
            hosts[server].append(name)
    renewed = f"systemctl {front.renew} {packaging.unit}"
    found = []
    for server, names in hosts.items():
        where = f"{server.file}, line {server.line},"
        what = ", ".join(filter(None, names)) or "all hosts that no server names"
        because = f"{front.title}'s server in {where} answers {what} instead of the site"
        if front.name == "caddy":
            because = f"Caddy refuses the site, because the one in {where} has the same address"
        command = PACKAGED.get(server.file, ())
        if command:
            fix = f"`{' '.join(command)}`, then `{renewed}`"
        else:
            fix = f"remove that server from {server.file}, then `{renewed}`"
        found.append(InTheWay(because, command, fix))
    return found


def include_line(front: Front, packaging: Packaging, name: str) -> str:
    """Return the line that makes the front's main file include the file of the site `name`."""
    # Not all of Arch's conf/extra, which also has the examples of Apache's manual.
    pattern = packaging.config.replace("NAME", name if front.name == "apache" else "*")
    return _INCLUDES[front.name].format(pattern)


_INCLUDES = {
    "nginx": "include {};",
    "apache": "IncludeOptional {}",
    "lighttpd": 'include "{}"',
    "caddy": "import {}",
}


# -- the fronts' grammars ------------------------------------------------------------------------

_EVERYWHERE = re.compile(r"(?:\*:|0\.0\.0\.0:|\[::\]:)?([0-9]{1,5})|(\*|0\.0\.0\.0|\[::\])")


def _ports(addresses: list[str]) -> frozenset[int]:
    """The ports of the addresses that stand for every address of the host."""
    found = filter(None, map(_EVERYWHERE.fullmatch, addresses))
    return frozenset(int(it[1] or 80) for it in found)


def _nginx(text: str) -> Iterator[_Include | _Found]:
    stack: list[str] = []
    words: list[str] = []
    begin = start = depth = 0
    listen: list[list[str]] = []
    names: list[str] = []
    for match in TOKENS.finditer(text):
        if match["word"]:
            begin = begin if words else match.start()
            words.append(match["word"].strip("\"'"))
            continue
        if not match["end"]:
            continue
        kind, inside = (words or [""])[0], depth and len(stack) == depth
        if match["end"] == "{":
            if kind == "server" and (not stack or stack[-1] == "http"):
                start, depth, listen, names = begin, len(stack) + 1, [], []
            stack.append(kind)
        elif match["end"] == ";":
            if kind == "include" and words[1:] and not depth:
                yield _Include(words[1])
            elif kind == "listen" and inside:
                listen.append(words[1:])
            elif kind == "server_name" and inside:
                names += (word.lower() for word in words[1:])
        else:
            if inside:
                depth = 0
                ports = _ports([each[0] for each in listen if each] or ["80"])
                default = any(set(each) & {"default_server", "default"} for each in listen)
                known = tuple(name for name in names if name not in ("_", ""))
                yield _Found(start, match.end(), ports, known, default)
            if stack:
                stack.pop()
        words = []


_SERVER_ROOT = re.compile(r'^[ \t]*ServerRoot\s+"?([^"\s]+)', re.MULTILINE | re.IGNORECASE)
_APACHE = re.compile(
    r"""^[ \t]*(?:
        (?P<end></VirtualHost>)
        | <VirtualHost[ \t]+(?P<hosts>[^>\n \t][^>\n]*)>
        | Include(?:Optional)?[ \t]+"?(?P<include>[^"\s]+)
        | Server(?:Name|Alias)[ \t]+(?P<names>[^\n]+)
    )""",
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)


def _apache(text: str) -> Iterator[_Include | _Found]:
    start, hosts = -1, ""
    names: list[str] = []
    for match in _APACHE.finditer(text):
        if match["hosts"]:
            start, hosts, names = match.start(), match["hosts"], []
        elif match["include"] and start < 0:
            yield _Include(match["include"])
        elif match["names"] and start >= 0:
            given = (word.strip('"').rpartition("//")[2] for word in match["names"].split())
            names += (word.partition(":")[0].lower() for word in given)
        elif match["end"] and start >= 0:
            ports = _ports([word.lower().replace("_default_", "*") for word in hosts.split()])
            yield _Found(start, match.end(), ports, tuple(names))
            start = -1


_SITE = re.compile(r"(?:(https?)://)?([^:/\s]*)(?::([0-9]{1,5}))?(?:/\S*)?")


def _caddy(text: str) -> Iterator[_Include | _Found]:
    depth = position = start = 0
    heading = ""
    for line in text.splitlines(keepends=True):
        words = re.sub(r"(^|\s)#.*", "", line).strip()
        if not depth and words:
            start = start if heading else position
            heading += f" {words}"
            if words.startswith("import ") and heading == f" {words}":
                yield _Include(words.split()[1])
                heading = ""
            elif not words.endswith((",", "{")):
                heading = ""  # a site without braces is the only one in its file
        position += len(line)
        depth += words.endswith("{")
        depth -= words == "}"
        if words == "}" and not depth:
            sites = [it for it in map(_SITE.fullmatch, re.split(r"[,\s]+", heading[1:-1])) if it]
            if sites and not heading.startswith(" ("):
                ports = {int(it[3] or (80 if it[1] == "http" else 443)) for it in sites if it[0]}
                names = tuple(it[2].lower() for it in sites if it[2])
                if ports:
                    yield _Found(start, position, frozenset(ports), names)
            heading = ""


_LIGHTTPD = re.compile(
    r"^[ \t]*(?:(?:var\.)?(?P<name>\w+)[ \t]*=|include[ \t])[ \t]*(?P<value>[^\n#]+)", re.MULTILINE
)
_TERM = re.compile(r'"([^"]*)"|(?:var\.)?(\w+)')


def _lighttpd(text: str) -> Iterator[_Include | _Found]:
    known: dict[str, str] = {}
    for match in _LIGHTTPD.finditer(text):
        terms = _TERM.findall(match["value"][:_LONGEST])
        value = "".join(known.get(name, "") if name else text for text, name in terms)
        if match["name"]:
            known[match["name"]] = value[:_LONGEST]
        elif value:
            yield _Include(value)


def _haproxy(text: str) -> Iterator[_Include | _Found]:
    yield from ()


_READERS: dict[str, _Reader] = {
    "nginx": _nginx,
    "apache": _apache,
    "caddy": _caddy,
    "lighttpd": _lighttpd,
    "haproxy": _haproxy,
}
