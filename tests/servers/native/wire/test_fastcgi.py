"""FastCGI's parser: records from hostile hands, what an independent encoder writes, every rule.

Sections are those of the FastCGI Specification 1.0.
"""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.targets import KNOWN, TARGETS, fastcgi_outcome, one_by_one, records
from sdactivate.servers.native.wire import Malformed, TooLarge
from sdactivate.servers.native.wire.fastcgi import (
    Parser,
    closing,
    end_response,
    pairs,
    stream,
)
from tests.effort import examples
from tests.servers.native.wire.cuts import cuts, pieces
from tests.servers.peers import record

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA = range(1, 9)
GET_VALUES, GET_VALUES_RESULT, UNKNOWN_TYPE = 9, 10, 11
COMPLETE, CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE = range(4)
LIMIT = 65536


def begin(number: int = 1, role: int = 1, flags: int = 0) -> bytes:
    return record(BEGIN, bytes((0, role, flags, 0, 0, 0, 0, 0)), number)


def length(size: int, long: bool = False) -> bytes:
    """In one byte, or in four where it must be or is wanted to be (section 3.4)."""
    if size > 127 or long:
        return bytes((size >> 24 | 128, size >> 16 & 255, size >> 8 & 255, size & 255))
    return bytes((size,))


def pair(name: bytes, value: bytes, long: tuple[bool, bool] = (False, False)) -> bytes:
    return length(len(name), long[0]) + length(len(value), long[1]) + name + value


def request(
    params: bytes, body: bytes = b"", number: int = 1, flags: int = 0, size: int = 65535
) -> bytes:
    """A whole request, its streams in records of `size` bytes."""

    def stream(kind: int, content: bytes) -> bytes:
        cut = [content[at : at + size] for at in range(0, len(content), size)]
        return b"".join(record(kind, each, number) for each in [*cut, b""])

    return begin(number, flags=flags) + stream(PARAMS, params) + stream(STDIN, body)


def fed(data: bytes, limit: int = LIMIT) -> Parser:
    parser = Parser(limit, KNOWN)
    parser.feed(data)
    return parser


def refused(data: bytes, limit: int = LIMIT) -> Malformed:
    with pytest.raises(Malformed) as refusal:
        fed(data, limit)
    return refusal.value


TEXT = st.text(st.characters(max_codepoint=255), max_size=200)
LONG = st.tuples(st.booleans(), st.booleans())


@given(
    st.dictionaries(TEXT, st.tuples(TEXT, LONG), min_size=1, max_size=9),
    st.binary(max_size=50),
    st.integers(1, 40),
    st.integers(1, 65535),
    st.lists(st.integers(0, 255), min_size=1, max_size=5),
    cuts(),
)
@settings(max_examples=examples(150))
def test_what_was_written_is_read(
    given: dict[str, tuple[str, tuple[bool, bool]]],
    body: bytes,
    size: int,
    number: int,
    padding: list[int],
    cut: list[int],
) -> None:
    """Lengths of one byte and of four, records and padding of any size, cut anywhere."""
    params = b"".join(
        pair(name.encode("latin-1"), value.encode("latin-1"), long)
        for name, (value, long) in given.items()
    )
    data = begin(number)
    for kind, content in ((PARAMS, params), (STDIN, body)):
        for at in [*range(0, len(content), size), len(content)]:
            pad = padding[at % len(padding)]
            data += record(kind, content[at : at + size], number, pad)
    parser = Parser(LIMIT, KNOWN)
    for piece in pieces(data, cut):
        parser.feed(piece)
    (found,) = parser.requests
    assert found.id == number
    assert found.variables == {name: value for name, (value, _) in given.items()}
    assert (b"".join(found.body), found.complete, found.aborted) == (body, True, False)
    assert parser.replies == b""


