"""The compiled twin reads what it takes as the original does, and takes what is plain.

Whatever bytes come: what `_accel` takes, the original takes with the same result; and it takes the
requests that fronts and browsers send, or it would be of no use.
"""

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.wire import HEADERS, PARAMS, PROTOCOLS
from sdactivate.servers.native import accel, cgi_environ, twin
from sdactivate.servers.native.environ_base import base_environ
from sdactivate.servers.native.wire import HOSTS, Malformed, fastcgi, http, is_host, scgi, uwsgi
from sdactivate.settings import Settings

pytestmark = pytest.mark.skipif(accel.module is None, reason=accel.why_not)

BASE = base_environ(Settings())
HTTP_BASE = {name: value for name, value in BASE.items() if name != "CONTENT_LENGTH"}
READER = twin.variables(BASE)
HOST = b"Host: www.example.com\r\n"
LIMITS = (2000, 24, 200)  # small ones, so that they are reached
Found = tuple[Any, ...] | str | None


def begin() -> None:
    """The host and the mount of `TEXTS` have been checked before."""
    assert is_host("www.example.com")
    cgi_environ.environ({"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/app", "PATH_INFO": "/"}, BASE)


@pytest.fixture(autouse=True)
def known() -> None:
    begin()


# What the originals make of the same bytes


def original_variables(parse: Callable[..., Any], data: bytes) -> Found:
    try:
        found = parse(data, LIMITS[0])
        if found is None:
            return None
        variables, end = found
        return cgi_environ.environ(variables, BASE), end
    except Malformed as error:
        return error.status


def original_fastcgi(data: bytes) -> Found:
    end = end_of_params(data)
    parser = fastcgi.Parser(LIMITS[0], {})
    try:
        parser.feed(data[:end])
        if len(parser.requests) != 1 or parser.replies:
            return None
        (request,) = parser.requests
        assert request.variables is not None
        environ = cgi_environ.environ(request.variables, BASE)
    except Malformed as error:
        return error.status
    with suppress(Malformed):
        parser.feed(data[end:])
    is_all = request.complete and not (request.aborted or request.received)
    return environ, request.id, request.keep_alive, 0 if is_all else len(data) - end


def end_of_params(data: bytes) -> int:
    """Where the first empty record of parameters ends."""
    at = 0
    while at < len(data):
        kind, length = data[at + 1], int.from_bytes(data[at + 4 : at + 6], "big")
        at += 8 + length + data[at + 6]
        if kind == fastcgi.PARAMS and not length:
            break
    return at


def original_http(data: bytes) -> Found:
    parser = http.Parser(*LIMITS)
    parser.base = HTTP_BASE
    try:
        parser.feed(data)
    except Malformed as error:
        return error.status
    return None if len(parser.requests) != 1 else seen(parser.requests[0])


def seen(request: http.Request) -> Found:
    assert request.complete is (request.received == request.length)
    assert not request.awaits_continue
    assert request.version == "1.1"
    return (
        request.environ,
        request.forwarded,
        request.keep_alive,
        request.length,
        b"".join(request.body),
    )


def compiled_http(data: bytes) -> Found:
    found = twin.fields.read(data, HTTP_BASE, *LIMITS)
    if found is None:
        return None
    environ, told, keep_alive, length, at = found
    return environ, told or {}, keep_alive, length, data[at:]


PAIRS: dict[str, tuple[Callable[[bytes], Found], Callable[[bytes], Found]]] = {
    "scgi": (
        lambda data: READER.scgi(data, LIMITS[0]),
        lambda data: original_variables(scgi.parse, data),
    ),
    "uwsgi": (
        lambda data: READER.uwsgi(data, LIMITS[0]),
        lambda data: original_variables(uwsgi.parse, data),
    ),
    "fastcgi": (lambda data: READER.fastcgi(data, LIMITS[0]), original_fastcgi),
    "http": (compiled_http, original_http),
}


def agree(protocol: str, data: bytes) -> bool:
    """Whether the twin takes `data`; what it takes, the original must take with the same result."""
    compiled, original = PAIRS[protocol]
    before = set(HOSTS)
    found = compiled(data)
    assert before == HOSTS
    if found is None:
        return False
    assert found == original(data)
    return True


