"""HTTP's parser: bytes from hostile hands, what an independent encoder writes, every refusal."""

import itertools
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, compare, http_outcome, one_by_one
from sdactivate.servers.native import wire
from sdactivate.servers.native.wire import Malformed, http
from sdactivate.servers.native.wire.http import FORWARDED, Parser
from tests.effort import examples
from tests.servers.native.wire.cuts import cuts, pieces

HOST = b"Host: www.example.com\r\n"
LIMITS = (65536, 100, 8190)
REFUSED = "400 Bad Request"
TOO_LARGE = "431 Request Header Fields Too Large"


def fed(*data: bytes, limits: tuple[int, int, int] = LIMITS) -> Parser:
    parser = Parser(*limits)
    for each in data:
        parser.feed(each)
    return parser


def only(*data: bytes) -> http.Request:
    (request,) = fed(*data).requests
    return request


def status(*data: bytes, limits: tuple[int, int, int] = LIMITS) -> str:
    """What the bytes are refused with."""
    with pytest.raises(Malformed) as refusal:
        fed(*data, limits=limits)
    return refusal.value.status


def get(fields: bytes = b"", target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\n%b%b\r\n" % (target, version, HOST, fields)


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n%b%b\r\n%b" % (HOST, fields, body)


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


# What was written is read

TOKENS = st.from_regex(r"[!#$%&'*+^`|~0-9A-Za-z-]{1,12}", fullmatch=True).filter(
    lambda name: (
        (key := http.key(name.encode())) is not None
        and key not in FORWARDED
        and key not in ("CONTENT_LENGTH", "CONTENT_TYPE")
        and key.removeprefix("HTTP_")
        not in ("HOST", "CONNECTION", "TRANSFER_ENCODING", "UPGRADE", "EXPECT", "PROXY_CONNECTION")
    )
)
# Without blanks at its ends (RFC 9110, section 5.5)
VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f") | st.just("\t"),
    max_size=30,
).map(lambda text: text.strip(" \t"))
BLANKS = st.text(" \t", max_size=3)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A request's bytes, and what is to be made of it."""
    method = draw(METHODS)
    path = b"/" + draw(st.binary(max_size=12))
    query = draw(st.from_regex(r"[A-Za-z0-9=&%+?/]{0,12}", fullmatch=True))
    target = quote_from_bytes(path) + (f"?{query}" if query else "")
    fields = draw(st.dictionaries(TOKENS.map(str.lower), VALUES, max_size=6))
    body = draw(st.none() | st.binary(max_size=40))
    environ = {
        "REQUEST_METHOD": method,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REQUEST_URI": target,
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query,
        "HTTP_HOST": "www.example.com",
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in fields.items()},
    }
    lines = [f"{method} {target} HTTP/1.1", "Host: www.example.com"]
    for name, value in fields.items():
        lines.append(f"{name}:{draw(BLANKS)}{value}{draw(BLANKS)}")
    coded = b""
    if body is not None and draw(st.booleans()):
        lines.append("Transfer-Encoding: chunked")
        rest = body
        while rest:
            size = draw(st.integers(1, len(rest)))
            form = draw(st.sampled_from(["%x", "%X", "00%x", "%x;name", '%x;name="quoted; x"']))
            coded += (form % size).encode() + b"\r\n" + rest[:size] + b"\r\n"
            rest = rest[size:]
        coded += b"0\r\n"
        coded += draw(st.sampled_from([b"", b"Trailer: of no use\r\n", b"Host: evil\r\nA: b\r\n"]))
        coded += b"\r\n"
    elif body is not None:
        lines.append(f"Content-Length: {len(body)}")
        environ["CONTENT_LENGTH"] = str(len(body))
        coded = body
    head = "\r\n".join(lines).encode("latin-1")
    return head + b"\r\n\r\n" + coded, {"environ": environ, "body": body or b""}


