"""flup's codecs read and write what the native ones do, whatever comes and however it is cut."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.servers.flup import fastcgi, scgi
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wire import fastcgi as native_fastcgi
from sdactivate.servers.native.wire import scgi as native_scgi
from tests.servers.flup.served import netstring, pair, records

TEXT = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=9)
NAMES = st.sampled_from(["REQUEST_METHOD", "HTTP_COOKIE", "HTTP_X", "CONTENT_LENGTH", ""])
PAIRS = st.lists(st.tuples(NAMES, TEXT), max_size=4)
LIMIT = 200


def outcome(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Malformed as error:
        return error.status


def block(fields: list[tuple[str, str]]) -> bytes:
    return "".join(f"{name}\0{value}\0" for name, value in fields).encode("latin-1")


HEADERS = st.one_of(
    PAIRS.map(lambda fields: netstring(block(fields)) + b"body"),
    st.binary(max_size=30).map(netstring),
    st.binary(max_size=20),
    st.tuples(st.from_regex(rb"[0-9+_ :]{0,12}", fullmatch=True), st.binary(max_size=9)).map(
        b"".join
    ),
    st.integers(LIMIT - 5, LIMIT + 5).map(
        lambda size: netstring(b"A\0" + b"x" * (size - 3) + b"\0")
    ),
)


@given(HEADERS, st.integers(0, 300))
def test_scgi_is_read_alike(data: bytes, length: int) -> None:
    data = data[:length]
    assert outcome(scgi.parse, data, LIMIT) == outcome(native_scgi.parse, data, LIMIT)


def record(kind: int, number: int, content: bytes, padding: int = 0, version: int = 1) -> bytes:
    head = bytes((version, kind)) + number.to_bytes(2, "big") + len(content).to_bytes(2, "big")
    return head + bytes((padding, 0)) + content + bytes(padding)


CONTENT = {
    1: st.sampled_from(
        [bytes((0, 1, k, 0, 0, 0, 0, 0)) for k in (0, 1)] + [b"\0\2" + bytes(6), b""]
    ),
    4: PAIRS.map(lambda fields: b"".join(pair(*each) for each in fields)) | st.binary(max_size=6),
    9: st.lists(
        st.sampled_from(["FCGI_MAX_CONNS", "FCGI_MPXS_CONNS", "OTHER"]), max_size=3, unique=True
    ).map(lambda names: b"".join(pair(name, "") for name in names)),
}
KINDS = st.sampled_from([1, 1, 2, 4, 4, 4, 5, 5, 8, 9, 11, 77])


@st.composite
def a_record(draw: st.DrawFn) -> bytes:
    kind = draw(KINDS)
    content = draw(CONTENT.get(kind, st.binary(max_size=5)))
    if kind in (4, 5) and draw(st.booleans()):
        content = b""
    number = draw(st.sampled_from([0, 1, 1, 1, 1, 2]))
    version = draw(st.sampled_from([1] * 30 + [2]))
    return record(kind, number, content, draw(st.integers(0, 9)), version)


@st.composite
def a_request(draw: st.DrawFn) -> list[bytes]:
    """The records of a whole request, its parameters cut in two."""
    number, role = draw(st.sampled_from([(1, 1), (1, 1), (2, 1), (1, 2)]))
    parameters = b"".join(pair(*each) for each in draw(PAIRS)) + draw(
        st.sampled_from([b"", b"", b"\x01\x05A"])
    )
    cut = draw(st.integers(0, len(parameters)))
    pieces = [piece for piece in (parameters[:cut], parameters[cut:]) if piece]
    bodies = [draw(st.binary(min_size=1, max_size=5)), b""]
    return [
        record(1, number, bytes((0, role, draw(st.integers(0, 1)), 0, 0, 0, 0, 0))),
        *(record(4, number, piece) for piece in [*pieces, b""]),
        *(record(5, number, piece) for piece in bodies[draw(st.integers(0, 1)) :]),
    ]


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """Requests with other records among theirs, in pieces of which none ends in step."""
    records = [each for whole in draw(st.lists(a_request(), max_size=3)) for each in whole]
    for stray in draw(st.lists(a_record(), max_size=3)):
        records.insert(draw(st.integers(0, len(records))), stray)
    found, rest = [], b""
    for each in records:
        cut = draw(st.sampled_from([0, 0, 1, 7, 9]))
        found.append(rest + each[: len(each) - cut])
        rest = each[len(each) - cut :]
    return [*found, rest]


class Body(NamedTuple):
    """What has come of a request's body."""

    content: bytes
    received: int


def fed(parser: Any, data: list[bytes], answering: bool) -> Iterator[Any]:
    """What the parser makes of each piece."""
    for piece in data:
        try:
            parser.feed(piece)
        except Malformed as error:
            yield error.status
            return
        replies, parser.replies = parser.replies, b""
        yield list(records(replies)), parser.idle
        for each in parser.requests:
            yield each.id, each.variables
            yield Body(b"".join(each.body), each.received)
            yield each.complete, each.aborted, each.keep_alive, each.answered
        if answering:
            while parser.requests:
                parser.answered(parser.requests.pop(0))
            yield parser.idle


KNOWN = {"FCGI_MAX_CONNS": "7", "FCGI_MAX_REQS": "7", "FCGI_MPXS_CONNS": "0"}


@given(pieces(), st.booleans())
def test_fastcgi_is_read_alike(data: list[bytes], answering: bool) -> None:
    native = native_fastcgi.Parser(LIMIT, KNOWN)
    ours = fastcgi.Parser(LIMIT, KNOWN)
    whole, early = list(fed(ours, data, answering)), list(fed(native, data, answering))
    for mine, its in zip(whole, early, strict=False):
        # The native parser takes what has come of a record before all of it has, and
        # refuses it as early.
        if isinstance(its, int):
            break
        if isinstance(its, Body):
            assert its.content.startswith(mine.content)
            assert its.received - len(its.content) == mine.received - len(mine.content)
        else:
            assert mine == its
    if isinstance(early[-1], int):
        assert whole[-1] == early[-1]
    else:
        assert len(whole) == len(early)
    # In one piece there is nothing to be early with.
    together = [b"".join(data)]
    ours, native = fastcgi.Parser(LIMIT, KNOWN), native_fastcgi.Parser(LIMIT, KNOWN)
    assert list(fed(ours, together, answering)) == list(fed(native, together, answering))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 65527, 65528, 65529, 200_000])
def test_fastcgi_is_written_alike(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    ours = list(records(fastcgi.stream(6, 1, content[:size])))
    assert ours == list(records(native_fastcgi.stream(6, 1, content[:size])))
    assert list(records(fastcgi.end_response(9))) == list(records(native_fastcgi.end_response(9)))