@pytest.mark.parametrize("protocol", PAIRS)
def test_takes_what_fronts_and_browsers_send(protocol: str) -> None:
    assert agree(protocol, PROTOCOLS[protocol].request(PARAMS))
    assert agree(protocol, PROTOCOLS[protocol].request(PARAMS))  # from memory


@pytest.mark.parametrize("protocol", PAIRS)
def test_leaves_every_part_of_it_to_the_original(protocol: str) -> None:
    whole = PROTOCOLS[protocol].request(PARAMS)
    taken = [size for size in range(len(whole)) if agree(protocol, whole[:size])]
    # Over FastCGI a head is complete without the body that begins behind it
    begun = range(len(whole) - 7, len(whole)) if protocol == "fastcgi" else ()
    assert taken == list(begun)


@pytest.mark.parametrize("protocol", PAIRS)
def test_any_byte_of_it_changed(protocol: str) -> None:
    whole = PROTOCOLS[protocol].request(PARAMS | {"HTTP_COOKIE": "a=b"})
    for at in range(len(whole)):
        for byte in {0, 9, 10, 13, 32, 58, 255, whole[at] ^ 1, whole[at] ^ 0x20, whole[at] ^ 0x80}:
            agree(protocol, whole[:at] + bytes([byte]) + whole[at + 1 :])


# Variables: the odd ones among the usual ones

NAMES = st.sampled_from(
    [
        *("REQUEST_METHOD", "CONTENT_LENGTH", "SCRIPT_NAME", "PATH_INFO", "HTTPS", "SERVER_NAME"),
        *("REQUEST_SCHEME", "HTTP_HOST", "HTTP_X_FORWARDED_FOR", "HTTP_PROXY", "HTTP_COOKIE"),
        *("HTTP_TRANSFER_ENCODING", "QUERY_STRING", "DOCUMENT_URI", "REQUEST_URI", "wsgi.version"),
        *(
            "wsgi.input",
            "SERVER_PROTOCOL",
            "CONTENT_TYPE",
            "HTTP_CONTENT_LENGTH",
            "",
            "REMOTE_USER",
        ),
        *("X" * 63, "X" * 64, "HTTP_CAFÉ"),
    ]
)
TEXTS = st.sampled_from(
    [
        *("", "GET", "POST", "BREW", "0", "5", "-1", "+5", "007", "9" * 18, "9" * 19, "9" * 20),
        *("/", "/app", "/app/", "//x", "/a b", "/é", "*", "index", "on", "ON", "off", "1", "https"),
        *("http", "www.example.com", "www.example.com:80", "other.example", "[::1]", "a@b"),
    ]
) | st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=140)
VARIABLES = st.lists(st.tuples(NAMES, TEXTS), max_size=9)
USUAL = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), ("SCRIPT_NAME", ""), ("HTTPS", "on")]


def scgi_bytes(variables: list[tuple[str, str]]) -> bytes:
    block = "".join(f"{name}\0{value}\0" for name, value in variables).encode("latin-1")
    return b"%d:%b," % (len(block), block)


def uwsgi_bytes(variables: list[tuple[str, str]]) -> bytes:
    def sized(text: str) -> bytes:
        return len(text).to_bytes(2, "little") + text.encode("latin-1")

    block = b"".join(sized(name) + sized(value) for name, value in variables)
    return b"\0" + len(block).to_bytes(2, "little") + b"\0" + block


def fastcgi_bytes(variables: list[tuple[str, str]]) -> bytes:
    def sized(text: str) -> bytes:
        size = len(text)
        return bytes([size]) if size < 128 else (size | 1 << 31).to_bytes(4, "big")

    block = b"".join(
        sized(name) + sized(value) + (name + value).encode("latin-1") for name, value in variables
    )
    begin = fastcgi.head(fastcgi.BEGIN_REQUEST, 7, 8) + bytes((0, 1, 1, 0, 0, 0, 0, 0))
    params = fastcgi.stream(fastcgi.PARAMS, 7, block) + fastcgi.head(fastcgi.PARAMS, 7, 0)
    return begin + params + fastcgi.head(fastcgi.STDIN, 7, 0)


ENCODERS = {"scgi": scgi_bytes, "uwsgi": uwsgi_bytes, "fastcgi": fastcgi_bytes}


