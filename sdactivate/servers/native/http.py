"""HTTP/1.1 connections: keep-alive, chunked responses, 100 Continue, PROXY protocol."""

from __future__ import annotations

import time
from typing import Any

from sdactivate.servers.native import forwarded, twin
from sdactivate.servers.native.accel import module
from sdactivate.servers.native.connection import COPY, Owner, local_address
from sdactivate.servers.native.keepalive import KeepAlive
from sdactivate.servers.native.wire import Malformed, proxy
from sdactivate.servers.native.wire import http as wire
from sdactivate.servers.native.wsgi import DATE, SERVER, Response, check_encoding, check_field

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_SET_BY_APPLICATION = 1 << DATE | 1 << SERVER
# First bytes of a request that can't be those of a PROXY header
_NO_PROXY = wire.BEGINNINGS - {proxy.SIGNATURE[0], proxy.LINE[0]}


def _fields(now: float) -> str:
    """The Server and Date fields at `now` (RFC 9110, sections 10.2.4 and 6.6.1)."""
    t = time.gmtime(now)
    return (
        "Server: sdactivate\r\n"
        f"Date: {_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT\r\n"
    )


# Built once a second: the second, and the fields for it. (The clock may be set back.)
_fresh = (-1, "")


def _server_and_date() -> str:
    global _fresh
    now = int(time.time())
    second, fields = _fresh
    if now != second:
        fields = _fields(now)
        _fresh = (now, fields)
    return fields


responder = twin.responder(_server_and_date)
# The parser of a connection whose bytes only the compiled twin has read so far
_UNUSED = wire.Parser(0, 0, 0)


class Http(KeepAlive):
    """A connection's requests, pipelined or not."""

    protocol = "http"
    status_line = "HTTP/1.1 "
    raw_body = True

    _chunked = False  # whether the current response is chunked
    _keep = False  # whether the connection is kept after it

    _parser: wire.Parser = _UNUSED
    request: wire.Request

    def __init__(self, server: Owner, fd: int, address: Any) -> None:
        super().__init__(server, fd, address)
        self.trusted = server.trust.believes(address)
        local = local_address(fd, address) if type(address) is tuple else None
        self.own = server.of_client(address, local)

    # Requests in

    if module is not None:

        def wake(self) -> None:
            handler = self.server.handler
            if handler is None or not (self.resting and handler.turn(self)):
                super().wake()

        def received(self, data: bytes) -> None:
            handler = self.server.handler
            begun = handler is not None and self.resting and handler.http(self, data)
            if begun is True:
                return
            if begun:
                self._begin(*begun)
            super().received(data)

        def _begin(
            self,
            environ: dict[str, Any],
            told: dict[str, str] | None,
            keep_alive: bool,
            length: int,
            at: int,
        ) -> None:
            """Let the parser begin behind the header of a request, at `at` of the next bytes."""
            if self._parser is _UNUSED:
                self._pass_on(b"")
            if self.own is not None:
                environ.update(self.own)
            request = wire.Request(keep_alive, "1.1", environ, told or {})
            request.length = length
            self._parser.begun = request, at

    def feed(self, data: bytes) -> None:
        """Remove the PROXY header from the first bytes; only trusted peers may send one."""
        if self.request is not None or (not self._head and data[0] in _NO_PROXY):  # the usual case
            self._pass_on(data)
            return
        head: bytes | bytearray = data
        if self._head:
            self._head += data
            head = self._head
        begins = proxy.begins(head)
        if begins is False:
            if head[0] not in wire.BEGINNINGS:
                raise Malformed(f"HTTP: no request starts with the byte 0x{head[0]:02x}")
            self._pass_on(bytes(head))
            return
        if begins and not self.trusted:
            raise Malformed("HTTP: a PROXY header from a peer that is not trusted")
        found = proxy.parse(head) if begins else None
        if found is None:
            if head is data:
                self._head = bytearray(data)
            return
        end, client = found
        if client is not None:
            self.own = self.server.of_client(client, local_address(self.fd, self.address))
            self.address = client
        self._pass_on(bytes(head[end:]))

    def _pass_on(self, data: bytes) -> None:
        self._head = b""
        settings = self.server.settings
        self._parser = parser = wire.Parser(
            settings.header_bytes, settings.header_count, settings.request_line
        )
        parser.base = self.server.http_base
        if self.own is not None:
            parser.base = {**parser.base, **self.own}
        self.feed = parser.feed  # type: ignore[method-assign]
        if data:
            parser.feed(data)

    @property
    def idle(self) -> bool:
        return not self._head and self._parser.idle

    @property
    def in_body(self) -> bool:
        return self._parser.in_body

    def prepare(self, request: wire.Request) -> None:
        environ = request.environ
        if request.forwarded and self.trusted:
            forwarded.apply(environ, request.forwarded, self.server.trust)
        if request.version == "1.1":
            environ["wsgi.early_hints"] = self._early_hints
        if request.length:
            self.server.check_length(request.length)

    def send_continue(self) -> None:
        self.send(wire.CONTINUE)

    def _early_hints(self, fields: list[tuple[str, str]]) -> None:
        """Send 103 Early Hints (RFC 8297) before the response.

        Raises TypeError or ValueError for fields that must not be sent, and PeerGone.
        """
        text = ""
        for name, value in fields:
            check_field(name, value)
            text += f"{name}: {value}\r\n"
        check_encoding(text)
        self.send(f"HTTP/1.1 103 Early Hints\r\n{text}\r\n".encode("latin-1"))

    # Responses out

    def response(self, environ: dict[str, Any]) -> Any:
        request = self.request
        if responder is None or request.version != "1.1" or not request.complete:
            return Response(self, environ)
        self._keep, self._chunked = request.keep_alive, False
        after = module.KEEP if request.keep_alive else module.SETTLE
        return responder.exchange(self, environ, self.server.loop, module.HTTP, after, 0)

    def keep_rest(self, data: bytes, sent: int) -> None:
        self._keep = self.request.keep_alive
        super().keep_rest(data, sent)

    def head(self, status: str, fields: str, response: Response) -> bytes:
        request = self.request
        keep = (
            request.keep_alive
            and request.complete
            and not response.close
            and not self.server.draining
        )
        chunked = False
        if not response.special & _SET_BY_APPLICATION:
            fields += _server_and_date()
        else:
            server, date = _server_and_date().splitlines(keepends=True)
            fields += "" if response.special & 1 << SERVER else server
            fields += "" if response.special & 1 << DATE else date
        if response.length is None and not response.bodiless:
            if request.version == "1.1":
                chunked = True
                fields += "Transfer-Encoding: chunked\r\n"
            else:
                keep = False
        if not keep:
            fields += "Connection: close\r\n"
        elif request.version == "1.0":
            fields += "Connection: keep-alive\r\n"
        self._keep = keep
        self._chunked = chunked
        return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode("latin-1")

    def frame(self, data: bytes) -> bytes:
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(data), data)
        return data

    def send_last(self, head: bytes, body: bytes, response: Response) -> None:
        if len(body) < COPY:
            self.post(head + body)
        else:
            self.post_both(head, body)
        if self._keep and self.output is None:
            self.done = True  # there is nothing to settle
        else:
            self.finish()

    def send_tail(self, response: Response) -> None:
        if self._chunked:
            self.post(b"0\r\n\r\n")
        self.finish()

    def settle(self) -> None:
        if not self._keep:
            if self.request.complete and not self._parser.requests:
                self.close()
            else:
                self.linger()

    def answer(self, status: str) -> None:
        self.send_now(self.plain(status, f"{_server_and_date()}Connection: close\r\n"))
