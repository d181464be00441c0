"""WSGI (PEP 3333): call the application and turn what it returns into a response.

A `Response` is one exchange. It knows the rules of WSGI and of HTTP's bodies (which responses
have none, what Content-Length promises), and nothing of wires: for these it has a connection
that frames a head and pieces of a body. A response that is whole when the application returns
(a list, or Django's non-streaming kind) is sent in one write and the connection is let go
before the application's `close()` runs, so that the peer need not wait for it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Protocol

from sdactivate.runtime import log

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
}
_kinds: dict[str, int] = {}
_KINDS_LIMIT = 1024


def _kind(name: str) -> int:
    found = _KINDS_BY_NAME.get(name.lower(), 0)
    if len(_kinds) < _KINDS_LIMIT:
        _kinds[name] = found
    return found


# Statuses met so far, and whether a response with one has no body (RFC 9110, section 6.4.1)
_statuses: dict[str, bool] = {}
_STATUSES_LIMIT = 1024


def _look_at_status(status: str) -> bool:
    """Return whether a response with `status` has no body; raises ValueError for no status."""
    if not (
        isinstance(status, str)
        and status[:3].isdigit()
        and status[3:4] in (" ", "")
        and status.isprintable()
    ):
        raise ValueError(f"the status must be a str like '200 OK', not {status!r}")
    bodiless = status[:3] in ("204", "304") or status[0] == "1"
    if len(_statuses) < _STATUSES_LIMIT:
        _statuses[status] = bodiless
    return bodiless


class PeerGone(Exception):
    """The peer takes no more of the response: nothing is wrong here, and nobody is left to tell."""


class BodyError(OSError):
    """wsgi.input can't be read on: the peer left, fell silent, or broke its protocol.

    status: the answer it is due where the application does not catch this.
    """

    def __init__(self, reason: str, status: str) -> None:
        super().__init__(reason)
        self.status = status


class FileWrapper:
    """wsgi.file_wrapper (PEP 3333, "Optional Platform-Specific File Handling")."""

    def __init__(self, filelike: BinaryIO, blksize: int = 65536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def is_regular(self) -> bool:
        """Whether the kernel can copy it: a regular file behind a descriptor."""
        try:
            return stat.S_ISREG(os.fstat(self.filelike.fileno()).st_mode)
        except (AttributeError, OSError):  # io.UnsupportedOperation is an OSError
            return False

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


class Response:
    """One call of the application and the response to it."""

    _headers: Headers | None = None
    _status = ""
    head_sent = False
    close = False  # the application asked that the connection be closed
    bodiless = False  # HEAD, 1xx, 204, 304
    length: int | None = None  # what Content-Length says
    left: int | None = None  # how much of that is still due
    special = 0  # a bit for each kind of field that the application has set
    sent = 0  # bytes of body
    failed = False

    def __init__(self, connection: Carrier, environ: dict[str, Any]) -> None:
        self.connection = connection
        self.environ = environ

    # What the application calls

    def start_response(
        self, status: str, headers: Headers, exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's start_response; `exc_info` replaces what was not sent yet."""
        if exc_info is not None:
            try:
                if self.head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._headers is not None:
            raise AssertionError("start_response was called twice without exc_info")
        bodiless = _statuses.get(status)
        if bodiless is None:
            bodiless = _look_at_status(status)
        self.bodiless = bodiless
        self._status = status
        self._headers = headers
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body, behind the head if it is the first."""
        if not isinstance(data, bytes):
            if not isinstance(data, (bytearray, memoryview)):
                raise TypeError(f"the body must be bytes, not {type(data).__name__}")
            data = bytes(data)
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
                self._send_whole(result[0] if len(result) == 1 else b"".join(result))
            elif kind is FileWrapper and self.connection.raw_body and result.is_regular():
                self._send_file(result)
            elif not self.head_sent and getattr(result, "streaming", None) is False:
                # Django's way of saying that the content is at hand
                self._send_whole(b"".join(result))
            else:
                for piece in result:
                    self.write(piece)
                if not self.head_sent:
                    self._send_whole(b"")
                elif not self.left or self.bodiless:
                    self.connection.send_tail(self)
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
                    log.say_exception(f"{self.where()}: close() of the response failed", error)

    def _send_whole(self, body: bytes) -> None:
        """Send a response whose whole body is known."""
        if type(body) is not bytes:
            raise TypeError(f"the body must be bytes, not {type(body).__name__}")
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

    def _send_file(self, wrapper: FileWrapper) -> None:
        """Let the kernel copy a file to the connection."""
        file = wrapper.filelike
        descriptor = file.fileno()
        offset = file.tell()
        count = max(0, os.fstat(descriptor).st_size - offset)
        head = self._head(count)
        if not self.bodiless:
            if self.left is not None:
                count = min(count, self.left)
                self.left -= count
            self.sent = count
            self.connection.send_file(head, descriptor, offset, count)
        else:
            self.connection.send(head)
        if not self.left or self.bodiless:
            self.connection.send_tail(self)

    def _head(self, whole: int | None) -> bytes:
        """Return the head; `whole` is the length of the whole body where it is known."""
        headers, status = self._headers, self._status
        if headers is None:
            raise AssertionError("the application returned without calling start_response")
        if self.bodiless:
            whole = None  # such a response has no length of its own to tell
        elif self.environ["REQUEST_METHOD"] == "HEAD":
            self.bodiless = True
            whole = whole or None  # without a body it is not said how long GET's would be
        text = ""
        lines = 0
        for name, value in headers:
            kind = _kinds.get(name)
            if kind is None:
                kind = _kind(name)
            if kind:
                if kind is LENGTH:
                    if not value.isdigit():
                        raise ValueError(f"Content-Length: {value!r} is not a number of bytes")
                    self.length = self.left = int(value)
                elif kind is CONNECTION:
                    self.close = self.close or value.lower() == "close"
                    continue
                elif kind is HOP_BY_HOP:
                    continue
                self.special |= 1 << kind
            text += name + ": " + value + "\r\n"
            lines += 1
        if self.length is None and whole is not None:
            self.length = whole
            text += f"Content-Length: {whole}\r\n"
            lines += 1
        head = self.connection.head(status, text, self)
        # Every line break in it must be one of ours: counted, not searched for in each value
        if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
            raise ValueError(f"a response header has a line break or NUL in it: {headers!r}")
        self.head_sent = True
        return head

    def _within_length(self, data: bytes) -> bytes:
        """Hold a piece of the body to what Content-Length promised."""
        left = self.left
        if left is not None:
            if len(data) > left:
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
        """What was asked, and by whom, for the log. (The environ is the application's by now.)"""
        method, path = self._asked()
        return log.escape(f"{method} {path} from {self.connection.peer_name()}")

    def _asked(self) -> tuple[str, str]:
        environ = self.environ
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        return str(environ.get("REQUEST_METHOD", "?")), path

    def record(self, milliseconds: float) -> None:
        """Write this exchange's entry in the access log; docs/server.md has its fields."""
        method, path = self._asked()
        status = self._status[:3]
        log.record(
            f"{self.where()}: {status}, {self.sent} bytes, {milliseconds:.1f} ms",
            {
                "REQUEST_METHOD": method,
                "REQUEST_PATH": path,
                "REQUEST_PROTOCOL": self.connection.protocol,
                "REQUEST_MSEC": f"{milliseconds:.1f}",
                "RESPONSE_STATUS": status,
                "RESPONSE_BYTES": self.sent,
                "REMOTE_ADDR": self.environ.get("REMOTE_ADDR", ""),
                "PEER": self.connection.peer_name(),
            },
        )

    def _answer(self, status: str) -> None:
        """Answer with an error instead of the application, if nothing was sent yet."""
        self.failed = True
        if self.head_sent:
            return  # the connection is cut, and the peer sees a response that has no end
        self._status = status
        self._headers = [("Content-Type", "text/plain; charset=utf-8")]
        self.length = self.left = None
        self.special = 0
        self.bodiless = False
        try:
            self._send_whole(f"{status}\n".encode("ascii"))
        except PeerGone:
            pass