@pytest.mark.parametrize("protocol", ENCODERS)
@given(
    more=VARIABLES,
    at=st.integers(0, 4),
    usual=st.sets(st.sampled_from(USUAL)),
    tail=st.binary(max_size=9),
)
def test_variables(
    protocol: str, more: list[tuple[str, str]], at: int, usual: set[tuple[str, str]], tail: bytes
) -> None:
    listed = sorted(usual)
    data = ENCODERS[protocol]([*listed[:at], *more, *listed[at:]])
    agree(protocol, data)
    agree(protocol, data + tail)


@pytest.mark.parametrize("protocol", ENCODERS)
@pytest.mark.parametrize(
    "more",
    [
        {"SCRIPT_NAME": "/app", "PATH_INFO": ""},
        {"SCRIPT_NAME": "/app", "PATH_INFO": "/x"},
        {"HTTPS": ""},
        {"HTTPS": "off", "REQUEST_SCHEME": "https"},
        {"REQUEST_SCHEME": "https"},
        {"CONTENT_LENGTH": "0"},
        {"CONTENT_LENGTH": "-1"},
        {"HTTP_X_FORWARDED_FOR": "192.0.2.1", "HTTP_PROXY": "http://a/"},
        {"HTTP_COOKIE": "naïve=é"},
        {"SERVER_NAME": ""},
    ],
    ids=lambda more: " ".join(more),
)
def test_what_is_plain(protocol: str, more: dict[str, str]) -> None:
    variables = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SCRIPT_NAME": ""} | more
    assert agree(protocol, ENCODERS[protocol](list(variables.items()))) or (
        "CONTENT_LENGTH" in more and protocol == "fastcgi"
    )


@pytest.mark.parametrize("protocol", ENCODERS)
@given(st.binary(max_size=300))
def test_no_request_at_all(protocol: str, data: bytes) -> None:
    agree(protocol, data)


# HTTP: a grammar of what is near the plain form

LINES = st.sampled_from(
    [
        *(b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"GET /%41%zz%4?%41 HTTP/1.1\r\n"),
        *(b"GET //x/../y HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n", b"GET /a#b HTTP/1.1\r\n"),
        *(b"GET / HTTP/1.0\r\n", b"GET /\xe9 HTTP/1.1\r\n", b"get / HTTP/1.1\r\n"),
        *(b"GET  / HTTP/1.1\r\n", b"GET / HTTP/1.1\n", b"\r\nGET / HTTP/1.1\r\n", b"GET / \r\n"),
        *(b"GET http://a/b HTTP/1.1\r\n", b"GET /" + b"x" * 200 + b" HTTP/1.1\r\n"),
        *(b'GET /"<>\\^`{|}~ HTTP/1.1\r\n', b"HEAD /?? HTTP/1.1\r\n", b"GET ? HTTP/1.1\r\n"),
    ]
)
FIELDS = st.sampled_from(
    [
        *(b"Host: www.example.com\r\n", b"host:www.example.com\r\n", b"Host: other.example\r\n"),
        *(b"Host: \r\n", b"Host: a@b\r\n", b"Content-Length: 3\r\n", b"Content-Length: 03\r\n"),
        *(b"Content-Length: +3\r\n", b"Content-Length: 3 \r\n", b"content-length: 0\r\n"),
        *(b"Content-Length:\r\n", b"Content-Length: 3,3\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: Close\r\n"),
        *(b"Connection: upgrade\r\n", b"Connection:\r\n", b"Upgrade: h2c\r\n"),
        *(b"Expect: 100-continue\r\n", b"Cookie: a=b\r\n", b"Cookie:\t c \t\r\n", b"X: \x01\r\n"),
        *(b"X-Forwarded-For: 192.0.2.1\r\n", b"X_Forwarded_For: 1\r\n", b"Proxy: x\r\n"),
        *(b"A: \xe9\r\n", b"A : b\r\n", b": b\r\n", b" folded\r\n", b"A: b\n", b"A: b\r\r\n"),
        *(b"Proxy-Connection: close\r\n", b"TE: trailers\r\n", b"Trailer: x\r\n", b"A.B: c\r\n"),
        *(
            b"X" * 63 + b": y\r\n",
            b"X" * 64 + b": y\r\n",
            b"Content-Type: a\r\n",
            b"A: " + b"b" * 150,
        ),
        *(b"HTTP2-Settings: x\r\n", b"Date: x\r\n", b"Keep-Alive: 5\r\n", b"A!: b\r\n", b"A"),
    ]
)
BODIES = st.sampled_from([b"", b"abc", b"ab", b"abcd", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])