@given(st.lists(requests(), min_size=1, max_size=3), cuts())
@settings(max_examples=examples(150))
def test_what_was_written_is_read(
    written: list[tuple[bytes, dict[str, Any]]], cut: list[int]
) -> None:
    """One request or several behind each other, however they are cut."""
    parser = fed(*pieces(b"".join(data for data, _ in written), cut))
    found = [
        {"environ": request.environ, "body": b"".join(request.body)} for request in parser.requests
    ]
    assert found == [expected for _, expected in written]
    assert all(request.complete and request.keep_alive for request in parser.requests)
    assert parser.idle


# Any bytes

FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\n",
            b"POST /a%20b?c HTTP/1.1\r\n",
            b"PUT http://h/p HTTP/1.0\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            HOST,
            b"Content-Length: 2\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"Connection: Upgrade\r\nUpgrade: x\r\n",
            b"Expect: 100-continue\r\n",
            b"Cookie: a\r\n",
            b"X-Forwarded-For: 192.0.2.1\r\n",
            b"X_A: b\r\n",
            b"\r\n",
            b"\n",
            b" ",
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
            b"0\r\n",
            b"A: %b\r\n" % (b"x" * 60),
        ]
    ),
    st.binary(max_size=5),
)


@given(st.lists(FRAGMENTS, max_size=9), cuts())
@settings(max_examples=examples(250))
@example([b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"GET"], [])
def test_any_bytes_are_requests_or_one_refusal(data: list[bytes], cut: list[int]) -> None:
    TARGETS["http"](pieces(b"".join(data), cut))


# Request lines


@pytest.mark.parametrize(
    ("target", "method", "path", "query", "host"),
    [
        (b"/", b"GET", "/", "", "www.example.com"),
        (b"/a%2Fb%20c?x=%20", b"GET", "/a/b c", "x=%20", "www.example.com"),
        (b"/%C3%A9", b"GET", "/\xc3\xa9", "", "www.example.com"),  # PEP 3333
        (b"/%zz%", b"GET", "/%zz%", "", "www.example.com"),
        (b"//a//b", b"GET", "//a//b", "", "www.example.com"),
        (b"/a?b?c#d", b"GET", "/a", "b?c", "www.example.com"),
        (b"/a#b?c", b"GET", "/a", "", "www.example.com"),
        (b"http://other:81/x?y", b"GET", "/x", "y", "other:81"),
        (b"HTTPS://other?y", b"GET", "/", "y", "other"),
        (b"*", b"OPTIONS", "", "", "www.example.com"),
    ],
)
def test_targets(target: bytes, method: bytes, path: str, query: str, host: str) -> None:
    """RFC 9112, section 3.2."""
    environ = only(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, HOST)).environ
    assert environ["PATH_INFO"] == path
    assert environ["QUERY_STRING"] == query
    assert environ["HTTP_HOST"] == host
    assert environ["REQUEST_URI"] == target.decode()


@pytest.mark.parametrize(
    "line",
    [
        b"GET * HTTP/1.1",
        b"CONNECT www.example.com:443 HTTP/1.1",
        b"GET www.example.com HTTP/1.1",
        b"GET ftp://www.example.com/ HTTP/1.1",
        b"GET http:///x HTTP/1.1",  # RFC 9110, section 4.2.1
        b"GET http://user@host/ HTTP/1.1",  # section 4.2.4
        b"GET /\x00 HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/01.1",
        b"GET / XTTP/1.1",
        b"GET / HTTP/1.1\n",
    ],
)
def test_request_lines_that_are_refused(line: bytes) -> None:
    data = line + b"\r\n" + HOST + b"\r\n"
    assert status(data) == status(*one_by_one(data)) == "400 Bad Request"


@pytest.mark.parametrize(
    "line",
    [
        b"get / HTTP/1.1",
        b"NONSENSE / HTTP/1.1",
        b"VERSION-CONTROL / HTTP/1.1",
        b"PLAY / HTTP/1.1",  # of another protocol that llhttp reads
        b" GET / HTTP/1.1",
        b"HTTP/1.1 200 OK",
        b"\x16\x03\x01",
    ],
)
def test_methods_that_are_not_known(line: bytes) -> None:
    """RFC 9110, section 9.1."""
    data = line + b"\r\n" + HOST + b"\r\n"
    assert status(data) == status(*one_by_one(data)) == "501 Not Implemented"
    assert status(get() + data) == status(get(), *one_by_one(data)) == "501 Not Implemented"


