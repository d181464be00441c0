"""What HTTP and FastCGI share: one connection, many requests, bodies that arrive with them.

A request takes a thread when there is something for it to do: when its body has arrived, or
is larger than `body_buffer` and is better streamed. A body whose length is known only at its
end (chunked) is collected first, beyond the buffer in a temporary file, for applications go by
CONTENT_LENGTH and take a missing one for zero.
"""

from __future__ import annotations

import contextlib
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from sdactivate.servers.native.connection import Connection, Owner
from sdactivate.servers.native.input_stream import stream
from sdactivate.servers.native.wire import Malformed, Message
from sdactivate.servers.native.wsgi import PeerGone, Response

if TYPE_CHECKING:
    from collections.abc import Callable


class Parser(Protocol):
    """What a persistent connection needs of its protocol's parser."""

    requests: list[Any]
    idle: bool

    def feed(self, data: bytes) -> None: ...


class KeepAlive(Connection):
    """A connection whose requests come one after the other."""

    _timed = False  # the deadline of a header runs
    request: Any = None  # the one that is being served, or waits for its body

    def __init__(self, server: Owner, fd: int, address: Any, parser: Parser) -> None:
        super().__init__(server, fd, address)
        self._parser = parser
        # Takes bytes from the peer; raises Malformed, PeerGone
        self.feed: Callable[[bytes], None] = parser.feed

    # What each protocol gives

    def prepare(self, request: Any) -> None:
        """Make the environ of a request whose header has just become complete, but for its body.

        Raises Malformed.
        """
        raise NotImplementedError

    def send_continue(self) -> None:
        """Tell the peer to send the body that it holds back. Raises PeerGone."""

    # Turns

    @property
    def idle(self) -> bool:
        return self._parser.idle

    def received(self, data: bytes) -> None:
        parser = self._parser
        malformed: Malformed | None = None
        try:
            try:
                self.feed(data)
            except Malformed as error:
                malformed = error  # what has come whole before it is served first
            while parser.requests:
                request = parser.requests[0]
                if request is not self.request:
                    self.request = request
                    self.prepare(request)
                if not request.complete and malformed is not None:
                    break
                if not request.complete and not self._is_ready(request):
                    self.wait(self.server.settings.body_timeout)
                    return
                del parser.requests[0]
                self._timed = False
                self._serve(request)
                if self.fd < 0 or self._lingered >= 0:
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
        if parser.idle:
            self._timed = False
            self.wait(settings.keepalive_timeout)
        elif not self._timed:
            # Its deadline does not move when more of the same header comes
            self._timed = True
            self.wait(settings.header_timeout)

    def expired(self) -> None:
        if self._parser.idle:
            self.close()
        else:
            self.refuse(Malformed(f"{self.protocol}: no complete request", "408 Request Timeout"))

    def _is_ready(self, request: Message) -> bool:
        """Whether a thread has something to do for a request that is not complete."""
        buffer = self.server.settings.body_buffer
        if request.length is None:
            return request.received > buffer
        return request.length > buffer or request.awaits_continue

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
            self.server.check_length(request.length)  # if it shows at the end only
            environ["wsgi.input"] = BytesIO(b"".join(request.body))
            request.body.clear()
            environ["CONTENT_LENGTH"] = str(request.length)
        elif request.length is None:
            environ["wsgi.input"] = self._collect(request)
            environ["CONTENT_LENGTH"] = str(request.length)
        else:
            environ["wsgi.input"] = stream(self._pull, self.peer_name)
        self.server.respond(Response(self, environ))
        if not self.done:
            self.close()  # cut short, and the peer must not take it for the whole

    def _collect(self, request: Message) -> BinaryIO:
        """Take a body of unknown length to its end, and measure it."""
        import tempfile  # and with it all that can unpack an archive

        try:
            with contextlib.ExitStack() as kept:
                file = kept.enter_context(tempfile.TemporaryFile(prefix="sdactivate-body-"))
                size = 0
                while piece := self._pull():
                    size += len(piece)
                    self.server.check_length(size)
                    file.write(piece)
                file.seek(0)
                kept.pop_all()
        except OSError as error:  # no space left on the device, no descriptor
            raise Malformed(
                f"the body can't be kept: {error.strerror}", "503 Service Unavailable"
            ) from error
        request.length = size
        return cast(BinaryIO, file)

    def _pull(self) -> bytes:
        """Return the next bytes of the body that is being read, b"" at its end."""
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
