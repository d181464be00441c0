"""FastCGI by flup: its Connection, Request and Record, fed with bytes instead of a socket.

flup's Connection reads one record from its socket and processes it, in `process_input`. Here that
socket is an object with a complete record's bytes, so that it never waits, and needs no thread for
a slow peer. It hands a request over instead of running it.

The methods below correct errors of flup, and each one's docstring says which.
"""

from __future__ import annotations

import struct
from typing import Any

from sdactivate import bundled
from sdactivate.servers.native.wire import Malformed, Message, TooLarge, Variables, joined
from sdactivate.servers.native.wire.fastcgi import refusal

flup = bundled.load("flup.server.fcgi_base")

# The most content that flup writes in one record. A multiple of eight, so it needs no padding
_LONGEST = 65528


class _Wire:
    """The object that flup uses as its socket: a record to read, and the bytes it writes."""

    def __init__(self) -> None:
        self.incoming = memoryview(b"")
        self.outgoing = bytearray()

    def recv(self, size: int) -> bytes:
        piece, self.incoming = self.incoming[:size], self.incoming[size:]
        return bytes(piece)

    def send(self, data: bytes) -> int:
        self.outgoing += data
        return len(data)

    def fileno(self) -> int:
        """No number: flup only formats it, for a log that it does not write."""
        return -1

    def taken(self) -> bytes:
        """What has been written since the last call."""
        data, self.outgoing = bytes(self.outgoing), bytearray()
        return data


class Request(flup.Request, Message):  # type: ignore[misc, name-defined]
    """flup's request, with the attributes that the native server needs: `servers.native.wire`."""

    def __init__(self, connection: Parser, stream_class: Any, timeout: int) -> None:
        flup.Request.__init__(self, connection, stream_class, timeout)
        Message.__init__(self, keep_alive=False)
        self.encoded = bytearray()
        self.variables: Variables | None = None
        self.environ: dict[str, Any] = {}
        self.answered = False

    @property
    def id(self) -> int:
        """Its number on the connection."""
        number: int = self.requestId
        return number


class Parser(flup.Connection):  # type: ignore[misc, name-defined]
    """The requests of one connection: see `servers.native.wire.fastcgi.Parser`."""

    # What flup asks its server for; the parser is the connection and the server
    request_class = Request
    inputStreamShrinkThreshold = 0
    maxwrite = _LONGEST + flup.FCGI_HEADER_LEN

    def __init__(self, limit: int, known: dict[str, str]) -> None:
        self._wire = _Wire()
        super().__init__(self._wire, None, self, 0)
        self._requests: dict[int, Request] = {}
        self.limit = limit
        # flup looks up its capabilities by received bytes, but stores them by str: no match
        self.capability = {name.encode("ascii"): value for name, value in known.items()}
        self.requests: list[Request] = []
        self.replies = bytearray()
        self.idle = True
        self._rest = bytearray()  # the beginning of a record that is not complete
        self._wanted = 0  # how long `_rest` must be before it can be processed

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises Malformed or TooLarge; the connection must then be closed."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return  # without copying: a record may come a byte at a time
            data = bytes(rest)
        view = memoryview(data)
        wanted = flup.FCGI_HEADER_LEN
        at = 0
        while len(data) - at >= flup.FCGI_HEADER_LEN:
            version, _, _, length, padding = struct.unpack_from(flup.FCGI_Header, data, at)
            if version != flup.FCGI_VERSION_1:  # flup does not check it
                raise Malformed(f"FastCGI: version {version} is not spoken here, only 1")
            end = at + flup.FCGI_HEADER_LEN + length + padding
            if end > len(data):
                wanted = end - at
                break
            self._wire.incoming = view[at:end]
            self.process_input()
            at = end
        self._rest = bytearray(view[at:])
        self._wanted = wanted
        self.idle = not self._requests and not self._rest
        self.replies += self._wire.taken()

    @property
    def current(self) -> Request | None:
        """The request that has started and is not answered yet."""
        return next((each for each in self._requests.values() if not each.answered), None)

    def answered(self, request: Request) -> None:
        """Record that the response to `request` has been sent completely."""
        request.answered = True
        request.body.clear()
        if request.complete:
            self._forget(request)
            self.idle = not self._requests and not self._rest

    # What flup calls

    def process_input(self) -> None:
        """Process a record, without flup's select(2), which is limited to descriptors up to 1023.

        Request 0 is the connection itself (section 3.3), which flup would accept as a request.
        """
        record = flup.Record()
        record.read(self._sock)
        if record.requestId != flup.FCGI_NULL_REQUEST_ID:
            if take := _TAKES.get(record.type):
                take(self, record)
        elif record.type == flup.FCGI_GET_VALUES:
            self._do_get_values(record)
        else:
            self._do_unknown_type(record)

    def _cleanupSocket(self) -> None:
        """Leave the socket to the loop: flup would wait here without a time limit."""

    def _do_begin_request(self, record: Any) -> None:
        """Begin a request. flup checks its role too late to refuse it."""
        if record.contentLength < struct.calcsize(flup.FCGI_BeginRequestBody):
            raise Malformed("FastCGI: BEGIN_REQUEST is too short")
        earlier = self._requests
        if all(each.answered for each in earlier.values()):
            self._requests = {}  # what may still arrive for them is not waited for
        if record.requestId in self._requests:
            raise Malformed(f"FastCGI: request {record.requestId} began twice")
        record.contentData = record.contentData[:8]
        super()._do_begin_request(record)
        request = self._requests.get(record.requestId)
        if request is None:
            return  # refused: another one is in progress
        request.keep_alive = bool(request.flags & flup.FCGI_KEEP_CONN)
        if request.role != flup.FCGI_RESPONDER:
            self.end_request(request, 0, flup.FCGI_UNKNOWN_ROLE)
            self._requests = earlier

    def end_request(
        self,
        req: Any,
        appStatus: int = 0,
        protocolStatus: int = flup.FCGI_REQUEST_COMPLETE,
        remove: bool = True,
    ) -> None:
        """End a request. flup writes nothing to STDOUT for one that it refuses."""
        if protocolStatus != flup.FCGI_REQUEST_COMPLETE:
            _write(self._wire, flup.FCGI_STDOUT, req.requestId, refusal(protocolStatus))
            _write(self._wire, flup.FCGI_STDOUT, req.requestId, b"")
        super().end_request(req, appStatus, protocolStatus, remove)

    def _do_params(self, record: Any) -> None:
        """Collect the parameters. flup expects whole pairs in each record; the protocol doesn't."""
        request = self._requests.get(record.requestId)
        if request is None:
            return
        if request.variables is not None:
            raise Malformed("FastCGI: parameters after the end of the parameters")
        if record.contentLength:
            request.encoded += record.contentData
            if len(request.encoded) > self.limit:
                raise TooLarge(f"FastCGI: the parameters have over {self.limit} bytes")
            return
        request.variables = pairs(bytes(request.encoded))
        self._start_request(request)

    def _start_request(self, request: Request) -> None:
        """Hand the request over: flup would run it here, and read no record until it ends."""
        self.requests.append(request)

    def _do_stdin(self, record: Any) -> None:
        """Keep a piece of the body; an empty one ends the body."""
        request = self._requests.get(record.requestId)
        if request is None:
            return
        if request.variables is None:
            raise Malformed("FastCGI: the body began before the end of the parameters")
        if record.contentLength:
            if not request.answered:
                request.take(record.contentData)
            return
        request.complete = True
        if request.answered:
            self._forget(request)

    def _do_abort_request(self, record: Any) -> None:
        """Mark the body as ended, for its reader: flup only sets a flag, and reads on."""
        super()._do_abort_request(record)
        request = self._requests.get(record.requestId)
        if request is None:
            return
        request.complete = True
        if request.answered:
            self._forget(request)
        elif request.variables is None or self.requests:
            self.requests.clear()  # it is not being served, and will not be
            self.end_request(request)

    def _do_get_values(self, record: Any) -> None:
        """Answer with the known values. flup fails for lengths that reach beyond the record."""
        pairs(record.contentData)
        super()._do_get_values(record)

    def _forget(self, request: Request) -> None:
        self._requests.pop(request.id, None)


