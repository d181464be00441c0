"""The page of --health: its request in each protocol, and the status of the answer.

It is asked for on a connection of this process to its own server, so the request is what a front
would send: the variables of RFC 3875, or HTTP with the fields of a proxy.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from sdactivate.servers.native.wire import fastcgi as wire


class Page(NamedTuple):
    """The page to request: https://host:port/path?query."""

    scheme: str
    host: str
    """The host, with the port if the URL has one."""
    path: str
    query: str

    @classmethod
    def parse(cls, text: str) -> Page:
        """Parse the setting `health`; without a host, it is localhost."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", f"localhost{text}"
        host, _, target = rest.partition("/")
        path, _, query = target.partition("?")
        return cls(scheme, host, f"/{path}", query)

    @property
    def target(self) -> str:
        """The path with the query, for a request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{self.target}"

    def variables(self) -> dict[str, str]:
        """Return the variables of the request for SCGI, FastCGI and uwsgi (RFC 3875)."""
        name, _, port = self.host.rpartition(":")
        if not (name and port.isdigit()):
            name, port = self.host, "443" if self.scheme == "https" else "80"
        return {
            "CONTENT_LENGTH": "0",
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": self.target,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(self.path).decode("latin-1"),
            "QUERY_STRING": self.query,
            "SERVER_NAME": name,
            "SERVER_PORT": port,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REQUEST_SCHEME": self.scheme,
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": self.host,
            "HTTP_USER_AGENT": _AGENT,
            "HTTP_ACCEPT": "*/*",
            **({"HTTPS": "on"} if self.scheme == "https" else {}),
        }


_AGENT = "sdactivate (health check)"


def _http(page: Page) -> bytes:
    fields = {
        "Host": page.host,
        "User-Agent": _AGENT,
        "Accept": "*/*",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": page.scheme,
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {page.target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def _encoded(page: Page) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), text.encode("latin-1")) for name, text in page.variables().items()]


def _scgi(page: Page) -> bytes:
    pairs = [*_encoded(page), (b"SCGI", b"1")]
    header = b"".join(b"%b\0%b\0" % pair for pair in pairs)
    return b"%d:%b," % (len(header), header)


def _uwsgi(page: Page) -> bytes:
    block = b"".join(
        struct.pack("<H", len(text)) + text for pair in _encoded(page) for text in pair
    )
    return struct.pack("<BHB", 0, len(block), 0) + block


def _fastcgi(page: Page) -> bytes:
    def record(kind: int, content: bytes) -> bytes:
        return wire.head(kind, 1, len(content)) + content

    params = b"".join(
        struct.pack(">II", len(name) | 1 << 31, len(text) | 1 << 31) + name + text
        for name, text in _encoded(page)
    )
    begin = struct.pack(">HB5x", wire.RESPONDER, 0)  # the connection ends after the answer
    return (
        record(wire.BEGIN_REQUEST, begin)
        + record(wire.PARAMS, params)
        + record(wire.PARAMS, b"")
        + record(wire.STDIN, b"")
    )


REQUESTS: Mapping[str, Callable[[Page], bytes]] = {
    "http": _http,
    "scgi": _scgi,
    "uwsgi": _uwsgi,
    "fastcgi": _fastcgi,
}
"""Builds the request, by protocol."""

_STATUS = re.compile(rb"(?:Status: |HTTP/1\.[01] )([2-9][0-9]{2}[^\r\n]*)\r\n")


def status(protocol: str, answer: bytes) -> str:
    """Return the status of an answer that has arrived at least in part; "": none yet."""
    if protocol == "fastcgi":
        answer = _stdout(answer)
    found = _STATUS.search(answer.partition(b"\r\n\r\n")[0] + b"\r\n")
    if found is None and answer.startswith(b"HTTP/1.1 1"):  # skip 103 Early Hints
        return status(protocol, answer.partition(b"\r\n\r\n")[2])
    return found[1].decode("latin-1") if found else ""


def _stdout(answer: bytes) -> bytes:
    """Return the response in FastCGI records: the content of STDOUT."""
    found, at = b"", 0
    while at + wire.HEAD <= len(answer):
        kind, length, padding = struct.unpack_from(">xBxxHBx", answer, at)
        at += wire.HEAD
        if kind == wire.STDOUT:
            found += answer[at : at + length]
        at += length + padding
    return found
