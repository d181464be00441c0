"""FastCGI connections: keep-alive, one request at a time, responder role only."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from sdactivate import log
from sdactivate.servers.native import cgi_environ, twin
from sdactivate.servers.native.accel import module
from sdactivate.servers.native.connection import CHUNK, COPY, Owner
from sdactivate.servers.native.held_bodies import Read, Upload
from sdactivate.servers.native.keepalive import KeepAlive
from sdactivate.servers.native.pending_output import FileRange, Piece
from sdactivate.servers.native.shut_idle import send_if_silent
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wire import fastcgi as wire
from sdactivate.servers.native.wsgi import PeerGone, Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


responder = twin.responder()

SMALLEST_RECORD = 4096
"""Records with less content are cheaper to read many at a time and to split afterwards."""


class FastCgi(KeepAlive):
    """A connection's requests, one at a time (FCGI_MPXS_CONNS=0)."""

    protocol = "fastcgi"
    raw_body = True  # in records, whose heads are made when they are sent
    # The module with Parser, stream and end_response, which `--server flup` replaces
    codec: ClassVar[Any] = wire
    has_twin = module is not None

    _parser: wire.Parser
    request: wire.Request
    # The request after whose response the front was asked to close the connection
    _asked_behind: wire.Request | None = None

    def __init__(self, server: Owner, fd: int, address: Any) -> None:
        super().__init__(server, fd, address)
        self._parser = parser = self.codec.Parser(
            server.settings.header_bytes, server.fastcgi_values
        )
        if self.has_twin and not isinstance(address, tuple):
            parser.plain = server.variables.fastcgi

    # Requests in

    def feed(self, data: bytes) -> None:
        parser = self._parser
        parser.feed(data)
        if parser.replies:
            replies, parser.replies = parser.replies, bytearray()
            self.post(bytes(replies))

    def prepare(self, request: wire.Request) -> None:
        if not request.is_plain:
            assert request.variables is not None
            variables = request.variables
            if type(self.address) is tuple:  # on TCP or vsock
                variables = self.server.trust.believed_of(variables, self.address)
            request.environ = cgi_environ.environ(variables, self.server.base)
        environ = request.environ
        environ["wsgi.errors"] = Errors(self)
        length = environ.get("CONTENT_LENGTH")
        if length is not None:
            size = int(length)
            request.expect(size)
            self.server.check_length(size)

    def _hear(self) -> None:
        """Read what the front has sent while a response is sent piece by piece.

        It may have aborted the request, and then keeps the connection (section 5.4). That raises
        PeerGone, after the request is ended.
        """
        request, parser = self.request, self._parser
        if parser.requests or sum(map(len, request.body)) >= self.server.settings.body_buffer:
            return  # more would exceed what may be buffered of a body
        try:
            data = os.read(self.fd, CHUNK)
            if data:
                self.feed(data)
        except BlockingIOError:
            return
        except OSError as error:
            raise PeerGone from error
        except Malformed as error:
            log.say(log.WARNING, f"{self.peer_name()}: {log.escape(error)}; connection closed")
            raise PeerGone from error
        if request.aborted:
            self._end(request)
            raise PeerGone("the front has aborted the request")

    @property
    def in_body(self) -> bool:
        content, length, _, _ = self._parser.body_record
        room = 0 if self.upload is None else self.upload.room
        return 0 < content <= room and length >= SMALLEST_RECORD

    def fill(self, upload: Upload) -> Read:
        content, length, padding, head = self._parser.body_record
        return upload.receive_records(self.fd, content, length, padding + len(head), head)

    # Responses out

    def response(self, environ: dict[str, Any]) -> Any:
        request = self.request
        if not (self.has_twin and request.complete):
            return Response(self, environ)
        after = module.KEEP if request.keep_alive else module.SETTLE
        return responder.exchange(
            self, environ, self.server.loop, module.FASTCGI, after, request.id
        )

    def frame(self, data: bytes) -> bytes:
        self._hear()
        framed: bytes = self.codec.stream(wire.STDOUT, self.request.id, data)
        return framed

    def beginning(self, head: bytes, data: bytes) -> bytes:
        return self.frame(head + data)  # the head is part of the stream

    def send_last(self, head: bytes, body: bytes, response: Response) -> None:
        request, codec = self.request, self.codec
        if len(body) < COPY:
            content = codec.stream(wire.STDOUT, request.id, head + body)
            if self.server.loop.draining:
                self._send_end(request, content + codec.end_response(request.id))
            else:
                self._parser.answered(request)
                self.post(content + codec.end_response(request.id))
            if request.keep_alive and self.output is None:
                self.done = True  # there is nothing to settle
                return
        elif self.server.draining:
            self.post_pieces(self.body_pieces(head, memoryview(body)), body)
            self._send_end(request, codec.end_response(request.id))
        else:
            self._parser.answered(request)  # not sent yet, but complete
            end = (memoryview(codec.end_response(request.id)),)
            self.post_pieces(chain(self.body_pieces(head, memoryview(body)), end), body)
        self.finish()

    def send_tail(self, response: Response) -> None:
        self._end(self.request)

    def _end(self, request: wire.Request) -> None:
        self._send_end(request, self.codec.end_response(request.id))
        self.finish()

    def _send_end(self, request: wire.Request, data: bytes) -> None:
        """Send the last bytes of a response. Raises PeerGone.

        FastCGI can't say that a response is the last one. So at a stop the bytes end with a record
        that makes nginx close the connection instead of keeping it. For other peers the connection
        is shut for reading before these bytes are sent, while the peer silently waits for its
        answer, and closed right after them: whatever it sends later is refused from the first byte
        on.
        """
        self._parser.answered(request)
        if self.server.draining and request.keep_alive and self._parser.idle:
            data += wire.closing(request.id)
            self._asked_behind = request
            sent = send_if_silent(self.fd, data) if self.output is None else None
            if sent is not None:
                request.keep_alive = False
                if sent == len(data):
                    return
                data = data[sent:]
        self.post(data)

    def ask_to_close(self) -> None:
        request = self.request
        if request is self._asked_behind or not self._poll(select.POLLOUT, 0):
            return
        self._asked_behind = request
        with suppress(OSError):  # if it has ended, that is read as usual
            os.write(self.fd, wire.closing(request.id))

    def body_pieces(self, head: bytes, body: memoryview | FileRange) -> Iterator[Piece]:
        number = self.request.id
        yield memoryview(self.codec.stream(wire.STDOUT, number, head))
        for at in range(0, len(body), wire.LONGEST):
            piece = body[at : at + wire.LONGEST]
            yield memoryview(wire.head(wire.STDOUT, number, len(piece)))
            yield piece

    def settle(self) -> None:
        request = self.request
        if not request.keep_alive:
            if request.complete:
                self.close()
            else:
                self.linger()

    def answer(self, status: str) -> None:
        request = self._parser.current
        if request is None:
            return  # nothing to answer: no request has begun
        stdout: bytes = self.codec.stream(wire.STDOUT, request.id, self.plain(status))
        self.send_now(stdout + self.codec.end_response(request.id))


class Errors:
    """wsgi.errors of one request: to the log, and to the front as FCGI_STDERR (section 5.3)."""

    __slots__ = ("_connection", "_request")

    def __init__(self, connection: FastCgi) -> None:
        self._connection = connection
        self._request = connection.request

    def write(self, text: str) -> int:
        request = self._request
        self._connection.server.base["wsgi.errors"].write(text)
        if not request.answered and text:
            content = text.encode("utf-8", "backslashreplace")
            try:
                self._connection.send(
                    self._connection.codec.stream(wire.STDERR, request.id, content)
                )
            except PeerGone:
                pass  # it is in the log
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""