@given(
    line=LINES,
    fields=st.lists(FIELDS, max_size=6),
    with_host=st.booleans(),
    end=st.sampled_from([b"\r\n", b"\n", b"", b"\r\n\r\n", b"\r"]),
    body=BODIES,
)
def test_http(line: bytes, fields: list[bytes], with_host: bool, end: bytes, body: bytes) -> None:
    host = [b"Host: www.example.com\r\n"] if with_host else []
    agree("http", line + b"".join([*host, *fields]) + end + body)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_http_that_is_none(one: bytes, other: bytes) -> None:
    agree("http", b"GET /%b HTTP/1.1\r\n%bA: %b\r\n\r\n" % (one, HOST, other))
    agree("http", one + other)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /a%2fb?c=%41 HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\n%bConnection: close\r\nX-Forwarded-For: a\r\n\r\n" % HOST,
        b"GET / HTTP/1.1\r\nhost:www.example.com\r\nProxy: a\r\nA:\t b \t\r\n\r\n",
    ],
)
def test_http_that_is_plain(data: bytes) -> None:
    assert agree("http", data)


def test_http_has_the_same_limits() -> None:
    def request(count: int, line: int, size: int) -> bytes:
        fields = b"".join(b"A%d: b\r\n" % number for number in range(count - 1))
        head = b"GET /%b HTTP/1.1\r\nHost: www.example.com\r\n%b" % (b"x" * (line - 1), fields)
        return (
            head + b"B: " + b"b" * (size - len(head) - 7) + b"\r\n\r\n" if size else head + b"\r\n"
        )

    most, count, line = LIMITS
    taken = [agree("http", request(count + more, 10, 0)) for more in (-1, 0, 1)]
    assert taken == [True, True, False]
    assert [agree("http", request(3, line + more, 0)) for more in (0, 1)] == [True, False]
    assert [agree("http", request(3, 10, most + more)) for more in (0, 1)] == [True, False]


# The memory of names, and of which come together

REPEATED = [
    *("REQUEST_METHOD", "PATH_INFO", "SCRIPT_NAME", "HTTPS", "CONTENT_LENGTH", "HTTP_HOST"),
    *("HTTP_COOKIE", "HTTP_X_FORWARDED_FOR", "HTTP_PROXY", "SERVER_NAME", "REMOTE_USER"),
]


@pytest.mark.parametrize("protocol", ENCODERS)
@given(
    names=st.lists(st.sampled_from(REPEATED), max_size=7),
    rows=st.lists(st.lists(TEXTS, min_size=7, max_size=7), min_size=2, max_size=5),
)
def test_variables_of_the_same_names(
    protocol: str, names: list[str], rows: list[list[str]]
) -> None:
    for values in rows:
        plain = zip(names, values, strict=False)
        agree(protocol, ENCODERS[protocol]([("REQUEST_METHOD", "GET"), ("PATH_INFO", "/"), *plain]))


@given(
    names=st.lists(
        st.sampled_from(
            [b"Cookie", b"X-Forwarded-For", b"x-forwarded-proto", b"Proxy", b"A", b"Content-Length"]
        ),
        max_size=5,
    ),
    rows=st.lists(
        st.lists(
            st.sampled_from([b"", b"0", b"3", b"03", b"a", b"https", b"203.0.113.9", b"b" * 150]),
            min_size=5,
            max_size=5,
        ),
        min_size=2,
        max_size=5,
    ),
    body=st.sampled_from([b"", b"abc"]),
)
def test_http_of_the_same_names(names: list[bytes], rows: list[list[bytes]], body: bytes) -> None:
    for values in rows:
        fields = b"".join(b"%b: %b\r\n" % each for each in zip(names, values, strict=False))
        agree("http", b"POST /%b HTTP/1.1\r\n%b%b\r\n%b" % (values[0], HOST, fields, body))


