"""SCGI and uwsgi connections: one request each."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from sdactivate.servers.native import cgi_environ, twin
from sdactivate.servers.native.accel import module
from sdactivate.servers.native.connection import COPY, Connection
from sdactivate.servers.native.input_stream import stream
from sdactivate.servers.native.wire import Malformed, Variables, scgi, uwsgi
from sdactivate.servers.native.wsgi import Response

responder = twin.responder()


class OneShot(Connection):
    """A connection with one request: names and values, then a body of CONTENT_LENGTH bytes."""

    raw_body = True

    _data: bytes | bytearray = b""  # bytes that have arrived and are not parsed yet
    _environ: dict[str, Any] | None = None  # of a request whose body is still arriving
    _left = 0  # bytes of the body that have not been read
    _served = False
    # The compiled twin's number for this protocol; None: it does not support it
    dialect: int | None = None

    @staticmethod
    def parse(data: bytes | bytearray, limit: int) -> tuple[Variables, int] | None:
        raise NotImplementedError

    def received(self, data: bytes | bytearray) -> None:
        if self._served:
            return
        if self._environ is not None:
            self._collect(self._environ, data)
            return
        found = None
        if self._data:
            data = self._appended(data)
        elif self.dialect is not None and type(self.address) is not tuple:
            found = self.server.handler.one_shot(self, data, self.dialect)
            if found is True:
                return
        server = self.server
        try:
            if found is None:
                parsed = self.parse(data, server.settings.header_bytes)
                if parsed is None:
                    self._data = data
                    if not self.deadline:
                        self.wait(server.settings.header_timeout)
                    return
                variables, end = parsed
                if not variables:
                    self._empty()
                    return
                if type(self.address) is tuple:  # on TCP or vsock
                    variables = server.trust.believed_of(variables, self.address)
                environ = cgi_environ.environ(variables, server.base)
            else:
                environ, end = found
            length = environ.get("CONTENT_LENGTH")
            if length is None or length == "0":
                environ["wsgi.input"] = BytesIO()
                self._serve(environ)
                return
            self._left = int(length)
            server.check_length(self._left)
        except Malformed as error:
            self._left = 1  # more may be coming: linger before closing
            self.refuse(error)
            return
        data = data[end:]
        self._data = b""
        if len(data) >= self._left:
            environ["wsgi.input"] = BytesIO(data[: self._left])
            self._left = 0
            self._serve(environ)
        elif self._left > server.settings.body_buffer and server.is_streamed(environ):
            self._data = data
            environ["wsgi.input"] = stream(self._pull, self.peer_name)
            self._serve(environ)
        else:
            self._environ = environ
            self._collect(environ, data)

    def _response(self, environ: dict[str, Any]) -> Any:
        if self.dialect is None or self._left:
            return Response(self, environ)
        return responder.exchange(self, environ, self.server.loop, self.dialect, module.CLOSE, 0)

    def _collect(self, environ: dict[str, Any], data: bytes | bytearray) -> None:
        """Store a piece of the body; serve the request after the last one."""
        if len(data) > self._left:
            data = data[: self._left]
        length = self._left if self.upload is None else None
        self._left -= len(data)
        try:
            upload = self.collect((data,) if data else (), len(data), length)
            if self._left:
                self.wait_for_more(upload)
                return
            environ["wsgi.input"] = upload.reader()
        except Malformed as error:
            self.refuse(error)
            return
        self._serve(environ)

    @property
    def in_body(self) -> bool:
        return self._environ is not None and not self._served

    def filled(self, count: int, behind: bytes) -> None:
        assert self._environ is not None
        self._left -= count
        self._collect(self._environ, b"")

    def _appended(self, data: bytes | bytearray) -> bytearray:
        """Append to the kept bytes; return all. In place: a peer may send a byte at a time."""
        kept = self._data
        if type(kept) is not bytearray:
            self._data = kept = bytearray(kept)
        kept += data
        return kept

    def _empty(self) -> None:
        """Handle a packet without a request."""
        raise Malformed(f"{self.protocol}: no variables")

    def _serve(self, environ: dict[str, Any]) -> None:
        self._served = True
        self.server.respond(self._response(environ))
        self.served()

    def served(self) -> None:
        """Continue after a response that may not be finished."""
        self._served = True
        if self.output is not None:
            if not self.done:
                self.then = self.close  # the response is truncated, as below
            self.wait_to_send()
        elif not self.done:
            self.close()  # the response is truncated: shorter than its length, or without a head

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
            self.refuse(self.too_late())
        else:
            self.close()

    def send_last(self, head: bytes, body: bytes, response: Response) -> None:
        if len(body) < COPY:
            self.post(head + body)
            if self.output is None and not self._left:  # the usual case: all is sent and read
                self.done = True
                self.close()
                return
        else:
            self.post_both(head, body)
        self.finish()

    def send_tail(self, response: Response) -> None:
        self.finish()

    def settle(self) -> None:
        if self._left > len(self._data):
            self.linger()
        else:
            self.close()


class Scgi(OneShot):
    """A connection that speaks SCGI."""

    protocol = "scgi"
    dialect: int | None = module and module.SCGI
    parse = staticmethod(scgi.parse)


class Uwsgi(OneShot):
    """A connection that speaks uwsgi."""

    protocol = "uwsgi"
    dialect = module and module.UWSGI
    # Apache's mod_proxy_uwsgi requires a status line; nginx accepts both forms
    status_line = "HTTP/1.1 "
    parse = staticmethod(uwsgi.parse)

    def _empty(self) -> None:
        self.send(uwsgi.PONG)
        self.close()
