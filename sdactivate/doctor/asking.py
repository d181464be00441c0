"""Ask for a page: as a client asks the front, and as a front asks the application.

Requests are GET, over the four protocols that fronts speak to applications. Responses are read
up to a limit, and never for long.

    http     RFC 9112
    fastcgi  FastCGI Specification 1.0, sections 3 and 5
    scgi     https://python.ca/scgi/protocol.txt
    uwsgi    https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html
"""

import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from ipaddress import ip_address
from threading import Event, Timer
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from sdactivate.errors import UsageError

SECONDS = 10
"""How long a response is waited for."""
TIMED_OUT = "timed out"
"""What `Answer.error` has if none came."""
_CLOSED = "it closed the connection without a response"
_MOST = 1 << 16  # bytes of a response
_MOST_STEPS = 6
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
_FIELD = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[\t -~\x80-\xff]*)")
_TARGET = re.compile(r"[!-~]+")


class Page(NamedTuple):
    """An address, and the header fields to send."""

    scheme: str
    host: str
    port: int
    target: str
    """The path, with the query."""
    fields: tuple[tuple[str, str], ...] = ()
    hosts: tuple[str, ...] = ()
    """What to send as Host instead of the address's own."""

    @property
    def path(self) -> str:
        """The path without the query."""
        return self.target.partition("?")[0]

    @property
    def authority(self) -> str:
        """The host, with the port unless it is the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All header fields of the request."""
        hosts = [("Host", it) for it in self.hosts or (self.authority,)]
        names = {name.lower() for name, _ in self.fields}
        end = [] if "connection" in names else [("Connection", "close")]
        return [*hosts, *self.fields, *end]

    @property
    def url(self) -> str:
        """The address."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __str__(self) -> str:
        # For people, and for what they show to others: a query may have a secret
        return f"{self.scheme}://{self.authority}{self.path}{'?…' * ('?' in self.target)}"


class Answer(NamedTuple):
    """A response: its status and Location, or why there is none (status 0)."""

    status: int
    location: str = ""
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it is no error."""
        return 0 < self.status < 400

    def __str__(self) -> str:
        return str(self.status) if self.status else f"nothing ({self.error})"


class Visit(NamedTuple):
    """The pages that a client gets to from an address, by redirects, and the responses.

    Redirects to other hosts are not followed.
    """

    steps: tuple[tuple[Page, Answer], ...]

    @property
    def last(self) -> tuple[Page, Answer]:
        """The last page, and its response."""
        return self.steps[-1]


def page(url: str, fields: Iterable[str] = ()) -> Page:
    """Return the page at `url`; fields: header fields, as "NAME: VALUE".

    Raises UsageError for what is not the address of a page or not a header field. It does not have
    the text, which may be a secret.
    """
    try:
        found = urlsplit(url)
        host, port = (found.hostname or "").encode("idna").decode(), found.port
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    if found.scheme not in _PORTS or not host:
        raise UsageError("--url is not the address of a page: http://www.example.com/path")
    if found.username is not None:
        raise UsageError("--url with a login: give it as --header 'Authorization: Basic …'")
    target = f"{found.path or '/'}{'?' * bool(found.query)}{found.query}"
    if not _TARGET.fullmatch(target):
        raise UsageError("--url: write characters other than A-Z, a-z, 0-9 and the like with %")
    named = []
    for text in fields:
        if not (it := _FIELD.fullmatch(text)):
            name = re.split(r"[:\s]", text, maxsplit=1)[0]
            raise UsageError(f"--header {name!r} is not a header field: 'NAME: VALUE'")
        named.append((it["name"], it["value"]))
    hosts = tuple(value for name, value in named if name.lower() == "host")
    rest = tuple(it for it in named if it[0].lower() != "host")
    return Page(found.scheme, host, port or _PORTS[found.scheme], target, rest, hosts)


def visit(first: Page) -> Visit:
    """Ask a front for a page as a client of this host does, and follow its redirects."""
    steps: list[tuple[Page, Answer]] = []
    here: Page | None = first
    while here and len(steps) < _MOST_STEPS and here not in [it for it, _ in steps]:
        answer = of_front(here)
        steps.append((here, answer))
        here = redirected(here, answer)
        here = here if here and here.host == first.host else None
    return Visit(tuple(steps))


def redirected(here: Page, answer: Answer) -> Page | None:
    """Return the page that a response sends its client to; None if it is no redirect."""
    if answer.status not in _REDIRECTS or not answer.location:
        return None
    try:
        found = page(urljoin(here.url, answer.location.partition("#")[0]))
    except (UsageError, ValueError):
        return None
    same = found.host == here.host and (found.port == here.port or found.scheme == "https")
    return found._replace(fields=here.fields if same else ())


def of_front(it: Page) -> Answer:
    """Ask at this host's own address, or else where the name leads to."""
    return _answer(
        lambda: _encrypted(_by_port(_addresses(it.host), it.port), it),
        lambda sock: _by_http(sock, it),
    )


def of_application(it: Page, protocol: str, path: str, port: int) -> Answer:
    """Ask the application as a front does.

    protocol: http, fastcgi, scgi or uwsgi. path: its socket; port: its TCP port, if path is "".
    """
    connect = partial(_by_path, path) if path else partial(_by_port, _LOOPBACK, port)
    return _answer(connect, lambda sock: _SPEAKS[protocol](sock, it))


_LOOPBACK = ("127.0.0.1", "::1")


def _addresses(host: str) -> tuple[str, ...]:
    """Return where to ask: an address itself, and for a name this host first."""
    try:
        ip_address(host)
    except ValueError:
        return (*_LOOPBACK, host)
    return (host,)


