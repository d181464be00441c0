"""Parse HTTP/1.1 requests with llhttp, chunked bodies included (RFC 9112).

llhttp parses the messages and is hardened against hostile input. This module builds the WSGI
variables, and refuses more: headers over the limits, targets that are not a path (RFC 9112, section
3.2), several Host fields, and names that give the same CGI variable (X_Forwarded_For and
X-Forwarded-For do, and the front may have checked only one of them).
"""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from sdactivate import bundled
from sdactivate.servers.native.wire import (
    HOSTS,
    Malformed,
    Message,
    TooLarge,
    Variables,
    check_host,
    is_host,
)
from sdactivate.trust import FORGEABLE_VARIABLES

httptools = bundled.load("httptools")

# First bytes of a request: of a method, which is a token (RFC 9110, section 5.6.2), or of an empty
# line, which old clients send after a body (RFC 9112, section 2.2)
BEGINNINGS = frozenset(
    b"!#$%&'*+-.^_`|~0123456789\r\nABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
# The part of a request line before its target, as far as it arrived in the same piece
_METHOD = re.compile(rb"\A\Z|(?:\A|[A-Z-]) +\Z")

_END = b"\r\n\r\n"  # of a header, and of a chunked body
_LINE_ENDS = frozenset((b"", b"\r", b"\n"))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# What a trusted front says about its client is kept apart from the environ. Proxy would become
# HTTP_PROXY, which many HTTP clients obey (CVE-2016-5385), so it is always dropped.
_NEVER = frozenset({"HTTP_PROXY"})
FORWARDED = FORGEABLE_VARIABLES - _NEVER
_OUTSIDE_HTTP = {"HTTP_CONTENT_TYPE": "CONTENT_TYPE", "HTTP_CONTENT_LENGTH": "CONTENT_LENGTH"}

# A cache of the environ's keys by field name, as it was spelt. Usual spellings are few and short,
# but a peer may invent others: long ones are not cached, and the cache is cleared when it is full.
_KEYS: dict[bytes, str] = {}
_FORWARDED_KEYS: dict[bytes, str] = {}
_KEPT = 1024
_LONGEST_KEPT = 64

# The status for llhttp's errors if it is not 400. (llhttp stops at the first byte at which a method
# differs from all known ones, so a method that is not a token counts as unknown, too.)
_STATUS = {
    "Invalid method encountered": "501 Not Implemented",
    "Invalid HTTP version": "505 HTTP Version Not Supported",
    "Invalid method for HTTP/x.x request": "501 Not Implemented",  # RTSP's
}


def key(name: bytes) -> str | None:
    """Return the environ's key for a field called `name`, None if it has none."""
    if b"_" in name or b"." in name:
        return None
    found = "HTTP_" + name.upper().replace(b"-", b"_").decode("latin-1")
    found = _OUTSIDE_HTTP.get(found, found)
    if found in _NEVER:
        return None
    keys = _FORWARDED_KEYS if found in FORWARDED else _KEYS
    if len(name) <= _LONGEST_KEPT:
        if len(keys) >= _KEPT:
            keys.clear()
        keys[name] = found
    return found


class Request(Message):
    """A request whose header is complete.

    environ: the parser's `base` and the variables from its request line and header. forwarded: the
    variables from FORWARDED fields, which are not in the environ. version: "1.1" or "1.0".
    """

    def __init__(
        self, keep_alive: bool, version: str, environ: dict[str, Any], forwarded: Variables
    ) -> None:
        super().__init__(keep_alive)
        self.version = version
        self.environ = environ
        self.forwarded = forwarded


def _complete(keep_alive: bool) -> Request:
    request = Request(keep_alive, "1.1", {}, {})
    request.complete = True
    return request


# The values of a connection's `request` while the compiled twin serves a complete request: for a
# connection that is kept, and for its last request
KEPT, LAST = _complete(True), _complete(False)


class Parser:
    """The requests of one connection, from bytes in any pieces.

    header_bytes, header_count, request_line: limits in bytes, fields and bytes.
    `base` is the initial content of each environ; none of its keys can come from a field.
    `requests` gets each request whose header is complete, oldest first; the connection removes
    them. `idle` tells whether no request has begun.
    `begun` is set by the connection if it has read a header itself: the request, whose body is
    incomplete, and the offset of the body in the bytes that `feed` gets next.
    """

    __slots__ = (
        "_count",
        "_environ",
        "_feed",
        "_forwarded",
        "_http",
        "_in_target",
        "_is_ascii",
        "_raw",
        "_request",
        "_seen",
        "_sent",
        "_tail",
        "_unseen",
        "_url",
        "base",
        "begun",
        "header_bytes",
        "header_count",
        "idle",
        "request_line",
        "requests",
    )

    def __init__(self, header_bytes: int, header_count: int, request_line: int) -> None:
        self.header_bytes = header_bytes
        self.header_count = header_count
        self.request_line = request_line
        self.requests: list[Request] = []
        self._http = httptools.HttpRequestParser(self)
        self._feed = self._http.feed_data
        self.idle = True
        self.base: dict[str, Any] = {}
        self._environ: dict[str, Any] = {}
        self._forwarded: Variables = {}
        self._url = b""
        # The parts of the URL that are not ASCII: their place in `_url`, where they are
        # percent-encoded, and the original bytes
        self._sent: list[tuple[int, bytes]] = []
        self._in_target = False  # whether the last piece ended within the target
        self._is_ascii = False  # whether the header is ASCII so far
        self._seen = 0  # bytes since a header began, or since the last piece of a body
        self._count = 0  # fields of the header that have no entry of their own
        self._tail = b""  # the last bytes of a header that has not ended
        self._request: Request | None = None  # the request whose body is arriving
        self.begun: tuple[Request, int] | None = None
        self._unseen = False  # llhttp has not seen the header of `_request`
        # llhttp no longer parses: a body follows an upgrade, or the request was the last one
        self._raw = False

    def feed(self, data: bytes) -> None:
        """Parse the next bytes. Raises Malformed or TooLarge; then close the connection."""
        if self.begun is not None:
            data = self._begin(data, *self.begun)
        # Usually exactly one whole header arrives. Several in one piece need no cut either, since
        # none of them can be over the limit. (Searching for the end of the first costs more.)
        if (
            data[-4:] == _END
            and data[-5:-4] not in _LINE_ENDS
            and self.idle
            and len(data) <= self.header_bytes
            and data.isascii()
        ):
            self._take(data)
            if self.requests and self.requests[-1].body:
                self._count_empty_lines(self.requests[-1])
            return
        at = 0
        while at < len(data):
            start, at = at, self._cut(data, at)
            if self._unseen:
                self.on_body(data[start:at])
                self._end_body()
            else:
                self._take(data[start:at])

    def _begin(self, data: bytes, request: Request, at: int) -> bytes:
        """Accept a request whose header was read elsewhere. Return the bytes after the header."""
        self.begun = None
        self._request = request
        self._unseen = True
        self._tail = _END[-3:]  # as `_cut` leaves it
        self.requests.append(request)
        self.idle = False
        return data[at:]

    def _end_body(self) -> None:
        """Complete a request without llhttp if its body has arrived."""
        request = self._request
        assert request is not None
        if request.received == request.length:
            self._unseen = False
            self.on_message_complete()
            self.idle = True

    def _count_empty_lines(self, last: Request) -> None:
        """Count the empty lines after the body of `last`; they begin the next header.

        Only for a body with Content-Length: a chunked body itself ends like a header.
        """
        if self._request is None and not self._raw and "CONTENT_LENGTH" in last.environ:
            body = b"".join(last.body[-len(_END) :])[-len(_END) :]
            self._seen = len(_END) - (len(body) - len(body.rstrip(b"\r\n")))
            self.idle = not self._seen

    def _cut(self, data: bytes, at: int) -> int:
        """Return up to where to parse `data` from `at` on, so that no message ends before that.

        llhttp does not report where a message ends. With these pieces, a header's length is the
        same however its bytes arrived.
        """
        if self._raw:
            return len(data)
        request = self._request
        if request is not None and request.length is not None:
            return at + request.length - request.received
        tail = self._tail
        found = (tail + data[at : at + 3]).find(_END) - len(tail) + at if tail else -1
        if not tail or found < at - len(tail):
            found = data.find(_END, at)
            end = found + len(_END) if found >= 0 else len(data)
        else:
            end = found + len(_END)
        if request is None:
            # At most to the first byte over the limit
            end = min(end, at + self.header_bytes + 1 - self._seen)
        self._tail = (tail + data[at:end])[-3:]
        return end

    def _take(self, data: bytes) -> None:
        """Parse a piece that `feed` has cut."""
        if self._raw:
            self._feed_raw(data)
            return
        is_ascii = data.isascii()
        if not self._seen:
            self._is_ascii = is_ascii
        elif not is_ascii:
            self._is_ascii = False
        self._seen += len(data)
        before = self._url
        try:
            if is_ascii:
                self._feed(data)
            else:
                self._feed_by_runs(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Upgrades are not supported: the request is answered like any other (RFC 9110, section
            # 7.8), and the connection ends with it
            self._raw = True
            self._feed_raw(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Malformed):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            if not self._raw:
                status = _STATUS.get(str(error), "400 Bad Request")
                raise Malformed(f"HTTP: {error}", status) from None
            # A peer that announced to close may send anything afterwards; it is ignored
        if self._request is not None:
            self.idle = False
            if self._seen > self.header_bytes:
                # A chunk's extensions or a trailer section, which has no other limit
                raise TooLarge(f"HTTP: over {self.header_bytes} bytes between a body's")
        elif not (self._seen or self._url):
            self.idle = True
        else:
            # The limits apply to a header while it grows
            self.idle = False
            self._check_line()
            if self._seen > self.header_bytes:
                raise TooLarge(f"HTTP: the header has over {self.header_bytes} bytes")
            if is_ascii:
                self._in_target = _ends_in_target(data, self._url[len(before) :])

    def _feed_by_runs(self, data: bytes) -> None:
        """Pass bytes to llhttp that are not all ASCII.

        llhttp refuses non-ASCII bytes in a target. But fronts pass on what clients send, and the
        other protocols carry such bytes. So each run of them in a target is percent-encoded, but
        only for llhttp (RFC 9112, section 3.2: the target is a URI); the environ has the original
        bytes. A run is in a target if llhttp treats the byte before it as part of the target.
        """
        at, size = 0, len(data)
        while at < size:
            request = self._request
            if request is not None:
                # A body may have any bytes. After one of unknown length, nothing is encoded
                length = request.length
                end = size if length is None else min(size, at + length - request.received)
                self._feed_part(data, at, end)
                at = end
                continue
            run = _NOT_ASCII.search(data, at)
            start = size if run is None else run.start()
            if start - 1 > at:
                self._feed_part(data, at, start - 1)
                at = start - 1
            elif start > at:
                known = len(self._url)
                self._feed_part(data, at, start)
                self._in_target = len(self._url) > known
                at = start
            elif run is not None and self._in_target:
                self._sent.append((len(self._url), run[0]))
                self._feed(b"".join(b"%%%02X" % byte for byte in run[0]))
                at = run.end()
            else:
                end = data.find(b"\n", at) + 1 or size  # no target is in the rest of a field
                self._feed_part(data, at, end)
                at = end

    def _feed_part(self, data: bytes, begin: int, end: int) -> None:
        """Pass `data[begin:end]` to llhttp; an upgrade's offset counts from the start of `data`."""
        try:
            self._feed(data[begin:end])
        except httptools.HttpParserUpgrade as upgrade:
            raise httptools.HttpParserUpgrade(begin + upgrade.args[0]) from None

    def _check_line(self) -> None:
        if len(self._url) > self.request_line:
            raise Malformed(
                f"HTTP: the request line has over {self.request_line} bytes", "414 URI Too Long"
            )

    @property
    def in_body(self) -> bool:
        """Whether the next bytes belong to a body of known length."""
        request = self._request
        return request is not None and request.length is not None and not self._raw

    def body_read(self, count: int) -> None:
        """Record that the next `count` bytes, all of a body (`in_body`), were read elsewhere.

        llhttp does not see them. If it has seen the header, a fresh parser replaces it.
        """
        request = self._request
        assert request is not None
        request.received += count
        if not self._unseen:
            self._unseen = True
            self._http = httptools.HttpRequestParser(self)
            self._feed = self._http.feed_data
        self._end_body()

    def _feed_raw(self, data: bytes) -> None:
        request = self._request
        if request is not None and request.length is not None:
            self.on_body(data)
            if request.received == request.length:
                request.complete = True
                self._request = None
        self.idle = self._request is None

    # What llhttp calls

    def on_url(self, url: bytes) -> None:
        if not self._url:
            self._environ = self.base.copy()
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        variable = _KEYS.get(name)
        variables = self._environ
        if variable is None:
            variable = _FORWARDED_KEYS.get(name)
            variables = self._forwarded
        if variable is None or variable in variables:
            self._unusual(name, value)
        elif self._is_ascii:  # decoding ASCII is much faster
            variables[variable] = value.decode().rstrip(" \t")
        else:
            variables[variable] = value.decode("latin-1").rstrip(" \t")

    def _unusual(self, name: bytes, value: bytes) -> None:
        """Process a field whose name is new, not for applications, or repeated."""
        variable = key(name)
        if variable is None:
            self._count += 1
            return
        text = value.decode("latin-1").rstrip(" \t")
        variables = self._forwarded if variable in FORWARDED else self._environ
        if variable in variables:
            self._count += 1
            if variable in ("HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"):
                raise Malformed(f"HTTP: several fields {variable.removeprefix('HTTP_')}")
            joint = "; " if variable == "HTTP_COOKIE" else ", "
            text = variables[variable] + joint + text
        variables[variable] = text

    def on_headers_complete(self) -> None:
        http, environ, url = self._http, self._environ, self._url
        fields = self._count + len(environ) - len(self.base) + len(self._forwarded)
        if fields > self.header_count:
            raise TooLarge(f"HTTP: the header has over {self.header_count} fields")
        if len(url) > self.request_line:
            self._check_line()
        if self._seen > self.header_bytes:
            raise TooLarge(f"HTTP: the header has over {self.header_bytes} bytes")
        method = http.get_method().decode("ascii")
        version = http.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Malformed(
                f"HTTP: version {version} is not spoken here", "505 HTTP Version Not Supported"
            )
        environ["REQUEST_METHOD"] = method
        environ["SERVER_PROTOCOL"] = "HTTP/" + version
        host = environ.get("HTTP_HOST")
        if host is None:
            if version == "1.1":
                raise Malformed("HTTP: HTTP/1.1 without Host")
        elif host not in HOSTS:
            check_host(host)
        if self._sent:
            for start, sent in reversed(self._sent):
                url = url[:start] + sent + url[start + 3 * len(sent) :]
            self._sent = []
        _locate(environ, url, method)
        upgrade = http.should_upgrade()
        keep_alive = http.should_keep_alive() and not upgrade
        request = Request(keep_alive, version, environ, self._forwarded)
        if "HTTP_TRANSFER_ENCODING" in environ:
            if version == "1.0":  # its framing is unreliable (RFC 9112, section 6.1)
                raise Malformed("HTTP: Transfer-Encoding in HTTP/1.0")
            coding = environ.pop("HTTP_TRANSFER_ENCODING").lower()
            if not coding:  # some versions of llhttp accept it
                raise Malformed("HTTP: an empty Transfer-Encoding")
            if coding != "chunked":
                raise Malformed("HTTP: the only transfer coding is chunked", "501 Not Implemented")
            if "CONTENT_LENGTH" in environ:
                raise Malformed("HTTP: Content-Length beside Transfer-Encoding")
            if upgrade:
                raise Malformed("HTTP: a chunked body with an Upgrade", "501 Not Implemented")
        else:
            length = environ.get("CONTENT_LENGTH")
            if length and length[0] == "0":  # it could have more digits than int() accepts
                environ["CONTENT_LENGTH"] = length = length.lstrip("0") or "0"
            request.length = int(length) if length else 0
        if "HTTP_EXPECT" in environ and version == "1.1":
            if environ["HTTP_EXPECT"].lower() != "100-continue":
                raise Malformed("HTTP: an unknown Expect", "417 Expectation Failed")
            request.awaits_continue = True
        self._request = request
        self.requests.append(request)
        # The fields of a trailer section are dropped
        self._environ = {}
        if self._forwarded:
            self._forwarded = {}
        self._url = b""
        self._count = 0
        self._seen = 0

    def on_body(self, data: bytes) -> None:
        request = self._request
        assert request is not None
        request.take(data)
        self._seen = 0

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        if request.length is not None and request.received < request.length:
            return  # an upgrade: llhttp treats the body as data of another protocol
        request.complete = True
        if request.length is None:
            request.length = request.received
        self._request = None
        # A trailer section may have left fields
        if self._environ or self._forwarded or self._count:
            self._environ = {}
            self._forwarded = {}
            self._count = 0
        self._seen = 0
        if not request.keep_alive:
            self._raw = True


def _ends_in_target(data: bytes, target: bytes) -> bool:
    """Whether `data` ends within the target; `target`: the bytes of it that llhttp found in `data`.

    Otherwise it ends within the first field.
    """
    line = data.rpartition(b"\n")[2]
    return (
        bool(target) and line.endswith(target) and _METHOD.search(line[: -len(target)]) is not None
    )


def _locate(environ: dict[str, Any], target: bytes, method: str) -> None:
    """Set REQUEST_URI, PATH_INFO, QUERY_STRING, and Host from an absolute target."""
    environ["REQUEST_URI"] = uri = target.decode("latin-1")
    path, _, query = uri.partition("#")[0].partition("?")
    if path[:1] != "/":
        if path == "*" and method == "OPTIONS":
            path = ""
        elif path[:7].lower() == "http://" or path[:8].lower() == "https://":
            # The absolute form overrides Host (RFC 9112, section 3.2.2)
            authority, slash, rest = path[path.index("//") + 2 :].partition("/")
            if not is_host(authority):  # RFC 9110, sections 4.2.1 and 4.2.4
                raise Malformed("HTTP: the request target has no valid host")
            environ["HTTP_HOST"] = authority
            path = slash + rest or "/"
        else:
            raise Malformed("HTTP: the request target is not a path")
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