def test_every_method_that_is_known_is_one_of_llhttp() -> None:
    """What is 501 over HTTP is 501 over the other protocols."""
    for method in wire.METHODS - {"CONNECT"}:  # whose target is no path
        assert only(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/2.0", b"GET /", b"GET / HTTP/2.15", b"GET / HTTP/1.2", b"GET / HTTP/3.0"]
)
def test_other_versions(line: bytes) -> None:
    data = line + b"\r\n\r\n"
    assert status(data) == status(*one_by_one(data)) == "505 HTTP Version Not Supported"


@pytest.mark.parametrize(
    "host",
    [
        *("a b", "a,b c", "h@evil", "h/p?q", "h?q", "h#f", "a\\b", "a%2", "a%zz", "\xe4.example"),
        *(":80", "a:b", "a:80:80", "[::1", "::1", "[a]", "[1:2]", "[:::]", "a" * 300),
    ],
)
def test_hosts_that_are_none(host: str) -> None:
    """RFC 9112, section 3.2: uri-host of RFC 3986, and a port."""
    encoded = host.encode("latin-1")
    for version in (b"1.1", b"1.0"):
        assert status(b"GET / HTTP/%b\r\nHost: %b\r\n\r\n" % (version, encoded)) == REFUSED
    if not set(host) & set("/?# \xe4"):  # which end the authority, or the target
        target = b"http://%b/" % encoded
        assert status(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target) == REFUSED