_TAKES = {
    flup.FCGI_BEGIN_REQUEST: Parser._do_begin_request,
    flup.FCGI_ABORT_REQUEST: Parser._do_abort_request,
    flup.FCGI_PARAMS: Parser._do_params,
    flup.FCGI_STDIN: Parser._do_stdin,
}
"""Without FCGI_DATA, which only filters get: flup would store it and never free it."""


def pairs(content: bytes) -> Variables:
    """Read a stream of names and values with flup's `decode_pair`.

    If a length reaches beyond the stream, flup takes the rest as the value. Here that raises
    Malformed, as does a truncated length.
    """
    fields: list[str] = []
    at = 0
    try:
        while at < len(content):
            at, (name, value) = flup.decode_pair(content, at)
            fields += (name.decode("latin-1"), value.decode("latin-1"))
    except (IndexError, struct.error):
        raise Malformed("FastCGI: the parameters end inside a length") from None
    if at != len(content):
        raise Malformed("FastCGI: a parameter reaches beyond its stream")
    return joined(fields)


def stream(kind: int, request_id: int, content: bytes) -> bytes:
    """Return `content` as records of a stream, without its end.

    flup copies the rest of a long content again for each record; slicing a memoryview avoids that.
    """
    wire = _Wire()
    view = memoryview(content)
    for at in range(0, len(view), _LONGEST):
        _write(wire, kind, request_id, view[at : at + _LONGEST])
    return wire.taken()


def end_response(request_id: int) -> bytes:
    """Return the end of a STDOUT stream and of its request."""
    wire = _Wire()
    _write(wire, flup.FCGI_STDOUT, request_id, b"")
    end = struct.pack(flup.FCGI_EndRequestBody, 0, flup.FCGI_REQUEST_COMPLETE)
    _write(wire, flup.FCGI_END_REQUEST, request_id, end)
    return wire.taken()


def _write(wire: _Wire, kind: int, request_id: int, content: bytes | memoryview) -> None:
    record = flup.Record(kind, request_id)
    record.contentLength = len(content)
    record.contentData = content
    record.write(wire)