@pytest.mark.parametrize("protocol", PAIRS)
def test_nothing_of_a_request_gets_into_another(protocol: str) -> None:
    """Though others are read in between, wherever that can be: garbage is collected in many places.

    Those have the same names, or others.
    """
    compiled = PAIRS[protocol][0]
    mine, theirs = (
        [
            PROTOCOLS[protocol].request(PARAMS | {"REMOTE_ADDR": name, "REMOTE_USER": name})
            for name in names
        ]
        for names in (("one", "two"), ("six", "ten"))
    )
    theirs.append(PROTOCOLS[protocol].request(PARAMS | {"HTTP_X_MORE": "x"}))
    expected = [compiled(data) for data in mine]
    assert None not in expected
    inside = 0

    def collecting(phase: str, info: Any) -> None:
        nonlocal inside
        found.append(info)
        if phase == "stop" and not inside:
            inside = 1
            found.extend(compiled(data) for data in theirs)
            inside = 0

    # Free ones would be used again, and no garbage be collected to make another
    found: list[Any] = [{"": number} for number in range(500)]
    threshold = gc.get_threshold()
    gc.callbacks.append(collecting)
    try:
        for number in range(40):
            gc.set_threshold(1 + number % 5)
            for data, right in zip(mine, expected, strict=True):
                found.append(compiled(data))
                assert found[-1] == right
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(collecting)
    assert len(found) > 500 + 40 * len(mine)


def test_names_are_forgotten_when_there_are_many() -> None:
    """And a name that comes twice is noticed though its place is taken in between."""
    usual = [("REQUEST_METHOD", "GET"), ("PATH_INFO", "/")]
    reader = twin.variables(BASE)
    for turn in range(40):
        many = [(f"HTTP_N{turn}_{number}", str(number)) for number in range(40)]
        data = scgi_bytes([*usual, *many])
        environ, end = reader.scgi(data, 65536)
        assert end == len(data)
        assert environ.items() >= dict(many).items()
    many = [(f"HTTP_M{number}", "") for number in range(1000)]
    data = scgi_bytes([*usual, ("HTTP_TWICE", "1"), *many, ("HTTP_TWICE", "2")])
    assert reader.scgi(data, 65536) is None


def test_what_a_name_means_is_asked_once() -> None:
    asked: list[bytes] = []

    def meaning(name: bytes) -> tuple[str, int]:
        asked.append(name)
        return name.decode(), accel.module.FIELD_HOST if name == b"Host" else accel.module.FIELD

    fields = accel.module.Fields({"a"}, meaning)
    data = b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n"
    for _ in range(3):
        assert fields.read(data, {}, 1000, 10, 100) is not None
    assert asked == [b"Host", b"B"]


@pytest.mark.parametrize("answer", [None, (1,), ("a", "b"), ("a", 1, 2)])
def test_a_meaning_that_is_none_is_an_error(answer: Any) -> None:
    fields = accel.module.Fields({"a"}, lambda name: answer)
    with pytest.raises(TypeError):
        fields.read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", {}, 1000, 10, 100)


def test_a_meaning_may_raise() -> None:
    fields = accel.module.Fields({"a"}, lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fields.read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", {}, 1000, 10, 100)


def test_every_header_of_the_benchmark_is_there() -> None:
    environ, *_ = twin.fields.read(PROTOCOLS["http"].request(PARAMS), HTTP_BASE, 65536, 100, 8190)
    for name, value in HEADERS.items():
        assert environ[http.key(name.encode())] == value


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="to allocate is not to collect garbage")
def test_another_thread_s_request_leaves_nothing_behind() -> None:
    """A request that is left to the original half way, while another's dictionary is made."""

    def request(cookie: str, connection: str, address: str) -> bytes:
        return (
            f"GET / HTTP/1.1\r\nHost: www.example.com\r\nCookie: {cookie}\r\n"
            f"X-Forwarded-For: {address}\r\nConnection: {connection}\r\n\r\n"
        ).encode()

    def read(data: bytes) -> Any:
        return twin.fields.read(data, BASE, 65536, 100, 8190)

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            met.append(read(request("other", "Keep-Alive", "192.0.2.2")))

    met: list[Any] = []
    threshold = gc.get_threshold()
    gc.disable()
    try:
        for number in range(195, 220):
            read(request("first", "keep-alive", "192.0.2.1"))
            gc.collect()
            Garbage()
            held: list[Any] = [{} for _ in range(200)]  # so that none is at hand
            gc.set_threshold(number)
            gc.enable()
            found = read(request("own", "keep-alive", "192.0.2.3"))
            gc.disable()
            del held
            assert found is not None
            assert found[0]["HTTP_COOKIE"] == "own"
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    assert met
    assert set(met) == {None}