@pytest.mark.parametrize(
    "host",
    [
        *("", "a", "A.example:80", "a_b", "xn--a", "127.0.0.1:8000", "[::1]", "[::1]:80", "a:"),
        *("[v1.a:b]", "a%41", "(sub,delims)"),
    ],
)
def test_hosts_that_are_right(host: str) -> None:
    for _ in range(2):  # the second time it is known
        request = only(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert request.environ["HTTP_HOST"] == host


def test_what_is_kept_of_hosts_is_small() -> None:
    for number in range(3000):
        assert wire.is_host(f"host-{number}.example")
    assert not wire.is_host("a" * 10_000)
    assert len(wire.HOSTS) <= 1024


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_absolute_form_needs_a_host_as_well(version: str) -> None:
    """RFC 9112, section 3.2: of HTTP/1.1 whatever the form."""
    data = f"GET http://abs.test/ HTTP/{version}\r\n\r\n".encode()
    if version == "1.1":
        assert status(data) == REFUSED
    else:
        assert only(data).environ["HTTP_HOST"] == "abs.test"


RAW = "GET /\xe4\xf6/b\xff%41?q=\xe9&r HTTP/1.1\r\nHost: a\r\nX-Field: /\xe4\r\n".encode("latin-1")


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\r\n",
        get(),
        get(b"X-Field: GET /\xe4\r\n"),
        post(b"Content-Length: 2\r\n", b"hi"),
        post(b"Content-Length: 9\r\n", b"GET /\xe4\n/x"),
        b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_a_target_that_is_not_ascii(before: bytes) -> None:
    """As it reaches an application over the other protocols, wherever it is cut."""
    data = before + RAW + b"Content-Length: 3\r\n\r\n\xe4\r\n"
    sent = [[data], one_by_one(data), [before, data[len(before) :]]]
    sent += [[data[:cut], data[cut:]] for cut in range(1, len(data))]
    for cut in sent:
        request = fed(*filter(None, cut)).requests[-1]
        assert request.environ["PATH_INFO"] == "/\xe4\xf6/b\xffA"
        assert request.environ["REQUEST_URI"] == "/\xe4\xf6/b\xff%41?q=\xe9&r"
        assert request.environ["QUERY_STRING"] == "q=\xe9&r"
        assert request.environ["HTTP_X_FIELD"] == "/\xe4"
        assert (b"".join(request.body), request.complete) == (b"\xe4\r\n", True)


@pytest.mark.parametrize("target", [b"\xe4", b"http://\xe4/", b"http://a\xe4/", b"*\xe4"])
def test_a_target_that_is_not_ascii_must_be_a_path(target: bytes) -> None:
    data = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target
    assert status(data) == status(*one_by_one(data)) == REFUSED


def test_an_upgrade_behind_what_is_not_ascii() -> None:
    """Where llhttp lets go is counted from the beginning of all that came."""
    fields = b"X: \xe4\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 4\r\n"
    for cut in ([post(fields, b"\xe4bod")], one_by_one(post(fields, b"\xe4bod"))):
        request = only(*cut)
        assert (b"".join(request.body), request.complete) == (b"\xe4bod", True)


def test_empty_lines_before_a_request() -> None:
    """RFC 9112, section 2.2; old clients send one behind a body."""
    data = b"\r\n" + post(b"Content-Length: 2\r\n", b"hi") + b"\r\n" + get()
    assert [r.environ["REQUEST_METHOD"] for r in fed(data).requests] == ["POST", "GET"]
    TARGETS["http"](one_by_one(data))


# Fields


@pytest.mark.parametrize(
    "fields",
    [
        b"X: a\r\n b\r\n",  # obs-fold (RFC 9112, section 5.2)
        b"X: a\r\n\tb\r\n",
        b"X: a\r\n \r\n",
        b" X: a\r\n",
        b"X : a\r\n",  # section 5.1
        b": a\r\n",
        b"X\r\n",
        b"X: a\rb\r\n",
        b"X: a\r\r\n",
        b"X: a\nY: b\r\n",
        b"X: a\n\n",
        b"X: a\x00b\r\n",
        b"X: a\x01\r\n",
        b"X: a\x7f\r\n",
        b"X\x00: a\r\n",
        b"X(a): a\r\n",
        b"X\xe9: a\r\n",
        b"Host: other\r\n",  # two of them
        b"Content-Type: a\r\nContent-Type: b\r\n",
    ],
)
def test_fields_that_are_refused(fields: bytes) -> None:
    data = get(fields)
    assert status(data) == status(*one_by_one(data)) == "400 Bad Request"


def test_http_1_1_needs_a_host_and_1_0_does_not() -> None:
    assert status(b"GET / HTTP/1.1\r\n\r\n") == "400 Bad Request"
    assert "HTTP_HOST" not in only(b"GET / HTTP/1.0\r\n\r\n").environ


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    """RFC 9112, section 5.1; other blanks than two are."""
    request = only(post(b"X:\t a b \t \r\nY: \xa0\r\nContent-Length: 1 \r\nA:\r\n", b"x"))
    assert request.environ["HTTP_X"] == "a b"
    assert request.environ["HTTP_Y"] == "\xa0"
    assert request.environ["HTTP_A"] == ""
    assert (request.environ["CONTENT_LENGTH"], request.complete) == ("1", True)


def test_names_that_no_variable_tells_apart_are_dropped() -> None:
    """Also where one of them is the front's: X_Forwarded_For, X.Forwarded.For."""
    request = only(
        get(
            b"X_A: 1\r\nX.A: 2\r\nX-A: 3\r\nProxy: evil\r\nX_Forwarded_For: evil\r\n"
            b"X.Forwarded.For: evil\r\nX-Forwarded-For: 192.0.2.1\r\nContent_Length: 9\r\n"
        )
    )
    assert request.environ["HTTP_X_A"] == "3"
    assert not any("." in name for name in request.environ)
    assert request.forwarded == {"HTTP_X_FORWARDED_FOR": "192.0.2.1"}
    assert not {"HTTP_PROXY", "HTTP_X_FORWARDED_FOR", "CONTENT_LENGTH"} & request.environ.keys()


@pytest.mark.parametrize("name", sorted(FORWARDED))
def test_what_the_front_says_is_kept_apart(name: str) -> None:
    field = name.removeprefix("HTTP_").replace("_", "-").title().encode()
    request = only(get(field + b": a\r\n" + field.lower() + b": b\r\n"))
    assert request.forwarded == {name: "a, b"}
    assert name not in request.environ


def test_repeated_fields() -> None:
    request = only(get(b"Cookie: a\r\nX: 1\r\ncookie: b\r\nx: 2\r\nX: 3\r\n"))
    assert request.environ["HTTP_COOKIE"] == "a; b"
    assert request.environ["HTTP_X"] == "1, 2, 3"


def test_values_are_latin_1() -> None:
    assert only(get(b"X: \xe9\xff\r\n")).environ["HTTP_X"] == "\xe9\xff"


# Bodies


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 1\r\nContent-Length: 1\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding:\r\n",
        b"Transfer-Encoding:\r\nContent-Length: 1\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: +1\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1, 1\r\n",
        b"Content-Length: 0x1\r\n",
        b"Content-Length: 1 1\r\n",
        b"Content-Length: \xb2\r\n",
        b"Content-Length: 18446744073709551616\r\n",
    ],
)
def test_lengths_that_two_parties_could_read_differently(fields: bytes) -> None:
    """RFC 9112, sections 6.1 to 6.3: what smuggles a second request past a front."""
    data = post(fields, b"0\r\n\r\n")
    assert status(data) == status(*one_by_one(data)) == "400 Bad Request"


