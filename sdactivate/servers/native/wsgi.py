"""Call the application and check its response against WSGI's and HTTP's rules (PEP 3333).

A `Response` is one exchange. It knows the rules of WSGI and of HTTP's bodies (which responses have
none, what Content-Length promises), but nothing about protocols: a connection frames the head and
the pieces of the body. A response that is whole when the application returns (a list, or Django's
non-streaming kind) is sent in one write and the connection is let go before the application's
`close()` runs, so that the peer need not wait for it.
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

# Fields that the server sets itself or has to look at, by every spelling met so far
LENGTH, HOP_BY_HOP, CONNECTION, DATE, SERVER = 1, 2, 3, 4, 5
_KINDS_BY_NAME = {
    "content-length": LENGTH,
    "connection": CONNECTION,
    "date": DATE,
    "server": SERVER,
    # RFC 9110, section 7.6.1: the application has no say about one hop (PEP 3333)
    "keep-alive": HOP_BY_HOP,
    "proxy-authenticate": HOP_BY_HOP,
    "proxy-authorization": HOP_BY_HOP,
    "te": HOP_BY_HOP,
    "trailer": HOP_BY_HOP,
    "transfer-encoding": HOP_BY_HOP,
    "upgrade": HOP_BY_HOP,
    # RFC 3875, section 6.3.3: to a front that speaks CGI this is the status itself
    "status": HOP_BY_HOP,
}
# What applications say again and again is looked at once. A name or a status may hold what a
# client has sent: long ones are not kept, and when there are many all are dropped.
_KEPT = 1024
_LONGEST_KEPT = 64
_kinds: dict[str, int] = {}
# Whether a response with this status has no body (RFC 9110, section 6.4.1)
statuses: dict[str, bool] = {}

# RFC 9110, sections 5.6.2 and 5.5
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _keep(kept: dict[str, T], text: str, found: T) -> None:
    """Remember what was found out about `text`, unless it is long."""
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

    Raises TypeError or ValueError for what is not the status of a final response.
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
    if code < "500":  # what fails is looked at each time: `is_error`
        _keep(statuses, status, bodiless)
    return bodiless


def _keeps_length(value: str, first: int | None, status: str) -> bool:
    """Return whether a Content-Length that can't be taken as it is goes out at all.

    first: what an earlier one says. Raises ValueError for one that contradicts it, the status
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
    # Frameworks give what they take for an empty body this length, and a cache that believed it
    # of a 304 would keep an empty page
    return length > 0


class PeerGone(Exception):
    """The peer has stopped reading the response; this is not an error of the server."""


class BodyError(OSError):
    """wsgi.input can't be read: the peer disconnected, was too slow, or broke the protocol.

    status: the status of the answer if the application does not catch this.
    """

    def __init__(self, reason: str, status: str) -> None:
        super().__init__(reason)
        self.status = status


# An attribute in sysfs claims one page, which is this at most
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
        """Return what the kernel can copy in place of read(), None where only read() will do.

        Only Python's own binary files say by their descriptor what they say by read():
        GzipFile, for one, has the descriptor of the compressed file. Proxies of a file that
        hand out its read() (Django's File) are seen through.
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
        # /proc and /sys have files that say another size than they have, and no blocks
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
    """What a response asks of the connection that carries it."""

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


# What is said of a request in the log
_asked = itemgetter("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO")


class Response:
    """One call of the application and the response to it.

    The environ is the application's from the moment it is called (PEP 3333, "environ
    Variables"): what the server needs of the request is copied before.
    """

    _fields: str | None = None  # the lines of the application's headers
    _status = ""
    head_sent = False
    close = False  # the application asked that the connection be closed
    bodiless = False  # HEAD, 1xx, 204, 304
    length: int | None = None  # what Content-Length says
    left: int | None = None  # how much of that is still due
    special = 0  # a bit for each kind of field that the application has set
    sent = 0  # bytes of body
    failed = False
    is_error = False  # the application has said a status of 5xx
    _cut = False  # more than Content-Length has come, which is said once

    def __init__(self, connection: Carrier, environ: dict[str, Any]) -> None:
        self.connection = connection
        self.environ = environ
        self._asked = _asked(environ)
        self._client = environ.get("REMOTE_ADDR", "")

    # What the application calls

    def start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's start_response; `exc_info` replaces what was not sent yet.

        Raises TypeError or ValueError for a status or a header that must not be sent; then
        nothing was taken, and it can be called again.
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
            # Most values are printable, which is seen faster than what some may have besides
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
        """Send a piece of the body, behind the head if it is the first.

        Raises TypeError for what is not bytes or like bytes.
        """
        if type(data) is not bytes:
            data = b"".join((data,))  # what a list may have, and no more
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

        Whatever the application raises ends here: it is logged, and the peer is told with a
        plain 500 if the head has not gone out yet. A response that did not come to its end
        shows in the connection, which has then not been given its last piece or its tail.
        """
        result: Any = None
        try:
            result = application(self.environ, self.start_response)
            # What write() has begun goes on piece by piece
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
                # Django's way of saying that the content is at hand
                body = b"".join(result)
                if self.head_sent:  # the result has called write() meanwhile
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
        except BodyError as error:  # not the application's fault, and in the log already
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
        """Say that close() of what the application has returned has raised `error`."""
        log.say_exception(f"{self.where()}: close() of the response failed", error)

    def adopt(self, status: str, fields: str, length: int, special: int, sent: int) -> None:
        """Go on where the compiled twin leaves off: behind a start_response that was plain.

        fields: the lines of its headers. length: what Content-Length says, -1: nothing.
        sent: bytes of body of the whole response that has been sent, -1: none has.
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
            connection.send(connection.beginning(head, body))  # too short: run() says so
        else:
            connection.send_last(head, body, self)

    def _send_file(self, extent: Extent) -> bool:
        """Let the kernel copy a file to the connection.

        Returns False, and has sent nothing, where no descriptor is left for it.
        """
        descriptor, offset, count = extent
        try:
            own = os.dup(descriptor)  # the application closes its own when this returns
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
        """Return the head; `whole` is the length of the whole body where it is known."""
        text = self._fields
        if text is None:
            raise AssertionError("the application returned without calling start_response")
        if self.bodiless:
            whole = None  # such a response has no length of its own to tell
        elif self._asked[0] == "HEAD":
            self.bodiless = True
            whole = whole or None  # without a body it is not said how long GET's would be
        if self.length is None and whole is not None:
            self.length = whole
            text += f"Content-Length: {whole}\r\n"
        head = self.connection.head(self._status, text, self)
        self.head_sent = True
        return head

    def _within_length(self, data: bytes) -> bytes:
        """Hold a piece of the body to what Content-Length promised."""
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
        """What was asked, and by whom, for the log."""
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
            return  # the connection is cut, and the peer sees a response that has no end
        self._status = status
        self._fields = "Content-Type: text/plain; charset=utf-8\r\n"
        self.length = self.left = None
        self.special = 0
        self.bodiless = False
        try:
            self._send_whole(f"{status}\n".encode("ascii"))
        except PeerGone:
            pass
