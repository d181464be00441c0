"""Call the application and check its response against WSGI's and HTTP's rules (PEP 3333).

A `Response` is one exchange. It enforces the rules of WSGI and of HTTP's bodies (which responses
have none, what Content-Length promises), but knows nothing about protocols: a connection frames the
head and the pieces of the body. A response that is complete when the application returns (a list,
or Django's non-streaming kind) is sent in one write, and the connection is released before the
application's `close()` runs, so that the peer need not wait for it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable
from io import BufferedRandom, BufferedReader, FileIO
from operator import itemgetter
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

from sdactivate import log

T = TypeVar("T")
Headers = list[tuple[str, str]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Kinds of fields that the server sets itself or must interpret
LENGTH, HOP_BY_HOP, CONNECTION, DATE, SERVER = 1, 2, 3, 4, 5
_KINDS_BY_NAME = {
    "content-length": LENGTH,
    "connection": CONNECTION,
    "date": DATE,
    "server": SERVER,
    # RFC 9110, section 7.6.1: applications must not set hop-by-hop fields (PEP 3333)
    "keep-alive": HOP_BY_HOP,
    "proxy-authenticate": HOP_BY_HOP,
    "proxy-authorization": HOP_BY_HOP,
    "te": HOP_BY_HOP,
    "trailer": HOP_BY_HOP,
    "transfer-encoding": HOP_BY_HOP,
    "upgrade": HOP_BY_HOP,
    # RFC 3875, section 6.3.3: a front that speaks CGI would take it as the status
    "status": HOP_BY_HOP,
}
# Caches of names and statuses that were checked. They may contain text from a client: long ones are
# not cached, and a cache is cleared when it is full.
_KEPT = 1024
_LONGEST_KEPT = 64
_kinds: dict[str, int] = {}
# Whether a response with this status has no body (RFC 9110, section 6.4.1)
statuses: dict[str, bool] = {}

# RFC 9110, sections 5.6.2 and 5.5
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _keep(kept: dict[str, T], text: str, found: T) -> None:
    """Cache the result `found` for `text`, unless `text` is long."""
    if len(text) <= _LONGEST_KEPT and type(text) is str:
        if len(kept) >= _KEPT:
            kept.clear()
        kept[text] = found


def kind_of(name: str) -> int:
    """Return the kind of a field by its name, 0 for most.

    Raises TypeError for a name that is not a str, ValueError for one that is not a token.
    """
    if not isinstance(name, str):
        raise TypeError(f"response header {name!r}: the name must be a str")
    if not _TOKEN.fullmatch(name):
        raise ValueError(
            f"response header {name!r}: the name must be a token (RFC 9110, section 5.6.2): "
            "letters, digits and !#$%&'*+-.^_`|~"
        )
    found = _KINDS_BY_NAME.get(name.lower(), 0)
    _keep(_kinds, name, found)
    return found


def check_field(name: str, value: str) -> None:
    """Raise TypeError or ValueError for a response header that must not be sent.

    The name must be a token; the value must be a str of latin-1 characters (PEP 3333) and must
    not have control characters other than a tab (RFC 9110, section 5.5).
    """
    kind_of(name)
    if not isinstance(value, str):
        raise TypeError(f"response header {name!r}: the value must be a str, not {value!r}")
    if found := _CONTROLS.search(value):
        raise ValueError(
            f"response header {name!r}: the value {value!r} has the control character {found[0]!r}"
        )


def check_encoding(lines: str) -> None:
    """Raise ValueError for the first of these headers that is not latin-1 (PEP 3333)."""
    try:
        lines.encode("latin-1")
    except UnicodeEncodeError as error:
        line = lines[lines.rfind("\n", 0, error.start) + 1 : lines.find("\r", error.start)]
        name, _, value = line.partition(": ")
        raise ValueError(
            f"response header {name!r}: the value {value!r} has characters outside latin-1 "
            "(PEP 3333); encode them first"
        ) from None


def _look_at_status(status: str) -> bool:
    """Return whether a response with `status` has no body.

    Raises TypeError or ValueError if it is not the status of a final response.
    """
    if not isinstance(status, str):
        raise TypeError(f"the status must be a str like '200 OK', not {status!r}")
    code = status[:3]
    if not (code.isascii() and code.isdigit() and len(code) == 3 and status[3:4] in (" ", "")):
        raise ValueError(f"the status must be a str like '200 OK', not {status!r}")
    if code < "200":
        raise ValueError(
            f"the status {status!r} is not that of a final response (RFC 9110, section 15): "
            "the first digit must be 2 to 5; 103 is sent by environ['wsgi.early_hints']"
        )
    if _CONTROLS.search(status) or max(status) > "\xff":
        raise ValueError(f"the status {status!r} has characters that a status must not have")
    bodiless = code in ("204", "304")
    if code < "500":  # errors are not cached: each one must set `is_error`
        _keep(statuses, status, bodiless)
    return bodiless


def _keeps_length(value: str, first: int | None, status: str) -> bool:
    """Return whether to send a Content-Length; called for those that may be invalid.

    first: the value of an earlier one. Raises ValueError if it contradicts that one or the status
    (RFC 9110, section 8.6), or is not a number.
    """
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Content-Length: {value!r} is not a number of bytes")
    length = int(value)
    if first is not None:
        if first != length:
            raise ValueError(f"Content-Length: {value} after another one: {first}")
        return False
    if length and status[:3] == "204":
        raise ValueError(
            f"Content-Length: {value}, but a response with status {status} has no body"
        )
    # Frameworks send 0 for what they consider an empty body; with a 304, a cache that trusted it
    # would store an empty page
    return length > 0


class PeerGone(Exception):
    """The `write` of start_response: the peer accepts no more of the response.

    The server handles it: an application need not catch it.
    """


class BodyError(OSError):
    """Reading wsgi.input: the peer closed, was silent too long, or violated its protocol.

    status: the status line that the peer gets if the application does not catch this.
    """

    def __init__(self, reason: str, status: str) -> None:
        super().__init__(reason)
        self.status = status


# A sysfs attribute reports a size of one page, which is at most this
_PSEUDO = 65536


class Extent(NamedTuple):
    """`length` bytes of a regular file, from `offset` on."""

    descriptor: int
    offset: int
    length: int


class FileWrapper:
    """wsgi.file_wrapper (PEP 3333, "Optional Platform-Specific File Handling")."""

    def __init__(self, filelike: BinaryIO, blksize: int = 65536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def extent(self) -> Extent | None:
        """Return what the kernel can copy instead of read(), None if read() is necessary.

        Only for Python's own binary files does the descriptor give the same bytes as read():
        GzipFile, for example, has the descriptor of the compressed file. A proxy that exposes the
        file's own read() (Django's File) is resolved.
        """
        try:
            file: Any = self.filelike.read.__self__  # type: ignore[attr-defined]
            raw = file.raw if type(file) in (BufferedReader, BufferedRandom) else file
            if type(raw) is not FileIO or not raw.readable():
                return None
            descriptor = raw.fileno()
            found = os.fstat(descriptor)
            offset = file.tell()
        except (AttributeError, OSError, ValueError):
            return None
        # Files in /proc and /sys report a wrong size, and no blocks
        told = found.st_blocks or found.st_size > _PSEUDO
        if not stat.S_ISREG(found.st_mode) or not told or found.st_size <= offset:
            return None
        return Extent(descriptor, offset, found.st_size - offset)

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        if data := self.filelike.read(self.blksize):
            return data
        raise StopIteration


class Carrier(Protocol):
    """What a response needs of the connection that carries it."""

    protocol: str
    raw_body: bool

    def head(self, status: str, fields: str, response: Response) -> bytes: ...
    def beginning(self, head: bytes, data: bytes) -> bytes: ...
    def frame(self, data: bytes) -> bytes: ...
    def send(self, data: bytes) -> None: ...
    def send_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None: ...
    def send_last(self, head: bytes, body: bytes, response: Response) -> None: ...
    def send_tail(self, response: Response) -> None: ...
    def peer_name(self) -> str: ...


# The variables that the log shows of a request
_asked = itemgetter("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO")


class Response:
    """One call of the application and the response to it.

    The application may change the environ once it is called (PEP 3333, "environ Variables"), so
    what the server needs of the request is copied before.
    """

    _fields: str | None = None  # the lines of the application's headers
    _status = ""
    head_sent = False
    close = False  # the application asked to close the connection
    bodiless = False  # HEAD, 204, 304
    length: int | None = None  # the value of Content-Length
    left: int | None = None  # bytes of it that are not sent yet
    special = 0  # a bit for each kind of field that the application has set
    sent = 0  # bytes of body
    failed = False
    is_error = False  # the application has set a status of 5xx
    _cut = False  # whether an excess over Content-Length was logged

    def __init__(self, connection: Carrier, environ: dict[str, Any]) -> None:
        self.connection = connection
        self.environ = environ
        self._asked = _asked(environ)
        self._client = environ.get("REMOTE_ADDR", "")

    # What the application calls

    def start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's start_response; with `exc_info` it replaces what was not sent yet.

        Raises TypeError or ValueError for a status or a header that must not be sent; then
        nothing has changed, and it can be called again.
        """
        if exc_info is not None:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
            self._fields = self.length = self.left = None
            self.special = 0
            self.close = self.is_error = False
        elif self._fields is not None:
            raise AssertionError("start_response was called twice without exc_info")
        bodiless = statuses.get(status)
        if bodiless is None:
            bodiless = _look_at_status(status)
            self.is_error = status >= "5"
        kinds = _kinds
        text = ""
        length = None
        special = 0
        for name, value in headers:
            # Most values are printable, which is a faster check than the full one
            if type(value) is not str or not value.isprintable():
                check_field(name, value)
            kind = kinds.get(name)
            if kind is None:
                kind = kind_of(name)
            if kind:
                if kind is LENGTH:
                    if (length is not None or bodiless or not value.isdecimal()) and (
                        not _keeps_length(value, length, status)
                    ):
                        continue
                    length = int(value)
                elif kind is CONNECTION:
                    self.close = self.close or value.lower() == "close"
                    continue
                elif kind is HOP_BY_HOP:
                    continue
                special |= 1 << kind
            text += name + ": " + value + "\r\n"
        if not text.isascii():
            check_encoding(text)
        if length is not None:
            self.length = self.left = length
        if special:
            self.special = special
        # RFC 9112, section 4: the space is not optional
        self._status = status if len(status) > 3 else status + " "
        self.bodiless = bodiless
        self._fields = text
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body, after the head if it is the first.

        Raises TypeError if it is not a bytes-like object.
        """
        if type(data) is not bytes:
            data = b"".join((data,))  # accepts the same types as the join of a list
        if not data:
            return
        connection = self.connection
        if not self.head_sent:
            head = self._head(None)
            data = self._within_length(data) if not self.bodiless else b""
            connection.send(connection.beginning(head, data))
        elif not self.bodiless:
            data = self._within_length(data)
            if data:
                connection.send(connection.frame(data))

    # What the server calls

    def run(self, application: Application) -> None:
        """Call the application and send its response.

        Any exception of the application is handled here: it is logged, and the peer gets a plain
        500 if the head was not sent yet. After an incomplete response, the connection has not been
        given the last piece or the tail, and so notices it.
        """
        result: Any = None
        try:
            result = application(self.environ, self.start_response)
            # A response that write() has begun continues piece by piece
            kind = type(result) if not self.head_sent else None
            if kind is list or kind is tuple:
                self._send_whole(b"".join(result))
            elif (
                kind is FileWrapper
                and self.connection.raw_body
                and (extent := result.extent()) is not None
                and self._send_file(extent)
            ):
                pass
            elif not self.head_sent and getattr(result, "streaming", None) is False:
                # A Django response whose content is available
                body = b"".join(result)
                if self.head_sent:  # iterating the result has called write()
                    self._send_pieces([body])
                else:
                    self._send_whole(body)
            else:
                self._send_pieces(result)
            if self.left and not self.bodiless:
                raise ValueError(
                    f"the application promised {self.length} bytes in Content-Length "
                    f"and returned {self.sent}"
                )
        except PeerGone:
            pass
        except BodyError as error:  # not the application's fault, and logged already
            self._answer(error.status)
        except BaseException as error:  # SystemExit too: no request may end the worker
            log.say_exception(self.where(), error)
            self._answer("500 Internal Server Error")
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException as error:
                    self.close_failed(error)

    def close_failed(self, error: BaseException) -> None:
        """Log that close() of the application's result has raised `error`."""
        log.say_exception(f"{self.where()}: close() of the response failed", error)

    def adopt(self, status: str, fields: str, length: int, special: int, sent: int) -> None:
        """Continue where the compiled twin stops: after a plain start_response.

        fields: the lines of its headers. length: the value of Content-Length, -1: none. sent: bytes
        of the body, if the whole response has been sent, else -1.
        """
        self._status = status
        self._fields = fields
        self.special = special
        if length >= 0:
            self.length = self.left = length
        if sent >= 0:
            self.head_sent = True
            self.length = self.sent = sent
            self.left = 0

    def _send_pieces(self, pieces: Iterable[bytes]) -> None:
        """Send a response piece by piece, or what is left of one."""
        for piece in pieces:
            self.write(piece)
            if self.left == 0 or self.bodiless:
                break  # PEP 3333, "Handling the Content-Length Header"
        if not self.head_sent:
            self._send_whole(b"")
        elif not self.left or self.bodiless:
            self.connection.send_tail(self)

    def _send_whole(self, body: bytes) -> None:
        """Send a response whose whole body is known."""
        connection = self.connection
        head = self._head(len(body))
        if self.bodiless:
            connection.send_last(head, b"", self)
            return
        if self.left is not None and self.left != len(body):
            body = self._within_length(body)
        else:
            self.left = 0
            self.sent = len(body)
        if self.left:
            connection.send(connection.beginning(head, body))  # too short, which run() logs
        else:
            connection.send_last(head, body, self)

    def _send_file(self, extent: Extent) -> bool:
        """Have the kernel copy a file to the connection.

        Returns False, without sending anything, if no descriptor is left for it.
        """
        descriptor, offset, count = extent
        try:
            own = os.dup(descriptor)  # the application closes its descriptor when we return
        except OSError:
            return False
        try:
            head = self._head(count)
        except BaseException:
            os.close(own)
            raise
        if not self.bodiless:
            if self.left is not None:
                count = min(count, self.left)
                self.left -= count
            self.sent = count
            self.connection.send_file(head, own, offset, count)
        else:
            os.close(own)
            self.connection.send(self.connection.beginning(head, b""))
        if not self.left or self.bodiless:
            self.connection.send_tail(self)
        return True

    def _head(self, whole: int | None) -> bytes:
        """Return the head; `whole` is the length of the whole body, None if unknown."""
        text = self._fields
        if text is None:
            raise AssertionError("the application returned without calling start_response")
        if self.bodiless:
            whole = None  # such a response gets no Content-Length
        elif self._asked[0] == "HEAD":
            self.bodiless = True
            whole = whole or None  # an empty body says nothing about the length for GET
        if self.length is None and whole is not None:
            self.length = whole
            text += f"Content-Length: {whole}\r\n"
        head = self.connection.head(self._status, text, self)
        self.head_sent = True
        return head

    def _within_length(self, data: bytes) -> bytes:
        """Return a piece of the body, truncated so that the body does not exceed Content-Length."""
        left = self.left
        if left is not None:
            if len(data) > left:
                if not self._cut:
                    self._cut = True
                    log.say(
                        log.WARNING,
                        f"{self.where()}: the application returned more than the {self.length} "
                        "bytes of its Content-Length; the rest is cut off",
                    )
                data = data[:left]
            self.left = left - len(data)
        self.sent += len(data)
        return data

    def where(self) -> str:
        """The request and its peer, for the log."""
        method, mount, path = self._asked
        return log.escape(f"{method} {mount}{path} from {self.connection.peer_name()}")

    def say_error(self, began: float) -> None:
        """Write a line that the application has answered 5xx.

        Django turns an exception into a 500 response, and with DEBUG off its default LOGGING does
        not log it. began: when the application was called, on the monotonic clock.
        """
        said = f"{self.where()}: answered {log.escape(self._status)}"
        if log.is_silent(began):
            whose = "Django's LOGGING" if "django" in sys.modules else "its logging"
            said += (
                "; the application has written nothing to standard error about it. Set up "
                f"{whose}: docs/troubleshooting.md, 'A 500 and nothing in the journal'"
            )
        log.say(log.ERROR, said)

    def record(self, milliseconds: float) -> None:
        """Write this exchange's entry in the access log; docs/server.md has its fields."""
        method, mount, path = self._asked
        status = self._status[:3]
        log.record(
            f"{self.where()}: {status}, {self.sent} bytes, {milliseconds:.1f} ms",
            {
                "REQUEST_METHOD": method,
                "REQUEST_PATH": f"{mount}{path}",
                "REQUEST_PROTOCOL": self.connection.protocol,
                "REQUEST_MSEC": f"{milliseconds:.1f}",
                "RESPONSE_STATUS": status,
                "RESPONSE_BYTES": self.sent,
                "REMOTE_ADDR": self._client,
                "PEER": self.connection.peer_name(),
            },
        )

    def _answer(self, status: str) -> None:
        """Answer with an error instead of the application, if nothing was sent yet."""
        self.failed = True
        if self.head_sent:
            return  # the connection is closed, and the peer sees an incomplete response
        self._status = status
        self._fields = "Content-Type: text/plain; charset=utf-8\r\n"
        self.length = self.left = None
        self.special = 0
        self.bodiless = False
        try:
            self._send_whole(f"{status}\n".encode("ascii"))
        except PeerGone:
            pass
