"""HTTP/1.1 (RFC 9112), parsed by llhttp: requests as the beginnings of an environ.

llhttp, which speaks for itself about hostile input, finds the messages; this module says what
they mean to a WSGI application, and what is refused on top: headers over the limits, targets
that are no path (RFC 9112, section 3.2), several Host fields, names that a CGI variable can't
tell apart (X_Forwarded_For and X-Forwarded-For are one variable, and only one of them may
have been checked by the front).
"""

from urllib.parse import unquote_to_bytes

import httptools

from sdactivate.servers.native.wire import Malformed, Message, TooLarge

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# The environ's key for a field's name as it was spelt; None: it never reaches an application.
# Spellings are few, but a peer may invent more: past the limit they are not remembered.
_KEYS: dict[bytes, str | None] = {}
_KEYS_LIMIT = 1024
_OUTSIDE_HTTP = {b"CONTENT_TYPE": "CONTENT_TYPE", b"CONTENT_LENGTH": "CONTENT_LENGTH"}
# Proxy would become HTTP_PROXY, which many HTTP clients obey (CVE-2016-5385)
_NEVER = {b"PROXY"}


def key(name: bytes) -> str | None:
    """Return the environ's key for a field called `name`, None where it has none."""
    upper = name.upper()
    if b"_" in upper or b"." in upper or upper in _NEVER:
        found = None
    else:
        upper = upper.replace(b"-", b"_")
        found = _OUTSIDE_HTTP.get(upper) or "HTTP_" + upper.decode("latin-1")
    if len(_KEYS) < _KEYS_LIMIT:
        _KEYS[name] = found
    return found


class Request(Message):
    """A request whose header is complete.

    environ: the variables that come from its request line and header. version: "1.1" or "1.0".
    """

    __slots__ = ("environ", "version")

    def __init__(self, environ: dict[str, str], keep_alive: bool, version: str) -> None:
        super().__init__(keep_alive)
        self.environ = environ
        self.version = version


