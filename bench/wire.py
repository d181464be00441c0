"""One request, as nginx sends it for a browser, in the bytes of each protocol.

`asked` says what is asked of an application: PARAMS, and of one that takes uploads a body as well.
`PROTOCOLS` says for each how its bytes are made and how the load generator tells the end of an
answer. A name ending in "-close" is the protocol with a connection for each request where the
protocol could keep it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

PATH = "/articles/2026/socket-activation/"
QUERY = "page=2&order=newest"
HEADERS = {
    "Host": "www.example.com",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.8,de;q=0.5,fr;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://www.example.com/articles/2026/",
    "Cookie": "csrftoken=Hq3vXU1m8sYw0bJr5kTz7cNd2fLg9pAe; sessionid=4y2p0v7k9m1n3b5c8x6z",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
}
# What the generated nginx configuration passes, and the browser's headers: 27 parameters.
PARAMS = {
    "CONTENT_LENGTH": "",
    "REQUEST_METHOD": "GET",
    "QUERY_STRING": QUERY,
    "CONTENT_TYPE": "",
    "REQUEST_URI": f"{PATH}?{QUERY}",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SCRIPT_NAME": "",
    "PATH_INFO": PATH,
    "REQUEST_SCHEME": "https",
    "HTTPS": "on",
    "REMOTE_ADDR": "203.0.113.9",
    "REMOTE_PORT": "52344",
    "SERVER_NAME": "www.example.com",
    "SERVER_PORT": "443",
    "SERVER_SOFTWARE": "nginx",
} | {"HTTP_" + name.upper().replace("-", "_"): value for name, value in HEADERS.items()}
RECORD = 32768  # the bytes of a body in one record of FastCGI: what nginx's buffers hold
# By application: what is sent to it as a body; nothing to those that are not here
BODIES = {"post": b"x" * 1_000_000}


def asked(app: str) -> tuple[dict[str, str], bytes]:
    """Return the parameters and the body of a request to an application."""
    body = BODIES.get(app, b"")
    return (posted(PARAMS, body) if body else PARAMS), body


def posted(params: dict[str, str], body: bytes) -> dict[str, str]:
    """Return `params` as they are where `body` is sent."""
    kind = "application/octet-stream"
    more = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": kind, "CONTENT_LENGTH": str(len(body))}
    return params | more


def scgi(params: dict[str, str], body: bytes = b"") -> bytes:
    params = params | {"CONTENT_LENGTH": params["CONTENT_LENGTH"] or "0", "SCGI": "1"}
    header = "".join(f"{name}\0{value}\0" for name, value in params.items()).encode()
    return b"%d:%b,%b" % (len(header), header, body)


def uwsgi(params: dict[str, str], body: bytes = b"") -> bytes:
    def sized(text: str) -> bytes:
        return len(text).to_bytes(2, "little") + text.encode()

    packet = b"".join(sized(name) + sized(value) for name, value in params.items())
    return b"\0" + len(packet).to_bytes(2, "little") + b"\0" + packet + body


def fastcgi(params: dict[str, str], body: bytes = b"", keep: bool = True) -> bytes:
    def record(kind: int, content: bytes) -> bytes:
        return b"\1" + bytes([kind, 0, 1]) + len(content).to_bytes(2, "big") + b"\0\0" + content

    def size(text: str) -> bytes:
        return bytes([len(text)]) if len(text) < 128 else (len(text) | 1 << 31).to_bytes(4, "big")

    pairs = b"".join(
        size(name) + size(value) + (name + value).encode() for name, value in params.items()
    )
    begin = record(1, bytes([0, 1, keep, 0, 0, 0, 0, 0]))
    pieces = (body[at : at + RECORD] for at in range(0, len(body), RECORD))
    stdin = b"".join(record(5, piece) for piece in pieces)
    return begin + record(4, pairs) + record(4, b"") + stdin + record(5, b"")


def http(params: dict[str, str], body: bytes = b"", keep: bool = True) -> bytes:
    forwarded = {
        "Host": HEADERS["Host"],
        "X-Forwarded-For": params["REMOTE_ADDR"],
        "X-Forwarded-Proto": "https",
        "X-Script-Name": "",
    }
    sent = {"Content-Type": params["CONTENT_TYPE"], "Content-Length": params["CONTENT_LENGTH"]}
    fields = forwarded | ({} if keep else {"Connection": "close"}) | sent | HEADERS
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    first = f"{params['REQUEST_METHOD']} {params['REQUEST_URI']} HTTP/1.1"
    return f"{first}\r\n{lines}\r\n".encode() + body


class Protocol(NamedTuple):
    """How requests are made, and how the end of an answer is told (see load.c)."""

    request: Callable[..., bytes]  # of the parameters, and of the body if there is one
    end: str


PROTOCOLS = {
    "scgi": Protocol(scgi, "close"),
    "fastcgi": Protocol(fastcgi, "fastcgi"),
    "fastcgi-close": Protocol(functools.partial(fastcgi, keep=False), "close"),
    "uwsgi": Protocol(uwsgi, "close"),
    "http": Protocol(http, "http"),
    "http-close": Protocol(functools.partial(http, keep=False), "close"),
}