@pytest.mark.parametrize("coding", [b"gzip", b"gzip, chunked", b"identity", b"xchunked"])
def test_other_transfer_codings(coding: bytes) -> None:
    assert status(post(b"Transfer-Encoding: %b\r\n" % coding)) == "501 Not Implemented"


def test_a_transfer_coding_in_http_1_0() -> None:
    """RFC 9112, section 6.1: its framing is faulty, whatever it says."""
    for fields in (b"", b"Connection: keep-alive\r\n"):
        data = b"POST / HTTP/1.0\r\n%bTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % fields
        assert status(data) == "400 Bad Request"


def test_a_length_with_more_zeros_than_int_reads() -> None:
    data = post(b"Content-Length: %b2\r\n" % (b"0" * 5000), b"hi")
    for request in (only(data), only(*one_by_one(data))):
        assert (request.length, request.environ["CONTENT_LENGTH"]) == (2, "2")
        assert (b"".join(request.body), request.complete) == (b"hi", True)
    assert only(post(b"Content-Length: 000\r\n")).length == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"0\r\n\r\n", b""),
        (b"2\r\nhi\r\n0\r\n\r\n", b"hi"),
        (b"0002\r\nhi\r\n000\r\n\r\n", b"hi"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        (b'2;a;b=c;d="e;\\"f"\r\nhi\r\n0;x\r\n\r\n', b"hi"),
        (b"2\r\nhi\r\n0\r\nTrailer: x\r\nX-Forwarded-For: evil\r\nX_A: b\r\n\r\n", b"hi"),
    ],
)
def test_chunks(body: bytes, expected: bytes) -> None:
    """RFC 9112, section 7.1; a trailer section goes nowhere, and spoils nothing behind it."""
    data = chunked(body) + get(b"A: b\r\n", b"/next")
    for cut in ([data], one_by_one(data)):
        first, second = fed(*cut).requests
        assert (b"".join(first.body), first.length, first.complete) == (
            expected,
            len(expected),
            True,
        )
        assert "HTTP_TRAILER" not in first.environ | second.environ
        assert (second.environ["PATH_INFO"], second.environ["HTTP_A"]) == ("/next", "b")
        assert second.forwarded == {}


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x2\r\nhi\r\n",
        b"2 \r\nhi\r\n",
        b" 2\r\nhi\r\n",
        b"2\nhi\r\n",
        b"2\r\nhi\n",
        b"2\r\nhixx",
        b"2\r\nh\r\n0\r\n\r\n",
        b"\r\nhi",
        b"fffffffffffffffff\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"2;\x00\r\nhi\r\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_chunks_that_are_refused(body: bytes) -> None:
    data = chunked(body)
    assert status(data) == status(*one_by_one(data)) == "400 Bad Request"


def test_expectations() -> None:
    """RFC 9110, section 10.1.1."""
    asked = post(b"Expect: 100-Continue\r\nContent-Length: 2\r\n")
    assert only(asked).awaits_continue
    assert not only(asked.replace(b"HTTP/1.1", b"HTTP/1.0")).awaits_continue
    assert status(post(b"Expect: more\r\n")) == "417 Expectation Failed"