def on_the_other_family(it: Page) -> str:
    """Return this host's other address, of IPv4 and IPv6, if something listens at it; else ""."""
    if it.host not in _LOOPBACK:
        return ""
    (other,) = {*_LOOPBACK} - {it.host}
    with suppress(OSError), _by_port((other,), it.port):
        return other
    return ""


def _by_port(addresses: Iterable[str], port: int) -> socket.socket:
    """Connect to the first address where something listens. Raises OSError of the first."""
    failed: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), SECONDS)
        except OSError as error:
            said = f"{address} port {port}: {error.strerror or error}"
            failed = failed or OSError(error.errno or 0, said)
    assert failed
    raise failed


def _by_path(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SECONDS)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _answer(connect: Callable[[], socket.socket], ask: Callable[[socket.socket], Answer]) -> Answer:
    late = Event()
    try:
        with connect() as sock:
            # A socket's own time limit is for each piece of a response
            timer = Timer(SECONDS, _end, (sock, late))
            timer.start()
            try:
                return ask(sock)
            finally:
                timer.cancel()
    except (OSError, HTTPException, ValueError, struct.error) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            return Answer(0, error=TIMED_OUT)
        if isinstance(error, RemoteDisconnected):
            return Answer(0, error=_CLOSED)
        if not isinstance(error, OSError):
            return Answer(0, error="what it sent is no response")
        return Answer(0, error=error.strerror or str(error))


def _end(sock: socket.socket, late: Event) -> None:
    late.set()
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _encrypted(sock: socket.socket, it: Page) -> socket.socket:
    if it.scheme != "https":
        return sock
    # The question is who answers what, not who may be trusted
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=it.host)


def _by_http(sock: socket.socket, it: Page) -> Answer:
    lines = [f"GET {it.target} HTTP/1.1", *(f"{name}: {value}" for name, value in it.headers)]
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    with HTTPResponse(sock) as response:
        response.begin()
        return Answer(response.status, response.getheader("Location", ""))


# -- the CGI-like protocols ------------------------------------------------------------------------


def _variables(it: Page) -> Iterator[tuple[str, str]]:
    """Yield the variables of a request (RFC 3875, section 4.1)."""
    path, _, query = it.target.partition("?")
    yield from {
        "CONTENT_LENGTH": "0",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": it.target,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": it.host,
        "SERVER_PORT": str(it.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "REQUEST_SCHEME": it.scheme,
        **({"HTTPS": "on"} if it.scheme == "https" else {}),
    }.items()
    for name, value in it.headers:
        yield f"HTTP_{name.upper().replace('-', '_')}", value


def _by_scgi(sock: socket.socket, it: Page) -> Answer:
    pairs = [*_variables(it), ("SCGI", "1")]
    content = b"".join(f"{name}\0{value}\0".encode("latin-1") for name, value in pairs)
    sock.sendall(b"%d:%b," % (len(content), content))
    return _of_cgi(_all(sock))


def _by_uwsgi(sock: socket.socket, it: Page) -> Answer:
    words = [word.encode("latin-1") for pair in _variables(it) for word in pair]
    content = b"".join(struct.pack("<H", len(word)) + word for word in words)
    sock.sendall(struct.pack("<BHB", 0, len(content), 0) + content)
    return _of_cgi(_all(sock))


_BEGIN, _END, _PARAMS, _STDIN, _STDOUT = 1, 3, 4, 5, 6


def _by_fastcgi(sock: socket.socket, it: Page) -> Answer:
    params = b""
    for pair in _variables(it):
        name, value = (word.encode("latin-1") for word in pair)
        params += _length(name) + _length(value) + name + value
    begin = struct.pack(">HB5x", 1, 0)  # a responder that closes the connection
    records = [(_BEGIN, begin), (_PARAMS, params), (_PARAMS, b""), (_STDIN, b"")]
    sock.sendall(b"".join(_record(kind, content) for kind, content in records))
    received, output = _all(sock), b""
    while len(received) >= 8:  # a record's header
        _, kind, _, length, padding, _ = struct.unpack(">BBHHBB", received[:8])
        if kind == _STDOUT:
            output += received[8 : 8 + length]
        if kind == _END:
            break
        received = received[8 + length + padding :]
    return _of_cgi(output)


def _length(word: bytes) -> bytes:
    return bytes([len(word)]) if len(word) < 128 else struct.pack(">I", len(word) | 1 << 31)


def _record(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBHHBB", 1, kind, 1, len(content), 0, 0) + content


def _all(sock: socket.socket) -> bytes:
    """Return what arrives until the end, up to the limit."""
    received = b""
    with suppress(TimeoutError):  # a response that goes on for ever has a header, too
        while len(received) < _MOST and (more := sock.recv(_MOST)):
            received += more
    return received


def _of_cgi(received: bytes) -> Answer:
    """Read a response of CGI (RFC 3875, section 6), or one with a status line, as uWSGI sends."""
    header = re.split(rb"\r?\n\r?\n", received, maxsplit=1)[0].decode("latin-1")
    first, *lines = header.split("\n")
    found = re.match(r"HTTP/1\.[01] (\d{3})", first)
    pairs = (line.partition(":") for line in (lines if found else [first, *lines]))
    fields = {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
    status = found[1] if found else fields.get("status", "")[:3]
    if not status.isdecimal() and not fields:
        return Answer(0, error=_CLOSED)
    location = fields.get("location", "")
    return Answer(int(status) if status.isdecimal() else 302 if location else 200, location)


_SPEAKS: Mapping[str, Callable[[socket.socket, Page], Answer]] = {
    "http": _by_http,
    "fastcgi": _by_fastcgi,
    "scgi": _by_scgi,
    "uwsgi": _by_uwsgi,
}
