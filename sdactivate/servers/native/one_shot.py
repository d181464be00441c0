"""SCGI and uwsgi: one request a connection, and a response that ends where it does."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from sdactivate.servers.native import cgi_environ
from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.input_stream import stream
from sdactivate.servers.native.wire import Malformed, Variables, scgi, uwsgi
from sdactivate.servers.native.wsgi import Response


class OneShot(Connection):
    """A header of names and values, a body of CONTENT_LENGTH bytes, a response, the end."""

    raw_body = True

    _data: bytes | bytearray = b""  # what has come and is not understood yet
    _environ: dict[str, Any] | None = None  # of a request whose body is still coming
    _left = 0  # bytes of the body that have not been taken
    _served = False

    @staticmethod
    def parse(data: bytes | bytearray, limit: int) -> tuple[Variables, int] | None:
        raise NotImplementedError

    def received(self, data: bytes | bytearray) -> None:
        if self._data:
            data = self._appended(data)
        if self._served:
            return
        settings = self.server.settings
        environ = self._environ
        if environ is None:
            try:
                parsed = self.parse(data, settings.header_bytes)
                if parsed is None:
                    self._data = data
                    if not self.deadline:
                        self.wait(settings.header_timeout)
                    return
                variables, end = parsed
                if not variables:
                    self._empty()
                    return
                if isinstance(self.address, tuple):  # on TCP or vsock
                    variables = self.server.trust.believed_of(variables, self.address)
                environ = cgi_environ.environ(variables, self.server.base)
                length = environ.get("CONTENT_LENGTH")
                if length is None or length == "0":
                    environ["wsgi.input"] = BytesIO()
                    self._serve(environ)
                    return
                self._left = int(length)
                self.server.check_length(self._left)
            except Malformed as error:
                self._left = 1  # for all we know, more is coming
                self.refuse(error)
                return
            data = data[end:]
            self._environ = environ
        if len(data) >= self._left:
            environ["wsgi.input"] = BytesIO(data[: self._left])
            self._left = 0
            self._serve(environ)
        elif self._left > settings.body_buffer:
            self._data = data
            environ["wsgi.input"] = stream(self._pull, self.peer_name)
            self._serve(environ)
        else:
            self._data = data
            self.wait(settings.body_timeout)

    def _appended(self, data: bytes | bytearray) -> bytearray:
        """Keep more behind what is kept; return all of it. A peer may send a byte at a time."""
        kept = self._data
        if type(kept) is not bytearray:
            self._data = kept = bytearray(kept)
        kept += data
        return kept

    def _empty(self) -> None:
        """A packet without a request."""
        raise Malformed(f"{self.protocol}: no variables")

    def _serve(self, environ: dict[str, Any]) -> None:
        self._served = True
        self.server.respond(Response(self, environ))
        if not self.done:
            self.close()  # cut short: without its promised length, or without a head

    def _pull(self) -> bytes:
        """Return the next bytes of a body that is streamed to the application."""
        kept, self._data = self._data, b""
        data = bytes(kept[: self._left])
        if not data and self._left:
            data = self.read()[: self._left]
        self._left -= len(data)
        return data

    def expired(self) -> None:
        if self._data or self._environ is not None:
            self.refuse(Malformed(f"{self.protocol}: no complete request", "408 Request Timeout"))
        else:
            self.close()

    def send_last(self, head: bytes, body: bytes, response: Response) -> None:
        self.send_both(head, body)
        self.send_tail(response)

    def send_tail(self, response: Response) -> None:
        self.done = True
        if self._left > len(self._data):
            self.linger()
        else:
            self.close()


class Scgi(OneShot):
    """A connection that speaks SCGI."""

    protocol = "scgi"
    parse = staticmethod(scgi.parse)


class Uwsgi(OneShot):
    """A connection that speaks uwsgi."""

    protocol = "uwsgi"
    # Apache's mod_proxy_uwsgi wants a status line; nginx takes either
    status_line = "HTTP/1.1 "
    parse = staticmethod(uwsgi.parse)

    def _empty(self) -> None:
        self.send(uwsgi.PONG)
        self.close()