CONTENT: dict[int, Any] = {
    BEGIN: st.sampled_from(
        [bytes((0, role, flags, 0, 0, 0, 0, 0)) for role in (1, 1, 2, 3) for flags in (0, 1)]
        + [b"", b"\0\1\0"]
    ),
    PARAMS: st.one_of(
        st.lists(st.tuples(TEXT, TEXT, LONG), max_size=3).map(
            lambda all: b"".join(
                pair(a.encode("latin-1"), b.encode("latin-1"), long) for a, b, long in all
            )
        ),
        st.integers(0, 30).map(lambda n: pair(b"CONTENT_LENGTH", str(n).encode())),
        st.binary(max_size=9),
    ),
    GET_VALUES: st.one_of(
        st.lists(st.sampled_from([*KNOWN, "OTHER", ""]), max_size=5).map(
            lambda names: b"".join(pair(name.encode(), b"") for name in names)
        ),
        st.binary(max_size=5),
    ),
}


@st.composite
def a_record(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([BEGIN, ABORT, PARAMS, PARAMS, STDIN, STDIN, DATA, 9, 11, 77]))
    content = draw(st.just(b"") | CONTENT.get(kind, st.binary(max_size=20)))
    number = draw(st.sampled_from([0, 1, 1, 1, 1, 2]))
    return record(kind, content, number, draw(st.sampled_from([0, 0, 1, 7, 255])))


@given(
    st.lists(
        st.one_of(
            a_record(),
            st.binary(max_size=9),
            st.tuples(CONTENT[PARAMS], st.binary(max_size=30), st.just(1), st.integers(0, 1)).map(
                lambda each: request(*each, size=17)
            ),
        ),
        max_size=6,
    ),
    cuts(),
)
@settings(max_examples=examples(200))
@example([begin(), record(STDIN, b"x")], [])
@example([request(b""), record(STDIN, b"x", 1, 1), request(b"")], [40])
@example([request(b""), record(STDIN, b"x", 1, 1), request(b"")], [41])
@example([begin(), record(PARAMS, pair(b"A", b"x")), record(PARAMS, b""), record(ABORT, b"")], [])
def test_any_bytes_are_requests_or_one_refusal(data: list[bytes], cut: list[int]) -> None:
    TARGETS["fastcgi"](pieces(b"".join(data), cut))


# Names and values (section 3.4)


@pytest.mark.parametrize("name", [0, 1, 127, 128, 129, 255, 256])
@pytest.mark.parametrize("value", [0, 1, 127, 128, 129, 65535, 70_000])
def test_lengths_of_one_byte_and_of_four(name: int, value: int) -> None:
    expected = {"N" * name: "v" * value, "A": "x"}
    content = pair(b"N" * name, b"v" * value) + pair(b"A", b"x")
    assert pairs(content) == expected
    if max(name, value) < 128:
        for long in ((True, True), (True, False), (False, True)):
            assert pairs(pair(b"N" * name, b"v" * value, long) + pair(b"A", b"x")) == expected


def test_parameters_cut_into_records_at_every_byte() -> None:
    """A record may end inside a length (section 5.2 makes them one stream)."""
    params = pair(b"REQUEST_METHOD", b"GET", (True, True)) + pair(b"A" * 130, b"x" * 200)
    expected = {"REQUEST_METHOD": "GET", "A" * 130: "x" * 200}
    for at in range(1, len(params)):
        first, second = record(PARAMS, params[:at]), record(PARAMS, params[at:])
        (found,) = fed(begin() + first + second + record(PARAMS, b"")).requests
        assert found.variables == expected
    (found,) = fed(request(params, size=1)).requests
    assert found.variables == expected


@pytest.mark.parametrize(
    "content",
    [
        b"\1",  # no length of the value
        b"\1\1A",
        b"\x80\0\0",
        b"\1\x80\0\0",
        b"\x80\0\0\1",
        b"\x80\0\0\1\x80\0",
        b"\xff\xff\xff\xff\0A",
        b"\0\xff\xff\xff\xffA",
        b"\1\1Ax\1",
    ],
)
def test_pairs_that_do_not_come_out_even(content: bytes) -> None:
    assert refused(request(content)).status == "400 Bad Request"
    assert refused(record(GET_VALUES, content, 0)).status == "400 Bad Request"


