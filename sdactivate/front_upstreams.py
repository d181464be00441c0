"""Read what a front's configuration passes requests on to: unix sockets and ports of this host.

In the words that administrators write as well as in those of the generator. What is put together
from variables, or lies on another machine, is left out.

    nginx     proxy_pass http://unix:/run/a.sock, server unix:/run/a.sock
    Apache    ProxyPass / unix:/run/a.sock|http://a, SetHandler "proxy:fcgi://127.0.0.1:9000"
    lighttpd  "socket" => "/run/a.sock", "host" => "127.0.0.1", "port" => 8000
    Caddy     reverse_proxy unix//run/a.sock localhost:8000
"""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Upstream(NamedTuple):
    """A socket that a front connects to, and where its configuration says so."""

    file: str
    line: int
    path: str
    """"" for a port."""
    port: int = 0
    """A TCP port of this host; 0 for a path."""

    @property
    def name(self) -> str:
        """What to call it: the path, or port 8000."""
        return self.path or f"port {self.port}"


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
_COMMENT = re.compile(r"^[ \t]*#.*$", re.MULTILINE)


def upstreams(front: str, files: Mapping[str, str]) -> list[Upstream]:
    """Return what `front`, such as nginx, connects to, each once, in the order of the text.

    files: its configuration by path, as `front_config.read` has it. Empty for a front whose
    configuration isn't known.
    """
    found: dict[tuple[str, int], Upstream] = {}
    for file, text in files.items():
        # Comments are blanked out, and keep their lines.
        bare = _COMMENT.sub("", text)
        hits = [it for pattern in _UPSTREAMS.get(front, ()) for it in pattern.finditer(bare)]
        for hit in sorted(hits, key=lambda it: it.start()):
            said = hit.groupdict()
            path = re.sub("/+", "/", said.get("path") or "")
            port = int(said.get("port") or 0)
            line = bare.count("\n", 0, hit.start()) + 1
            found.setdefault((path, port), Upstream(file, line, path, port))
    return list(found.values())