class Parser:
    """The requests of one connection, from bytes in any pieces.

    header_bytes, header_count, request_line: limits in bytes, fields and bytes.
    `requests` holds those whose header is complete, oldest first; the connection takes them.
    """

    __slots__ = (
        "_count",
        "_environ",
        "_feed",
        "_http",
        "_raw",
        "_request",
        "_seen",
        "_url",
        "header_bytes",
        "header_count",
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
        self._environ: dict[str, str] = {}
        self._url = b""
        self._seen = 0  # bytes of the header under way
        self._count = 0  # fields of it
        self._request: Request | None = None  # whose body is under way
        self._raw = False  # that body follows an upgrade: llhttp has let go of the connection

    @property
    def idle(self) -> bool:
        """Whether no request is under way: nothing of a next one has come."""
        return not self._seen and self._request is None and not self.requests

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises Malformed or TooLarge; the connection is then at its end."""
        if self._raw:
            self._feed_raw(data)
            return
        if self._request is None:
            self._seen += len(data)
        try:
            self._feed(data)
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
            raise Malformed(f"HTTP: {error}") from None
        # A header that has not ended is held to its limits as it grows
        if self._request is None and self._seen:
            if len(self._url) > self.request_line:
                raise Malformed(
                    f"HTTP: the request line has over {self.request_line} bytes",
                    "414 URI Too Long",
                )
            if self._seen > self.header_bytes:
                raise TooLarge(f"HTTP: the header has over {self.header_bytes} bytes")

    def _feed_raw(self, data: bytes) -> None:
        request = self._request
        if request is not None and request.length is not None:
            if data := data[: request.length - request.received]:
                self.on_body(data)
            if request.received == request.length:
                request.complete = True
                self._request = None

    # What llhttp calls

    def on_message_begin(self) -> None:
        self._environ = {}
        self._url = b""
        self._count = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        try:
            variable = _KEYS[name]
        except KeyError:
            variable = key(name)
        self._count += 1
        if variable is None:
            return
        environ = self._environ
        if variable in environ:
            self._repeated(variable, value)
        else:
            environ[variable] = value.decode("latin-1")

    def _repeated(self, variable: str, value: bytes) -> None:
        if variable in ("HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"):
            raise Malformed(f"HTTP: several fields {variable.removeprefix('HTTP_')}")
        joint = "; " if variable == "HTTP_COOKIE" else ", "
        self._environ[variable] += joint + value.decode("latin-1")

    def on_headers_complete(self) -> None:
        http, environ, url = self._http, self._environ, self._url
        self._environ = {}  # the fields of a trailer section go nowhere
        if self._count > self.header_count:
            raise TooLarge(f"HTTP: the header has over {self.header_count} fields")
        if len(url) > self.request_line:
            raise Malformed(
                f"HTTP: the request line has over {self.request_line} bytes", "414 URI Too Long"
            )
        if self._seen > self.header_bytes and (
            sum(len(name) + len(value) for name, value in environ.items()) > self.header_bytes
        ):
            raise TooLarge(f"HTTP: the header has over {self.header_bytes} bytes")
        method = http.get_method().decode("latin-1")
        version = http.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Malformed(
                f"HTTP: version {version} is not spoken here", "505 HTTP Version Not Supported"
            )
        environ["REQUEST_METHOD"] = method
        environ["SERVER_PROTOCOL"] = "HTTP/" + version
        _locate(environ, url, method)
        if version == "1.1" and "HTTP_HOST" not in environ:
            raise Malformed("HTTP: HTTP/1.1 without Host")
        upgrade = http.should_upgrade()
        request = Request(environ, http.should_keep_alive() and not upgrade, version)
        if "HTTP_TRANSFER_ENCODING" in environ:
            if environ.pop("HTTP_TRANSFER_ENCODING").lower() != "chunked":
                raise Malformed("HTTP: the only transfer coding is chunked", "501 Not Implemented")
            if "CONTENT_LENGTH" in environ:
                raise Malformed("HTTP: Content-Length beside Transfer-Encoding")
            if upgrade:
                raise Malformed("HTTP: a chunked body behind an Upgrade", "501 Not Implemented")
        else:
            length = environ.get("CONTENT_LENGTH")
            request.length = int(length) if length else 0
        if "HTTP_EXPECT" in environ and version == "1.1":
            if environ["HTTP_EXPECT"].lower() != "100-continue":
                raise Malformed("HTTP: an unknown Expect", "417 Expectation Failed")
            request.awaits_continue = True
        self._request = request
        self._seen = 0
        self.requests.append(request)

    def on_body(self, data: bytes) -> None:
        request = self._request
        assert request is not None
        request.body.append(data)
        request.received += len(data)

    def on_message_complete(self) -> None:
        request = self._request
        assert request is not None
        if request.length is not None and request.received < request.length:
            return  # an upgrade: llhttp believes that the body is another protocol's
        request.complete = True
        if request.length is None:
            request.length = request.received
        self._request = None
        # What follows in the same bytes is another request's header: its size is not known
        # exactly here, and need not be: the limits are checked again at the next bytes.
        self._seen = 0


def _locate(environ: dict[str, str], target: bytes, method: str) -> None:
    """Set REQUEST_URI, PATH_INFO, QUERY_STRING, and Host from an absolute target."""
    environ["REQUEST_URI"] = target.decode("latin-1")
    path, _, query = target.partition(b"#")[0].partition(b"?")
    if path[:1] != b"/":
        if path == b"*" and method == "OPTIONS":
            path = b""
        elif path[:7].lower() == b"http://" or path[:8].lower() == b"https://":
            # The absolute form outranks Host (RFC 9112, section 3.2.2)
            authority, slash, rest = path[path.index(b"//") + 2 :].partition(b"/")
            environ["HTTP_HOST"] = authority.decode("latin-1")
            path = slash + rest or b"/"
        else:
            raise Malformed("HTTP: the request's target is no path")
    if b"%" in path:
        path = unquote_to_bytes(path)
    environ["PATH_INFO"] = path.decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