def test_repeated_variables() -> None:
    content = pair(b"HTTP_COOKIE", b"a") + pair(b"X", b"1") + pair(b"HTTP_COOKIE", b"b")
    assert pairs(content + pair(b"X", b"2")) == {"HTTP_COOKIE": "a; b", "X": "2"}


# Records (section 3.3)


def test_padding_of_every_length() -> None:
    for padding in range(256):
        data = b"".join(
            (
                record(BEGIN, bytes((0, 1, 1, 0, 0, 0, 0, 0)), 1, padding),
                record(PARAMS, pair(b"A", b"x"), 1, padding),
                record(PARAMS, b"", 1, padding),
                record(STDIN, b"body", 1, padding),
                record(STDIN, b"", 1, padding),
            )
        )
        parser = fed(data)
        (found,) = parser.requests
        assert (found.variables, b"".join(found.body)) == ({"A": "x"}, b"body")
        parser.answered(found)
        assert parser.idle, "the padding is behind us"


def test_the_longest_record() -> None:
    body = bytes(range(256)) * 256
    data = begin() + record(PARAMS, b"") + record(STDIN, body[:65535], 1, 255) + record(STDIN, b"")
    for where in (1, 7, 8, 65543, 65798):
        parser = Parser(LIMIT, KNOWN)
        parser.feed(data[: 24 + where])
        parser.feed(data[24 + where :])
        (found,) = parser.requests
        assert b"".join(found.body) == body[:65535]


def test_a_body_is_taken_before_its_record_is_complete() -> None:
    parser = fed(begin(flags=1) + record(PARAMS, b""))
    (found,) = parser.requests
    for at, byte in enumerate(record(STDIN, b"a body", 1, 3)):
        parser.feed(bytes((byte,)))
        assert found.received == max(0, min(at + 1 - 8, 6)), "and not the padding"
    parser.feed(record(STDIN, b"")[:7])
    assert not found.complete
    parser.feed(record(STDIN, b"")[7:])
    assert (b"".join(found.body), found.complete) == (b"a body", True)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused(version: int) -> None:
    refused(begin() + bytes((version,)) + record(PARAMS, b"")[1:])


def test_parameters_over_the_limit() -> None:
    params = pair(b"A", b"x" * 100)
    (found,) = fed(request(params), len(params)).requests
    assert found.variables == {"A": "x" * 100}
    for size in (1, 40, 65535):
        error = refused(begin() + request(params, size=size)[16:], len(params) - 1)
        assert isinstance(error, TooLarge)
        assert error.status == "431 Request Header Fields Too Large"


# Requests


def test_keep_conn_and_one_request_after_the_other() -> None:
    """Section 3.5, and the request's id may be the same again."""
    parser = Parser(LIMIT, KNOWN)
    for number, flags in ((1, 1), (1, 1), (7, 0)):
        parser.feed(request(pair(b"N", str(number).encode()), b"", number, flags))
        found = parser.requests.pop()
        assert (found.id, found.keep_alive, found.complete) == (number, bool(flags), True)
        assert not parser.idle
        parser.answered(found)
        assert parser.idle
    assert parser.replies == b""


def test_a_second_request_at_the_same_time() -> None:
    """FCGI_CANT_MPX_CONN (section 5.5), and the first goes on as if nothing had been."""
    first = begin(1) + record(PARAMS, pair(b"A", b"x")) + record(PARAMS, b"") + record(STDIN, b"1")
    second = request(pair(b"A", b"y"), b"other", 2)
    parser = fed(first + second + record(STDIN, b"2") + record(STDIN, b""))
    (found,) = parser.requests
    assert (found.variables, b"".join(found.body), found.complete) == ({"A": "x"}, b"12", True)
    said, *rest = records(parser.replies)
    assert (said[:2], said[2][:12]) == ((STDOUT, 2), b"Status: 503 ")
    end = (END, 2, bytes((0, 0, 0, 0, CANT_MPX_CONN, 0, 0, 0)))
    assert rest == [(STDOUT, 2, b""), end]


