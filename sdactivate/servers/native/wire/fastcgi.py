"""FastCGI records: parse requests, frame responses.

    version (1) | type | request id (u16) | content length (u16) | padding length | reserved

A request consists of BEGIN_REQUEST, PARAMS records up to an empty one, and STDIN records up to an
empty one. A response consists of STDOUT records up to an empty one, and END_REQUEST. A PARAMS
stream may be split into records at any byte, so it is parsed only when its empty record has
arrived. Names and values follow their lengths, of one byte (below 128) or four.

Section numbers refer to the FastCGI Specification of 29 April 1996 (Open Market).
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from struct import Struct
from typing import Any

from sdactivate.servers.native.wire import Joined, Malformed, Message, TooLarge, Variables

VERSION = 1
# Types of records (section 8)
BEGIN_REQUEST, ABORT_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT, STDERR, DATA = range(1, 9)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = 9, 10, 11
# A management record has request id 0 (section 3.3)
MANAGEMENT = 0
# Roles and flags of BEGIN_REQUEST (section 5.1)
RESPONDER = 1
KEEP_CONN = 1
# Protocol status of END_REQUEST (section 5.5)
REQUEST_COMPLETE, CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE = range(4)

HEAD = 8
# The longest content that is a multiple of eight: it needs no padding (section 3.3)
LONGEST = 65528


def pairs(content: bytes | bytearray) -> Variables:
    """Read the names and values of a PARAMS or GET_VALUES stream (section 3.4).

    Raises Malformed if they are truncated.
    """
    variables: Variables = {}
    if _read(content, variables) != len(variables):
        repeated = Joined()
        _read(content, repeated)
        variables = repeated.plain()
    return variables


def _read(content: bytes | bytearray, into: Variables) -> int:
    """Put the pairs of a stream into a dictionary, and return their number."""
    text = content.decode("latin-1")
    count = at = 0
    end = len(content)
    try:
        while at < end:
            name, value = content[at], content[at + 1]
            if name | value < 128:
                at += 2
            else:
                name, at = _length(content, at)
                value, at = _length(content, at)
            middle = at + name
            into[text[at:middle]] = text[middle : middle + value]
            at = middle + value
            count += 1
    except IndexError:
        raise Malformed("FastCGI: the parameters end inside a length") from None
    if at != end:
        raise Malformed("FastCGI: a parameter reaches beyond its stream")
    return count


def _length(content: bytes | bytearray, at: int) -> tuple[int, int]:
    """Read a length of one byte or four at offset `at`; return it and the offset after it."""
    length = content[at]
    if length < 128:
        return length, at + 1
    following = content[at + 3]  # IndexError if it is truncated
    return (length & 127) << 24 | content[at + 1] << 16 | content[at + 2] << 8 | following, at + 4


_pack = Struct(">BBHHxx").pack
_unpack = Struct(">BBHHBx").unpack_from


def head(kind: int, request_id: int, length: int) -> bytes:
    """Return the head of a record with `length` bytes of content and no padding."""
    return _pack(VERSION, kind, request_id, length)


def end_request(request_id: int, status: int = REQUEST_COMPLETE, app_status: int = 0) -> bytes:
    """Return an END_REQUEST record (section 5.5)."""
    body = app_status.to_bytes(4, "big") + bytes((status, 0, 0, 0))
    return head(END_REQUEST, request_id, 8) + body


def refusal(status: int) -> bytes:
    """Return the STDOUT content for a request that is refused with the protocol `status`.

    Fronts may ignore the status of END_REQUEST (lighttpd treats an authorizer's empty response as
    "granted"), so the client gets an error response as well.
    """
    said = "503 Service Unavailable" if status == CANT_MPX_CONN else "501 Not Implemented"
    return f"Status: {said}\r\nContent-Type: text/plain\r\n\r\n{said}\n".encode("ascii")


def refused(request_id: int, status: int) -> bytes:
    """Return the answer to a request that is refused with the protocol `status` (section 5.5)."""
    said = stream(STDOUT, request_id, refusal(status)) + head(STDOUT, request_id, 0)
    return said + end_request(request_id, status)


@lru_cache(256)
def end_response(request_id: int) -> bytes:
    """Return the end of a STDOUT stream and of its request."""
    return head(STDOUT, request_id, 0) + end_request(request_id)


def closing(request_id: int) -> bytes:
    """Return bytes after which nginx does not keep a connection: an empty STDERR record.

    FastCGI can't say that a response was the last one. nginx closes a kept connection if more bytes
    follow END_REQUEST, and an idle one if any bytes arrive. If it has begun a request in the
    meantime, the record is part of the response to that, and has no effect (section 3.3: an empty
    record closes a stream).
    """
    return head(STDERR, request_id, 0)


def unknown_type(kind: int) -> bytes:
    """Return the answer to a management record of an unknown type (section 4.2)."""
    return head(UNKNOWN_TYPE, MANAGEMENT, 8) + bytes((kind, 0, 0, 0, 0, 0, 0, 0))


def stream(kind: int, request_id: int, content: bytes) -> bytes:
    """Return `content` as records of a stream, STDOUT or STDERR (section 5.3), without its end."""
    if len(content) <= LONGEST:
        return head(kind, request_id, len(content)) + content if content else b""
    view = memoryview(content)
    parts: list[bytes | memoryview] = []
    for at in range(0, len(content), LONGEST):
        piece = view[at : at + LONGEST]
        parts += (head(kind, request_id, len(piece)), piece)
    return b"".join(parts)


def values(asked: Iterable[str], known: dict[str, str]) -> bytes:
    """Return a GET_VALUES_RESULT record with the `known` values that were asked (section 4.1)."""
    content = b"".join(
        bytes((len(name), len(known[name]))) + (name + known[name]).encode("ascii")
        for name in dict.fromkeys(asked)
        if name in known
    )
    return head(GET_VALUES_RESULT, MANAGEMENT, len(content)) + content


Plain = Callable[[bytes, int], "tuple[dict[str, Any], int, bool, int] | None"]


class Request(Message):
    """A request with the role of a responder, from its beginning.

    id: its number on the connection. variables: its parameters, once their whole stream has
    arrived; environ: what the connection has built from them. answered: whether its END_REQUEST is
    sent; then the rest of the request is dropped.
    """

    params: bytes | bytearray = b""
    variables: Variables | None = None
    environ: dict[str, Any]
    answered = False

    def __init__(self, request_id: int, keep_alive: bool) -> None:
        super().__init__(keep_alive)
        self.id = request_id


class Parser:
    """The requests of one connection, from bytes in any pieces.

    limit: the most bytes a PARAMS stream may have. known: the answers to GET_VALUES.
    `requests` gets each request whose parameters are complete; `replies` is what the
    connection must send in answer to records that do not concern the application; `current` is the
    request in progress; `idle` tells whether there is none and no record has begun.
    `plain` reads a request in one call, if it is in plain form and begins these bytes: called with
    the bytes and `limit`, it returns the environ, the request's id, whether the connection is kept,
    and how many bytes of its body's records follow (0: it is complete and has no body); or None,
    and then its records are parsed here.
    """

    __slots__ = (
        *("_content", "_current", "_head", "_length", "_padding", "_rest", "_wanted"),
        *("idle", "known", "limit", "plain", "replies", "requests"),
    )

    def __init__(self, limit: int, known: dict[str, str]) -> None:
        self.limit = limit
        self.known = known
        self.requests: list[Request] = []
        self.replies = bytearray()
        self.idle = True
        self.plain: Plain | None = None
        # What is missing of a STDIN record. Bodies are large, so their records are processed before
        # they are complete
        self._content = self._padding = 0
        self._length, self._head = 0, b""  # the content length and head of that record
        self._rest = bytearray()  # the beginning of another record that is not complete
        self._wanted = 0  # how long `_rest` must be before it can be processed
        self._current: Request | None = None

    def feed(self, data: bytes) -> None:
        """Parse the next bytes. Raises Malformed or TooLarge; then close the connection."""
        at = 0
        if self.plain is not None and self.idle and not self.requests:
            found = self.plain(data, self.limit)
            if found is not None:
                environ, request_id, keep_alive, behind = found
                self._current = request = Request(request_id, keep_alive)
                request.variables, request.environ = {}, environ
                request.is_plain = True
                request.complete = not behind
                self.requests.append(request)
                if not behind:
                    self.idle = False
                    return
                at = len(data) - behind
        current = self._current
        rest = self._rest
        if self._content or self._padding:
            at = self._go_on(data)
            if at == len(data):
                self.idle = current is None and not self._in_record
                return
        elif rest:
            rest += data
            if len(rest) < self._wanted:
                return  # without copying: a record may come a byte at a time
            data = bytes(rest)
        wanted = HEAD
        end = len(data)
        while end - at >= HEAD:
            version, kind, request_id, length, padding = _unpack(data, at)
            if version != VERSION:
                raise Malformed(f"FastCGI: version {version} is not spoken here, only 1")
            start = at + HEAD
            stop = start + length
            if stop + padding > end:
                if kind == STDIN and length and current is not None and request_id == current.id:
                    self._content = self._length = length
                    self._padding, self._head = padding, data[at:start]
                    at = start + self._go_on(data[start:])
                else:
                    wanted = stop + padding - at
                break
            at = stop + padding
            if current is not None and request_id == current.id:
                if kind == PARAMS:
                    self._params(current, data[start:stop])
                    continue
                if kind == STDIN:
                    self._stdin(current, data[start:stop])
                    current = self._current
                    continue
            self._control(kind, request_id, data[start:stop])
            current = self._current
        if at < end or rest:
            self._rest = bytearray(data[at:])
            self._wanted = wanted
        self.idle = current is None and at == end

    @property
    def _in_record(self) -> bool:
        return bool(self._rest or self._content or self._padding)

    def _go_on(self, data: bytes) -> int:
        """Process the rest of a STDIN record, as far as it has arrived; return its bytes."""
        size = min(self._content, len(data))
        self._content -= size
        current = self._current
        if (
            size and current is not None
        ):  # None: the request has been answered, and this arrived later
            self._stdin(current, data[:size])
        padding = min(self._padding, len(data) - size)
        self._padding -= padding
        return size + padding

    @property
    def body_record(self) -> tuple[int, int, int, bytes]:
        """The current STDIN record: its remaining content, its length, padding and head.

        If no content remains, there is no such record, and the other values are meaningless.
        """
        return self._content, self._length, self._padding, self._head

    def body_read(self, count: int) -> None:
        """Record that `count` bytes of the body have been read elsewhere.

        They are content of the current record, and of records with the same head and padding, each
        of which follows the content and padding of the one before.
        """
        current = self._current
        assert current is not None
        current.received += count
        over = count - self._content
        self._content = -over if over <= 0 else -over % self._length

    def _params(self, request: Request, content: bytes) -> None:
        if request.variables is not None:
            raise Malformed("FastCGI: parameters after the end of the parameters")
        if content:
            if not request.params:
                request.params = content  # usually this is all
            elif type(request.params) is bytearray:
                request.params += content
            else:
                request.params = bytearray(request.params) + content
            if len(request.params) > self.limit:
                raise TooLarge(f"FastCGI: the parameters have over {self.limit} bytes")
        else:
            request.variables = pairs(request.params)
            self.requests.append(request)

    def _stdin(self, request: Request, content: bytes) -> None:
        if request.variables is None:
            raise Malformed("FastCGI: the body began before the end of the parameters")
        if not content:
            request.complete = True
            if request.answered:
                self._current = None
        elif not request.answered:
            request.take(content)

    def _control(self, kind: int, request_id: int, content: bytes) -> None:
        """Process a record that is not a piece of the current request's streams."""
        current = self._current
        if request_id == MANAGEMENT:
            if kind == GET_VALUES:
                self.replies += values(pairs(content), self.known)
            else:
                self.replies += unknown_type(kind)
        elif kind == BEGIN_REQUEST:
            if len(content) < 8:
                raise Malformed("FastCGI: BEGIN_REQUEST is too short")
            role, flags = content[0] << 8 | content[1], content[2]
            if current is not None and not current.answered:
                if request_id == current.id:
                    raise Malformed(f"FastCGI: request {request_id} began twice")
                self.replies += refused(request_id, CANT_MPX_CONN)
            elif role != RESPONDER:
                self.replies += refused(request_id, UNKNOWN_ROLE)
            else:
                self._current = Request(request_id, bool(flags & KEEP_CONN))
        elif kind == ABORT_REQUEST and current is not None and request_id == current.id:
            current.aborted = current.complete = True
            if current.answered:
                self._current = None
            elif current.variables is None or self.requests:
                self.requests.clear()  # it is not being served, and will not be
                self.replies += end_request(request_id)
                self._current = None
        # Records of a request that is not (or no longer) served are ignored

    @property
    def current(self) -> Request | None:
        """The request that has begun and is not answered."""
        current = self._current
        return None if current is None or current.answered else current

    def answered(self, request: Request) -> None:
        """Record that the response to `request` has been sent completely."""
        request.answered = True
        request.body.clear()
        if request.complete and self._current is request:
            self._current = None
            self.idle = not self._in_record
