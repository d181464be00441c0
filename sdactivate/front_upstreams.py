"""Read where a front's configuration passes requests on to: unix sockets and ports of this host.

It understands what administrators usually write as well as the generator's output. Addresses made
of variables and addresses of other machines are left out.

    nginx     proxy_pass http://unix:/run/a.sock, server unix:/run/a.sock
    Apache    ProxyPass / unix:/run/a.sock|http://a, SetHandler "proxy:fcgi://127.0.0.1:9000"
    lighttpd  "socket" => "/run/a.sock", "host" => "127.0.0.1", "port" => 8000
    Caddy     reverse_proxy unix//run/a.sock localhost:8000
    HAProxy   server a unix@/a.sock, server a /a.sock, server a 127.0.0.1:8000

HAProxy's paths are relative to its `chroot`, which is put in front of them here.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple


class Upstream(NamedTuple):
    """A socket that a front connects to, and the place in its configuration."""

    file: str
    line: int
    path: str
    """"" for a port."""
    port: int = 0
    """A TCP port of this host; 0 for a path."""
    root: str = ""
    """The front's root directory, to which its paths are relative; "" for /."""
    server: str = ""
    """Its name in HAProxy's log: BACKEND/SERVER."""

    @property
    def name(self) -> str:
        """Its name for messages: its path as the front has it, or port 8000."""
        return self.path.removeprefix(self.root) or f"port {self.port}"