def test_a_request_that_begins_twice() -> None:
    refused(begin(1) + begin(1))


@pytest.mark.parametrize("role", [0, 2, 3, 255])
def test_other_roles(role: int) -> None:
    """FCGI_UNKNOWN_ROLE (section 5.5); what still comes of the request is passed over."""
    data = begin(3, role) + request(pair(b"A", b"x"), b"body", 3)[16:]
    parser = fed(data + record(DATA, b"x", 3))
    assert parser.requests == []
    said, *rest = records(parser.replies)
    assert (said[:2], said[2][:12]) == ((STDOUT, 3), b"Status: 501 ")
    end = (END, 3, bytes((0, 0, 0, 0, UNKNOWN_ROLE, 0, 0, 0)))
    assert rest == [(STDOUT, 3, b""), end]
    assert parser.idle
    parser.feed(request(pair(b"A", b"x"), number=3))
    assert len(parser.requests) == 1


def test_begin_request_cut_short() -> None:
    refused(record(BEGIN, b"\0\1\0"))


def test_the_body_comes_behind_the_parameters() -> None:
    """Section 6.2: or it would have to be kept for a request that may never be one."""
    start = begin() + record(PARAMS, pair(b"A", b"x"))
    refused(start + record(STDIN, b"x"))
    refused(start + record(STDIN, b""))
    refused(request(pair(b"A", b"x"))[:-8] + record(PARAMS, b""))


def test_a_body_beyond_its_content_length_is_not_kept() -> None:
    parser = fed(begin() + record(PARAMS, b"") + record(STDIN, b"12345"))
    (found,) = parser.requests
    found.expect(3)
    for _ in range(100):
        parser.feed(record(STDIN, b"x" * 60000))
    parser.feed(record(STDIN, b""))
    assert (b"".join(found.body), found.received, found.complete) == (b"123", 3, True)


def test_what_comes_after_the_answer_is_not_kept() -> None:
    """An application that answers without reading: the rest of the body is passed over."""
    parser = fed(begin() + record(PARAMS, b"") + record(STDIN, b"12345"))
    found = parser.requests.pop()
    parser.answered(found)
    for _ in range(100):
        parser.feed(record(STDIN, b"x" * 60000))
    assert (found.body, parser.idle) == ([], False)
    parser.feed(record(STDIN, b""))
    assert parser.idle


@pytest.mark.parametrize("number", [1, 2])
def test_the_next_request_does_not_wait_for_a_body_that_nobody_reads(number: int) -> None:
    """The front has the answer, gives the rest of the body up, and uses the connection again."""
    parser = fed(begin(1, flags=1) + record(PARAMS, b"") + record(STDIN, b"half"))
    parser.answered(parser.requests.pop())
    parser.feed(request(pair(b"A", b"x"), b"body", number))
    (found,) = parser.requests
    assert (found.variables, b"".join(found.body), found.complete) == ({"A": "x"}, b"body", True)
    assert parser.replies == b""


def test_stray_records_of_other_requests_are_passed_over() -> None:
    parser = fed(
        record(STDIN, b"x", 9)
        + record(PARAMS, b"x", 9)
        + record(ABORT, b"", 9)
        + begin()
        + record(DATA, b"x")
        + record(STDOUT, b"x")
        + record(77, b"x")
        + request(pair(b"A", b"x"))[16:]
    )
    (found,) = parser.requests
    assert found.variables == {"A": "x"}
    assert parser.replies == b""


# ABORT_REQUEST (section 5.4)


