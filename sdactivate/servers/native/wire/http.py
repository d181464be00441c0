"""Parse HTTP/1.1 requests with llhttp, chunked bodies included (RFC 9112).

llhttp parses the messages and is hardened against hostile input. This module builds the WSGI
variables, and refuses more: headers over the limits, targets that are not a path (RFC 9112, section
3.2), several Host fields, and names that give the same CGI variable (X_Forwarded_For and
X-Forwarded-For do, and the front may have checked only one of them).
"""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

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

# What a request begins with: a method, which is a token (RFC 9110, section 5.6.2), or an empty
# line, which old clients send behind a body (RFC 9112, section 2.2)
BEGINNINGS = frozenset(
    b"!#$%&'*+-.^_`|~0123456789\r\nABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
# What stands in front of a target in its line, as far as it has come with it
_METHOD = re.compile(rb"\A\Z|(?:\A|[A-Z-]) +\Z")

_END = b"\r\n\r\n"  # of a header, and of a chunked body
_LINE_ENDS = frozenset((b"", b"\r", b"\n"))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# What the front says of its client, if it is to be believed: kept apart from the environ. Proxy
# would become HTTP_PROXY, which many HTTP clients obey (CVE-2016-5385), and is nobody's.
_NEVER = frozenset({"HTTP_PROXY"})
FORWARDED = FORGEABLE_VARIABLES - _NEVER
_OUTSIDE_HTTP = {"HTTP_CONTENT_TYPE": "CONTENT_TYPE", "HTTP_CONTENT_LENGTH": "CONTENT_LENGTH"}

# The environ's key for a field's name as it was spelt, for those that have one and need no
# second look. Spellings are few and short, but a peer may invent others: long ones are not kept,
# and when there are many all are dropped.
_KEYS: dict[bytes, str] = {}
_FORWARDED_KEYS: dict[bytes, str] = {}
_KEPT = 1024
_LONGEST_KEPT = 64

# What llhttp says, and what is due where that is not 400. (It looks no further into a method than
# to where it differs from all that it knows: one that is no token is unknown as well.)
_STATUS = {
    "Invalid method encountered": "501 Not Implemented",
    "Invalid HTTP version": "505 HTTP Version Not Supported",
    "Invalid method for HTTP/x.x request": "501 Not Implemented",  # RTSP's
}


def key(name: bytes) -> str | None:
    """Return the environ's key for a field called `name`, None where it has none."""
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

    environ: the parser's `base` and the variables that come from its request line and header.
    forwarded: those of FORWARDED among them, which are not in the environ. version: "1.1" or
    "1.0".
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


# What a connection's `request` is while the compiled twin serves one that has come whole, by
# whether the connection is kept
KEPT, LAST = _complete(True), _complete(False)


class Parser:
    """The requests of one connection, from bytes in any pieces.

    header_bytes, header_count, request_line: limits in bytes, fields and bytes.
    `base` is what each environ begins with; it has nothing that a field could be called.
    `requests` gets each request whose header is complete, oldest first; the connection takes
    them. `idle` tells whether nothing of a request is under way.
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
        "_url",
        "base",
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
        # What came of it that is not ASCII: where it stands percent-encoded, and what was sent
        self._sent: list[tuple[int, bytes]] = []
        self._in_target = False  # the last piece ended within it
        self._is_ascii = False  # all that came of the header is
        self._seen = 0  # bytes since a header began, or since the last piece of a body
        self._count = 0  # fields of it that have no entry of their own
        self._tail = b""  # the last bytes of a header that has not ended
        self._request: Request | None = None  # whose body is under way
        # llhttp has let go of the connection: that body follows an upgrade, or it was the last
        self._raw = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises Malformed or TooLarge; the connection is then at its end."""
        # As a rule a whole header comes, and nothing else. Several in one piece need no cut either:
        # none of them can be over the limit. (To look for the end of the first costs more.)
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
            self._take(data[start:at])

    def _count_empty_lines(self, last: Request) -> None:
        """Count what stands behind the body of `last`, whose bytes end like a header.

        It begins the next header. A chunked body ends like one itself.
        """
        if self._request is None and not self._raw and "CONTENT_LENGTH" in last.environ:
            body = b"".join(last.body[-len(_END) :])[-len(_END) :]
            self._seen = len(_END) - (len(body) - len(body.rstrip(b"\r\n")))
            self.idle = not self._seen

    def _cut(self, data: bytes, at: int) -> int:
        """Return how far to take `data` from `at` on, so that no message ends before that.

        llhttp does not say where a message ends. Taken in these pieces a header has the same
        length however its bytes came.
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
            # No further than to the first byte over the limit
            end = min(end, at + self.header_bytes + 1 - self._seen)
        self._tail = (tail + data[at:end])[-3:]
        return end

    def _take(self, data: bytes) -> None:
        """Take a piece as `feed` has cut it."""
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
            # An upgrade that nobody here makes: the request is answered as any other
            # (RFC 9110, section 7.8), and the connection ends with it
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
            # Nothing is taken from a peer after it has said that it would close
        if self._request is not None:
            self.idle = False
            if self._seen > self.header_bytes:
                # A chunk's extensions or a trailer section, which has no other limit
                raise TooLarge(f"HTTP: over {self.header_bytes} bytes between a body's")
        elif not (self._seen or self._url):
            self.idle = True
        else:
            # A header that has not ended is held to its limits as it grows
            self.idle = False
            self._check_line()
            if self._seen > self.header_bytes:
                raise TooLarge(f"HTTP: the header has over {self.header_bytes} bytes")
            if is_ascii:
                self._in_target = _ends_in_target(data, self._url[len(before) :])

    def _feed_by_runs(self, data: bytes) -> None:
        """Let llhttp have bytes of which some are not ASCII.

        It takes none of these in a target, where fronts pass on what clients send, and the other
        protocols carry it. So each run of them in a target is percent-encoded, but only for llhttp
        (RFC 9112, section 3.2: the target is a URI); the environ has the original bytes. Where a
        target is, llhttp tells: by whose byte the one ahead of the run is.
        """
        at, size = 0, len(data)
        while at < size:
            request = self._request
            if request is not None:
                # A body's bytes are its own affair; what follows one of unknown length is not
                # looked into
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
        """Let llhttp have `data[begin:end]`; where it lets go counts from the beginning of data."""
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
        """Whether the next bytes are a body's, of a length that is known, and nothing else."""
        request = self._request
        return request is not None and request.length is not None and not self._raw

    def body_read(self, count: int) -> None:
        """Take note that the next `count` bytes, all of a body (`in_body`), need no parser.

        At the body's end llhttp, which has not seen them, begins anew.
        """
        request = self._request
        assert request is not None
        request.received += count
        if request.received == request.length:
            self._http = httptools.HttpRequestParser(self)
            self._feed = self._http.feed_data
            self.on_message_complete()
            self.idle = True

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
        elif self._is_ascii:  # this much sooner decoded
            variables[variable] = value.decode().rstrip(" \t")
        else:
            variables[variable] = value.decode("latin-1").rstrip(" \t")

    def _unusual(self, name: bytes, value: bytes) -> None:
        """Take a field whose name is new, or not for applications, or repeated."""
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
            if version == "1.0":  # its framing is not to be relied on (RFC 9112, section 6.1)
                raise Malformed("HTTP: Transfer-Encoding in HTTP/1.0")
            coding = environ.pop("HTTP_TRANSFER_ENCODING").lower()
            if not coding:  # which some versions of llhttp let pass
                raise Malformed("HTTP: an empty Transfer-Encoding")
            if coding != "chunked":
                raise Malformed("HTTP: the only transfer coding is chunked", "501 Not Implemented")
            if "CONTENT_LENGTH" in environ:
                raise Malformed("HTTP: Content-Length beside Transfer-Encoding")
            if upgrade:
                raise Malformed("HTTP: a chunked body behind an Upgrade", "501 Not Implemented")
        else:
            length = environ.get("CONTENT_LENGTH")
            if length and length[0] == "0":  # or it may have more digits than int() reads
                environ["CONTENT_LENGTH"] = length = length.lstrip("0") or "0"
            request.length = int(length) if length else 0
        if "HTTP_EXPECT" in environ and version == "1.1":
            if environ["HTTP_EXPECT"].lower() != "100-continue":
                raise Malformed("HTTP: an unknown Expect", "417 Expectation Failed")
            request.awaits_continue = True
        self._request = request
        self.requests.append(request)
        # The fields of a trailer section go nowhere
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
            return  # an upgrade: llhttp believes that the body is another protocol's
        request.complete = True
        if request.length is None:
            request.length = request.received
        self._request = None
        # A trailer section may have left something
        if self._environ or self._forwarded or self._count:
            self._environ = {}
            self._forwarded = {}
            self._count = 0
        self._seen = 0
        if not request.keep_alive:
            self._raw = True


def _ends_in_target(data: bytes, target: bytes) -> bool:
    """Whether `data`, whose last `target` llhttp took for a target's, ends within it.

    It ends within the first field, otherwise.
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
            # The absolute form outranks Host (RFC 9112, section 3.2.2)
            authority, slash, rest = path[path.index("//") + 2 :].partition("/")
            if not is_host(authority):  # RFC 9110, sections 4.2.1 and 4.2.4
                raise Malformed("HTTP: the request's target names no host")
            environ["HTTP_HOST"] = authority
            path = slash + rest or "/"
        else:
            raise Malformed("HTTP: the request's target is no path")
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