# The end of a connection


@pytest.mark.parametrize(
    ("version", "fields", "keep"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: Close, x\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_keep_alive(version: bytes, fields: bytes, keep: bool) -> None:
    assert only(get(fields, b"/", version)).keep_alive is keep


@pytest.mark.parametrize(
    "last",
    [
        get(b"Connection: close\r\n"),
        get(b"", b"/", b"1.0"),
        post(b"Connection: close\r\nContent-Length: 2\r\n", b"hi"),
        chunked(b"0\r\n\r\n").replace(b"\r\n", b"\r\nConnection: close\r\n", 1),
        get(b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
        post(b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n", b"hi"),
    ],
)
@pytest.mark.parametrize("behind", [b"\r\n", b"rubbish", get()])
def test_nothing_behind_the_last_request_is_taken(last: bytes, behind: bytes) -> None:
    """RFC 9112, section 9.6; and it is no reason to refuse what came before it."""
    data = last + behind
    for cut in ([data], [last, behind], one_by_one(data)):
        parser = fed(*cut)
        (request,) = parser.requests
        assert (request.complete, request.keep_alive) == (True, False)
        assert parser.idle
        parser.requests.clear()
        parser.feed(get() * 3)
        assert parser.requests == []


def test_an_upgrade_is_passed_over() -> None:
    """RFC 9110, section 7.8: it is answered as if it had not been asked for."""
    fields = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
    data = post(fields + b"Content-Length: 4\r\n", b"body")
    for at in range(len(data)):
        parser = fed(data[:at])
        assert parser.idle is (at == 0)
        parser.feed(data[at:])
        (request,) = parser.requests
        assert (b"".join(request.body), request.complete) == (b"body", True)
    assert status(post(fields + b"Transfer-Encoding: chunked\r\n")) == "501 Not Implemented"


def test_a_header_behind_another_request_is_not_idle() -> None:
    """Its deadline runs, and a stop does not cut it off."""
    assert fed(get()).idle
    for part in (b"GET /part", get()[:-2]):
        parser = fed(get() + part)
        assert not parser.idle
        parser.feed(get()[len(part) :] if part == get()[:-2] else b" HTTP/1.1\r\n" + HOST + b"\r\n")
        assert parser.idle
        assert len(parser.requests) == 2


# Limits

SMALL = (400, 10, 100)


def fed_for_ever(parser: Parser, data: bytes) -> str:
    """What the parser refuses this with in the end, where it does."""
    try:
        for _ in range(2 * SMALL[0]):
            parser.feed(data)
    except Malformed as error:
        return error.status
    return "never"


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"GET / HTTP/1.1\r\nX: ", b"x"),  # a value without an end
        (b"GET / HTTP/1.1\r\n", b"x"),  # a name
        (b"GET / HTTP/1.1\r\n", b"X-Forwarded-For: a\r\n"),
        (b"GET / HTTP/1.1\r\n", b"X_A: a\r\n"),  # fields that are dropped
        (chunked(b"2"), b"0"),
        (chunked(b"2;"), b"x"),
        (chunked(b"2\r\nhi\r\n0\r\nX: "), b"x"),
        (chunked(b"2\r\nhi\r\n0\r\n"), b"X: a\r\n"),
    ],
)
@pytest.mark.parametrize("times", [1, 30])
def test_what_has_no_end_is_refused(start: bytes, again: bytes, times: int) -> None:
    parser = fed(start, limits=SMALL)
    assert fed_for_ever(parser, again * times) in (TOO_LARGE, "400 Bad Request")


def test_a_target_without_an_end() -> None:
    parser = fed(b"GET ", limits=SMALL)
    parser.feed(b"/" + b"x" * 99)
    with pytest.raises(Malformed) as refusal:
        parser.feed(b"x")
    assert refusal.value.status == "414 URI Too Long"


def test_empty_lines_without_an_end() -> None:
    assert fed_for_ever(Parser(*SMALL), b"\r\n") == TOO_LARGE


def test_the_limit_of_the_request_line() -> None:
    assert only(get(b"", b"/" + b"x" * 8189)).environ["PATH_INFO"] == "/" + "x" * 8189
    data = get(b"", b"/" + b"x" * 8190)
    assert status(data) == status(*one_by_one(data)) == "414 URI Too Long"


_unheard = itertools.count()


def fields_of(kind: str, count: int) -> bytes:
    if kind == "unheard of":  # by this process: the first sight of a name counts it once
        return b"".join(b"N-%d: x\r\n" % next(_unheard) for _ in range(count))
    name = {"known": b"Accept", "dropped": b"X_A", "the front's": b"X-Forwarded-For"}[kind]
    if kind == "known":
        return b"".join(b"K-%d: x\r\n" % number for number in range(count))
    return b"%b: x\r\n" % name * count


@pytest.mark.parametrize("kind", ["unheard of", "known", "dropped"])
def test_the_limit_of_fields(kind: str) -> None:
    for _ in range(2):
        fed(get(fields_of(kind, 9)), limits=SMALL)
        assert status(get(fields_of(kind, 10)), limits=SMALL) == TOO_LARGE
        data = one_by_one(get(fields_of(kind, 10)))
        assert status(*data, limits=SMALL) == TOO_LARGE


@pytest.mark.parametrize("name", [b"Accept", b"X-Forwarded-For", b"X_A", b"Never-Heard-Of"])
def test_the_limit_of_a_header_that_comes_at_once(name: bytes) -> None:
    """Whatever its fields are, and with its body behind it."""
    for size, refused in ((200, False), (400, True)):
        field = name + b": " + b"x" * size + b"\r\nContent-Length: 1000\r\n"
        for data in (post(field, b"b" * 1000), get() + post(field, b"b" * 1000)):
            parser = Parser(*SMALL)
            if refused:
                with pytest.raises(Malformed) as refusal:
                    parser.feed(data)
                assert refusal.value.status == TOO_LARGE
            else:
                parser.feed(data)
                assert parser.requests[-1].complete


SIZED = st.sampled_from(
    [
        b"Accept: a\r\n",
        b"Accept: " + b"a" * 30 + b"\r\n",
        b"X_Dropped: " + b"a" * 20 + b"\r\n",
        b"X-Forwarded-For: 192.0.2.1\r\n",
        b"Cookie: a=b\r\n",
        b"Cookie:" + b" " * 40 + b"a\r\n",
        b"X: a" + b"\t" * 40 + b"\r\n",
    ]
)
MESSAGES = st.lists(
    st.one_of(
        st.lists(SIZED, max_size=5).map(lambda fields: get(b"".join(fields))),
        st.tuples(st.lists(SIZED, max_size=4), st.sampled_from([b"b" * 90, b"\r\n\r\n" * 9])).map(
            lambda given: post(
                b"Content-Length: %d\r\n" % len(given[1]) + b"".join(given[0]), given[1]
            )
        ),
        st.lists(SIZED, max_size=4).map(
            lambda fields: post(
                b"Transfer-Encoding: chunked\r\n" + b"".join(fields), b"4\r\n\r\n\r\n\r\n0\r\n\r\n"
            )
        ),
        st.sampled_from([b"\r\n", b"\r\n\r\n", b"GET /cut HTTP/1.1\r\nX: " + b"x" * 40]),
    ),
    min_size=1,
    max_size=4,
)


def outcome(data: list[bytes], limit: int) -> tuple[list[tuple[Any, ...]], str, bool]:
    """The requests in these pieces, what the rest is refused with, whether nothing is under way."""
    parser = Parser(limit, 100, 200)
    refused = ""
    try:
        for piece in data:
            parser.feed(piece)
    except Malformed as error:
        refused = f"{error.status}: {error}"
    found = [(each.environ, b"".join(each.body), each.complete) for each in parser.requests]
    return found, refused, parser.idle and not refused


@given(MESSAGES, st.integers(60, 200), cuts())
@settings(max_examples=examples(300))
@example([get(b"Accept: aaaaaaaaaaaaaaaaaaaa\r\n" * 3), get(b"X: aaaaa\r\n")[:-3]], 100, [])
@example([get(), b"\r\n\r\n", get(b"Cookie: a\r\n" * 2)[:-1]], 60, [])
@example([post(b"Content-Length: 2\r\n", b"hi"), b"\r\n\r\n"], 100, [1])
def test_the_limit_of_a_header_is_the_same_in_any_pieces(
    messages: list[bytes], limit: int, cut: list[int]
) -> None:
    data = b"".join(messages)
    whole = outcome([data], limit)
    assert outcome(pieces(data, cut), limit) == whole
    assert outcome(list(one_by_one(data)), limit) == whole


@given(st.lists(SIZED, max_size=6))
def test_what_a_header_has_is_its_bytes(fields: list[bytes]) -> None:
    """From its first byte to the end of its empty line, however often a field comes."""
    data = get(b"".join(fields))
    for behind in (b"", get(), b"POST"):
        assert outcome([data + behind], len(data))[1] == ""
        assert outcome([data + behind], len(data) - 1)[1].startswith(TOO_LARGE)
    ahead = post(b"Content-Length: 2\r\n", b"hi")
    assert outcome([ahead + data], max(len(data), len(ahead) - 2))[1] == ""


def test_a_header_of_the_limit_comes_in_any_pieces() -> None:
    fields = b"X: " + b"x" * (SMALL[0] - len(get()) - len(b"X: \r\n")) + b"\r\n"
    data = get(fields)
    assert len(data) == SMALL[0]
    for cut in ([data], one_by_one(data)):
        assert len(fed(*cut, limits=SMALL).requests) == 1
    more = one_by_one(get(fields.replace(b"X: ", b"X: xx")))
    assert status(*more, limits=SMALL) == TOO_LARGE


def test_a_body_is_no_part_of_the_header() -> None:
    data = post(b"Content-Length: 5000\r\n", b"x" * 5000)
    assert len(fed(*one_by_one(data), limits=SMALL).requests) == 1
    data = chunked(b"1\r\nx\r\n" * 500 + b"0\r\n\r\n")
    assert len(fed(*one_by_one(data), limits=SMALL).requests) == 1


def test_the_oracle_sees_requests() -> None:
    """Or the property above would hold of nothing."""
    data = get() + post(b"Content-Length: 2\r\n", b"hi") + b"rubbish"
    for cut in ([data], one_by_one(data)):
        found, status = http_outcome(cut)
        assert [each[3] for each in found] == [b"", b"hi"]
        assert status == "501 Not Implemented"
    with pytest.raises(AssertionError):
        compare((found, ""), (found[:1], ""))


# A body that is read without the parser


@given(
    st.binary(min_size=1, max_size=200),
    st.integers(0, 199),
    cuts(),
    st.sampled_from((b"", b"Connection: close\r\n")),
    st.sampled_from((b"", b"\r\n")),
)
def test_a_body_read_by_others_is_as_if_it_were_fed(
    body: bytes, fed_bytes: int, cut: list[int], fields: bytes, between: bytes
) -> None:
    head = post(fields + b"Content-Length: %d\r\n" % len(body))
    behind = between + get(target=b"/next")
    fed_bytes = min(fed_bytes, len(body) - 1)
    parser = fed(head + body[:fed_bytes])
    (first,) = parser.requests
    for piece in pieces(body[fed_bytes:], cut):
        if piece:
            assert parser.in_body
            parser.body_read(len(piece))
    assert not parser.in_body
    whole = fed(head + body)
    assert (first.complete, first.received, first.keep_alive, parser.idle) == (
        *(True, len(body), whole.requests[0].keep_alive, whole.idle),
    )
    for each in (parser, whole):
        each.feed(behind)
    assert [r.environ for r in parser.requests] == [r.environ for r in whole.requests]
    assert len(parser.requests) == (1 if fields else 2)
    assert parser.idle == whole.idle


def test_what_is_no_body_is_for_the_parser() -> None:
    length = b"Content-Length: 5\r\n"
    assert not fed(b"").in_body
    assert not fed(post(length)[:-2]).in_body, "the header"
    assert fed(post(length)).in_body
    assert not fed(chunked(b"")).in_body, "its framing is to be read"
    assert not fed(post(length + b"Connection: Upgrade\r\nUpgrade: x\r\n")).in_body
