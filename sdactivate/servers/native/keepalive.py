"""The common part of HTTP and FastCGI connections: many requests on one connection.

A request gets a thread when its body has arrived: applications rely on CONTENT_LENGTH and treat a
missing one as zero, and the length of a chunked body is known only at its end. A body of known
length that is larger than `body_buffer` may be streamed instead (`stream`).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Protocol

from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.held_bodies import Upload
from sdactivate.servers.native.input_stream import stream
from sdactivate.servers.native.wire import Malformed, Message
from sdactivate.servers.native.wsgi import PeerGone, Response


class Parser(Protocol):
    """What a persistent connection needs from its protocol's parser."""

    requests: list[Any]
    idle: bool

    def feed(self, data: bytes) -> None: ...
    def body_read(self, count: int) -> None: ...


class KeepAlive(Connection):
    """A connection whose requests come one after the other."""

    resting = True  # the next byte from the peer begins a request
    _head: bytes | bytearray = b""  # the possible beginning of a PROXY header
    _timed = False  # whether the deadline for a header is set
    _malformed: Malformed | None = None  # an error after a request whose response is being sent
    request: Any = None  # the request that is being served, or waits for its body

    _parser: Parser

    # What each protocol implements

    def feed(self, data: bytes) -> None:
        """Parse bytes from the peer. Raises Malformed, PeerGone."""
        raise NotImplementedError

    def prepare(self, request: Any) -> None:
        """Build the environ, without wsgi.input, of a request whose header is now complete.

        Raises Malformed.
        """
        raise NotImplementedError

    def send_continue(self) -> None:
        """Tell the peer to send the body that it holds back. Raises PeerGone."""

    def response(self, environ: dict[str, Any]) -> Any:
        """Return the object that calls the application with `environ` and answers the request."""
        return Response(self, environ)

    def respond(self, environ: dict[str, Any]) -> None:
        """Answer the request whose environ is complete."""
        self.server.respond(self.response(environ))

    # Turns

    @property
    def idle(self) -> bool:
        return self._parser.idle

    def received(self, data: bytes) -> None:
        self.resting = False
        malformed = self._malformed
        try:
            if data:
                try:
                    self.feed(data)
                except Malformed as error:
                    malformed = error  # complete requests before it are served first
            parser = self._parser
            while parser.requests:
                request = parser.requests[0]
                if request is not self.request:
                    self.request = request
                    if self.upload is not None:
                        self._drop_upload()
                    self.prepare(request)
                if not request.complete:
                    if malformed is not None:
                        break
                    if not self._is_streamed(request):
                        self.wait_for_more(self._collect(request, len(data)))
                        return
                del parser.requests[0]
                self._timed = False
                self._serve(request)
                if self.fd < 0 or self._lingered >= 0:
                    return
                if self.output is not None:
                    self._malformed = malformed
                    self.wait_to_send()
                    return
            if malformed is not None:
                raise malformed
        except Malformed as error:
            self.refuse(error)
            return
        except PeerGone:
            self.close()
            return
        settings = self.server.settings
        if self.output is not None:
            self.wait_to_send()
        elif parser.idle:
            self._timed = False
            if self.upload is not None:
                self._drop_upload()  # its request was aborted
            self.resting = not self._head
            self.wait(settings.keepalive_timeout)
        elif not self._timed:
            # The deadline stays the same when more of the same header arrives
            self._timed = True
            self.wait(settings.header_timeout)

    def filled(self, count: int, behind: bytes) -> None:
        self._parser.body_read(count)
        upload = self.upload
        if behind or upload is None or not upload.room:
            KeepAlive.received(self, behind)
            return
        try:
            self.wait_for_more(upload)
        except Malformed as error:
            self.refuse(error)

    def resume(self) -> None:
        KeepAlive.received(self, b"")

    def served(self) -> None:
        """Continue after a response that the compiled twin has not finished."""
        self._end_response()
        if self.fd >= 0 and self._lingered < 0:
            self.resume()

    def expired(self) -> None:
        if self._parser.idle:
            self.close()
        else:
            self.refuse(self.too_late())

    def _is_streamed(self, request: Any) -> bool:
        """Whether the application is called before the request's body is complete."""
        length: int | None = request.length
        if length is None or not self.server.is_streamed(request.environ):
            return False
        return length > self.server.settings.body_buffer or bool(request.awaits_continue)

    def _collect(self, request: Message, came: int) -> Upload:
        """Store the part of a body that has arrived. Raises Malformed, PeerGone."""
        if request.awaits_continue:
            request.awaits_continue = False
            self.send_continue()
        if request.length is None:
            self.server.check_length(request.received)
        upload = self.collect(request.body, came, request.length)
        request.body.clear()
        return upload

    def _drop_upload(self) -> None:
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.close()

    def _serve(self, request: Any) -> None:
        environ: dict[str, Any] = request.environ
        self.done = False
        if request.complete and request.length is None:
            request.length = request.received
        if request.length == 0:
            environ["wsgi.input"] = BytesIO()
        elif request.complete:
            if request.received < request.length:
                raise Malformed(f"{self.protocol}: the body is shorter than its CONTENT_LENGTH")
            self.server.check_length(request.length)  # a chunked body's length is known only now
            if self.upload is None:
                environ["wsgi.input"] = BytesIO(b"".join(request.body))
            else:
                came = sum(map(len, request.body))
                upload = self.collect(request.body, came, request.length)
                environ["wsgi.input"] = upload.reader()
            request.body.clear()
            environ["CONTENT_LENGTH"] = str(request.length)
        else:
            self._streamed, self._waited = 0, 0.0
            environ["wsgi.input"] = stream(self._pull, self.peer_name)
        self.respond(environ)
        if self.upload is not None:
            self._drop_upload()
        self._end_response()

    def _end_response(self) -> None:
        if not self.done:
            # The response is incomplete: close, so that the peer notices
            if self.output is None:
                self.close()
            else:
                self.then = self.close

    def _pull(self) -> bytes:
        """Return the next bytes of the streamed body, b"" at its end."""
        request: Message = self.request
        try:
            while not request.body and not request.complete:
                if request.awaits_continue:
                    request.awaits_continue = False
                    self.send_continue()
                self.feed(self.read())
        except Malformed:
            request.keep_alive = False
            raise
        if request.aborted:
            raise PeerGone("the peer has aborted the request")
        if request.complete and request.received < (request.length or 0):
            raise Malformed(f"{self.protocol}: the body is shorter than its CONTENT_LENGTH")
        data = b"".join(request.body)
        request.body.clear()
        return data