_HOST = r"(?:127\.0\.0\.1|localhost|\[::1\])"
_PATH = r"(?P<path>/[^\s;:|\"'{}$,]+)"
_PORT = rf"{_HOST}:(?P<port>[0-9]{{1,5}})\b"
_UPSTREAMS: Mapping[str, tuple[re.Pattern[str], ...]] = {
    "nginx": (
        re.compile(rf"\b(?:\w+_pass|server)\s+[\"']?(?:\w+://)?(?:unix:{_PATH}|{_PORT})"),
    ),
    "apache": (
        re.compile(rf"unix:{_PATH}\|"),
        re.compile(rf"\b(?:https?|fcgi|scgi|uwsgi|h2c|wss?|ajp)://{_PORT}"),
    ),
    "lighttpd": (
        re.compile(rf"\"(?:socket|host)\"\s*=>\s*\"{_PATH}\""),
        re.compile(rf"\"host\"\s*=>\s*\"{_HOST}\"\s*,\s*\"port\"\s*=>\s*\"?(?P<port>[0-9]{{1,5}})"),
    ),
    "caddy": (
        re.compile(rf"\bunix(?:\+h2c)?/{_PATH}"),
        re.compile(rf"\b(?:reverse_proxy|php_fastcgi|to)[ \t][^\n#]*?{_PORT}"),
    ),
}  # fmt: skip
_HAPROXY_SECTION = re.compile(
    r"^[ \t]*(global|defaults|frontend|backend|listen|peers|ring|resolvers|userlist|mailers|cache|"
    r"program|http-errors|fcgi-app|log-forward|crt-store|traces)\b[ \t]*(\S*)"
)
_HAPROXY_SERVER = re.compile(
    rf"^[ \t]*server[ \t]+(?P<name>\S+)[ \t]+(?:(?:unix@)?{_PATH}|"
    rf"(?:ipv[46]@)?(?:127\.0\.0\.1|localhost|\[?::1\]?):(?P<port>[0-9]{{1,5}}))(?=\s|$)"
)
_CHROOT = re.compile(r"^[ \t]*chroot[ \t]+\"?(/[^\s\"$#]*)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)


def bare(text: str) -> str:
    """Return a front's configuration with its comments as blanks, so that places stay right."""
    return _COMMENT.sub(lambda it: " " * len(it[0]), text)


def upstreams(front: str, files: Mapping[str, str]) -> list[Upstream]:
    """Return the sockets that `front`, such as nginx, connects to, each once, in the text's order.

    files: its configuration by path, as `front_config.read` returns it. The result is empty for a
    front whose configuration syntax isn't known.
    """
    found: dict[tuple[str, int], Upstream] = {}
    if front == "haproxy":
        for upstream in _haproxy(files):
            found.setdefault((upstream.path, upstream.port), upstream)
    for file, text in files.items():
        # Comments are replaced by blank lines, so that line numbers stay right.
        bare = _COMMENT.sub("", text)
        hits = [it for pattern in _UPSTREAMS.get(front, ()) for it in pattern.finditer(bare)]
        for hit in sorted(hits, key=lambda it: it.start()):
            said = hit.groupdict()
            path = re.sub("/+", "/", said.get("path") or "")
            port = int(said.get("port") or 0)
            line = bare.count("\n", 0, hit.start()) + 1
            found.setdefault((path, port), Upstream(file, line, path, port))
    return list(found.values())


class Section(NamedTuple):
    """A section of HAProxy's configuration: frontend, backend, listen, defaults."""

    kind: str
    name: str
    text: str


def haproxy_sections(files: Mapping[str, str]) -> list[Section]:
    """Return the sections of HAProxy's configuration, in their order."""
    found: list[Section] = []
    for text in files.values():
        kind, name = "", ""
        lines: list[str] = []
        for line in text.split("\n"):
            if heading := _HAPROXY_SECTION.match(line):
                found.append(Section(kind, name, "\n".join(lines)))
                kind, name, lines = heading[1], heading[2], []
            lines.append(line)
        found.append(Section(kind, name, "\n".join(lines)))
    return [it for it in found if it.kind]


def _haproxy(files: Mapping[str, str]) -> Iterator[Upstream]:
    """The servers of HAProxy's backends, in the order of the text."""
    roots = [hit[1] for text in files.values() for hit in _CHROOT.finditer(text)]
    root = roots[-1].rstrip("/") if roots else ""
    for file, text in files.items():
        section = ("", "")
        for number, line in enumerate(text.split("\n"), 1):
            if heading := _HAPROXY_SECTION.match(line):
                section = (heading[1], heading[2])
            hit = _HAPROXY_SERVER.match(line) if section[0] in ("backend", "listen") else None
            if hit is None:
                continue
            path = re.sub("/+", "/", hit["path"] or "")
            port = int(hit["port"] or 0)
            server = f"{section[1]}/{hit['name']}"
            if path:
                yield Upstream(file, number, root + path, 0, root, server)
            elif port:
                yield Upstream(file, number, "", port, root, server)


# -- the protocol that a front speaks there --------------------------------------------------------

_GROUP = re.compile(r"\bupstream\s+(?P<name>[\w.-]+)\s*\{(?P<body>[^{}]*)\}")
_PASS = re.compile(r"\b(?P<how>proxy|uwsgi|fastcgi|scgi)_pass\s+(?P<to>[^;{}]+);")
_SCHEMES = {
    "http": "http", "https": "http", "fcgi": "fastcgi", "scgi": "scgi", "uwsgi": "uwsgi",
}  # fmt: skip


class Spoken(NamedTuple):
    """A protocol (http, fastcgi, scgi or uwsgi) that a front speaks to a socket, and where."""

    protocol: str
    file: str
    line: int
    word: str
    """The directive or scheme that sets it."""


def spoken(front: str, files: Mapping[str, str], upstream: Upstream) -> list[Spoken]:
    """Return the protocol that a front speaks to `upstream`, if its configuration says it.

    Only nginx's and Apache's do. files: the configuration by path.
    """
    found = []
    named = groups(files, upstream) if front == "nginx" else []
    for file, text in files.items():
        bare = _COMMENT.sub("", text)
        hits = by_nginx(bare, named, upstream) if front == "nginx" else ()
        hits = by_apache(bare, upstream) if front == "apache" else hits
        found += [
            Spoken(protocol, file, bare.count("\n", 0, start) + 1, word)
            for start, protocol, word in hits
        ]
    return found


def groups(files: Mapping[str, str], upstream: Upstream) -> list[str]:
    """Return the names of nginx's upstream groups that contain this upstream."""
    bare = [_COMMENT.sub("", text) for text in files.values()]
    return [it["name"] for text in bare for it in _GROUP.finditer(text) if _is_at(it[0], upstream)]


def _is_at(text: str, upstream: Upstream) -> bool:
    """Whether a part of nginx's configuration connects to this upstream."""
    same = (upstream.path, upstream.port)
    return any((it.path, it.port) == same for it in upstreams("nginx", {"": text}))


def targets(text: str) -> set[str]:
    """Return the groups and hosts that a part of nginx's configuration passes requests to."""
    return {_target(hit) for hit in _PASS.finditer(_COMMENT.sub("", text))}


def _target(hit: re.Match[str]) -> str:
    return hit["to"].strip("\"' \n\t").removeprefix("http://").partition("/")[0]


def by_nginx(
    text: str, named: Collection[str], upstream: Upstream
) -> Iterator[tuple[int, str, str]]:
    """Yield each place where a part of nginx's configuration passes requests to `upstream`.

    Each comes with the protocol and the directive that sets it. The text must be free of comments.
    named: the upstream's `groups`.
    """
    for hit in _PASS.finditer(text):
        if _target(hit) in named or _is_at(hit[0], upstream):
            protocol = "http" if hit["how"] == "proxy" else hit["how"]
            yield hit.start(), protocol, f"{hit['how']}_pass"


def by_apache(text: str, upstream: Upstream) -> Iterator[tuple[int, str, str]]:
    """Yield each place where a part of Apache's configuration passes requests to `upstream`.

    Each comes with the protocol and the scheme that sets it. The text must be free of comments.
    """
    schemes = "|".join(_SCHEMES)
    at = rf"unix:{re.escape(upstream.path)}\|(?P<scheme>{schemes})://"
    if upstream.port:
        at = rf"\b(?P<scheme>{schemes})://{_HOST}:{upstream.port}\b"
    for hit in re.finditer(at, text):
        yield hit.start(), _SCHEMES[hit["scheme"]], f"{hit['scheme']}://"