@pytest.mark.parametrize(
    "sent",
    [
        begin(),
        begin() + record(PARAMS, pair(b"A", b"x")),
        begin() + record(PARAMS, b""),
        begin() + record(PARAMS, b"") + record(STDIN, b"half of it"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_request_that_nobody_serves_yet_ends_with_its_abort(sent: bytes, together: bool) -> None:
    parser = Parser(LIMIT, KNOWN)
    for piece in [sent + record(ABORT, b"")] if together else [sent, record(ABORT, b"")]:
        parser.feed(piece)
    assert parser.requests == [], "half a body must not be taken for a whole one"
    assert records(parser.replies) == [(END, 1, bytes(8))]
    assert parser.idle
    parser.feed(request(pair(b"A", b"x")))
    assert len(parser.requests) == 1


def test_a_request_that_is_being_served_learns_of_its_abort() -> None:
    parser = fed(begin() + record(PARAMS, b"") + record(STDIN, b"half of it"))
    found = parser.requests.pop()
    parser.feed(record(ABORT, b"", 2) + record(ABORT, b""))
    assert (found.aborted, found.complete, bytes(parser.replies)) == (True, True, b"")
    assert not parser.idle
    parser.answered(found)
    assert parser.idle


def test_an_abort_after_the_answer() -> None:
    parser = fed(begin() + record(PARAMS, b"") + record(STDIN, b"half of it"))
    parser.answered(parser.requests.pop())
    parser.feed(record(ABORT, b""))
    assert (bytes(parser.replies), parser.idle) == (b"", True)


# Management records (section 4)


def test_get_values() -> None:
    """Those that are known, each once, in any order; empty where none is."""
    asked = [b"FCGI_MPXS_CONNS", b"OTHER", b"FCGI_MAX_CONNS", b"FCGI_MAX_CONNS"]
    parser = fed(record(GET_VALUES, b"".join(pair(name, b"") for name in asked), 0, 3))
    ((kind, number, content),) = records(parser.replies)
    assert (kind, number) == (GET_VALUES_RESULT, 0)
    assert content == pair(b"FCGI_MPXS_CONNS", b"0") + pair(b"FCGI_MAX_CONNS", b"7")
    assert parser.idle
    for nothing in (b"", pair(b"OTHER", b"")):
        replies = fed(record(GET_VALUES, nothing, 0)).replies
        assert records(replies) == [(GET_VALUES_RESULT, 0, b"")]


@pytest.mark.parametrize("kind", [0, BEGIN, STDIN, 10, 11, 12, 77, 255])
def test_unknown_management_records(kind: int) -> None:
    """FCGI_UNKNOWN_TYPE (section 4.2), in the middle of a request, too."""
    data = request(pair(b"A", b"x"))
    for at in (0, 16, len(data)):
        parser = fed(data[:at] + record(kind, b"x" * 9, 0, 7) + data[at:])
        assert records(parser.replies) == [(UNKNOWN_TYPE, 0, bytes((kind, 0, 0, 0, 0, 0, 0, 0)))]
        assert len(parser.requests) == 1


# What is written


@pytest.mark.parametrize("size", [0, 1, 8, 65527, 65528, 65529, 200_000])
def test_a_stream_is_written_in_records(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    found = records(stream(STDOUT, 300, content[:size]))
    assert b"".join(each for _, _, each in found) == content[:size]
    assert {(kind, number) for kind, number, _ in found} <= {(STDOUT, 300)}
    assert all(each for _, _, each in found), "an empty record would end the stream"


def test_the_end_of_a_response() -> None:
    assert records(end_response(300)) == [(STDOUT, 300, b""), (END, 300, bytes(8))]


def test_the_request_to_close_is_an_empty_record_of_the_requests_errors() -> None:
    assert records(closing(300)) == [(STDERR, 300, b"")]


def test_the_oracle_sees_requests() -> None:
    """Or the properties above would hold of nothing."""
    data = request(pair(b"CONTENT_LENGTH", b"2"), b"hi")
    for cut in ([data], one_by_one(data)):
        found, replies, status, idle = fastcgi_outcome(cut)
        assert found == [(1, {"CONTENT_LENGTH": "2"}, b"hi", True)]
        assert (replies, status, idle) == (b"", "", False)
