"""uwsgi's parser: packets from hostile hands, and what an independent encoder writes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.targets import TARGETS, one_by_one
from sdactivate.servers.native.wire import Malformed, TooLarge
from sdactivate.servers.native.wire.uwsgi import PONG, parse
from tests.servers.native.wire.cuts import cuts, pieces

LIMIT = 65535
TEXT = st.text(st.characters(max_codepoint=255), max_size=300)


def string(content: bytes) -> bytes:
    return len(content).to_bytes(2, "little") + content


def packet(content: bytes, modifier1: int = 0, modifier2: int = 0) -> bytes:
    return bytes((modifier1,)) + len(content).to_bytes(2, "little") + bytes((modifier2,)) + content


def block(fields: list[tuple[str, str]]) -> bytes:
    return b"".join(string(text.encode("latin-1")) for pair in fields for text in pair)


@given(st.dictionaries(TEXT, TEXT, min_size=1, max_size=9), st.binary(max_size=9), cuts())
def test_what_was_written_is_read(variables: dict[str, str], body: bytes, cut: list[int]) -> None:
    data = packet(block(list(variables.items()))) + body
    end = len(data) - len(body)
    assert parse(data, LIMIT) == (variables, end)
    for place in cut:
        assert parse(data[: place % end], LIMIT) is None, "more is needed"


CONTENT = st.one_of(
    st.binary(max_size=20),
    st.lists(st.tuples(TEXT, TEXT), max_size=4).map(block),
    st.tuples(st.lists(TEXT, max_size=4), st.binary(max_size=4)).map(
        lambda both: b"".join(string(text.encode("latin-1")) for text in both[0]) + both[1]
    ),
    st.integers(190, 210).map(lambda size: string(b"A") + string(b"x" * (size - 5))),
)


@given(
    st.one_of(
        st.binary(max_size=40),
        CONTENT.map(packet),
        st.tuples(CONTENT, st.sampled_from([0, 100, 1, 255]), st.integers(0, 255)).map(
            lambda each: packet(*each)
        ),
    ),
    st.binary(max_size=9),
    cuts(),
)
@example(b"\0\0\0\0", b"", [])
@example(packet(string(b"A")), b"\1\0B", [])
def test_any_bytes_are_a_request_or_one_refusal(data: bytes, body: bytes, cut: list[int]) -> None:
    TARGETS["uwsgi"](pieces(data + body, cut))


@pytest.mark.parametrize(
    "content",
    [
        b"",  # size 0: a packet that asks for nothing is no ping
        b"\1",  # ends inside a length
        string(b"A"),  # a name without a value
        string(b"A") + b"\1",
        string(b"A") + b"\1\0",  # reaches beyond the vars by one
        string(b"A") + b"\xff\xff" + b"x" * 9,
        string(b"A") + string(b"x") + b"\0",
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\0", b"\0\0\0\0"])
def test_vars_that_do_not_come_out_even(content: bytes, behind: bytes) -> None:
    """What is behind them is a body, and never a part of them."""
    with pytest.raises(Malformed) as refusal:
        parse(packet(content) + behind, LIMIT)
    assert refusal.value.status == "400 Bad Request"


@pytest.mark.parametrize("modifier1", [1, 5, 99, 101, 255])
def test_other_modifiers_are_refused_at_their_first_byte(modifier1: int) -> None:
    for data in (bytes((modifier1,)), packet(string(b"A") + string(b"x"), modifier1)):
        with pytest.raises(Malformed, match=f"modifier1 {modifier1} "):
            parse(data, LIMIT)


@pytest.mark.parametrize("size", [6, 255, 256, 257, 65534, 65535])
def test_sizes_up_to_the_largest(size: int) -> None:
    data = packet(string(b"A") + string(b"x" * (size - 5)))
    assert parse(data, size) == ({"A": "x" * (size - 5)}, len(data))
    assert parse(data[:-1], size) is None
    with pytest.raises(TooLarge) as refusal:
        parse(data[:4], size - 1)  # before any of it has come
    assert refusal.value.status == "431 Request Header Fields Too Large"


def test_modifier2_says_nothing() -> None:
    assert parse(packet(string(b"A") + string(b"x"), 0, 7), LIMIT) == ({"A": "x"}, 10)


def test_a_ping_and_its_answer() -> None:
    """As uWSGI's own ping plugin: modifier1 100; modifier2 0 asks and 1 answers."""
    ping = b"\x64\0\0\0"
    assert parse(ping, LIMIT) == ({}, 4)
    assert [parse(ping[:length], LIMIT) for length in range(4)] == [None] * 4
    assert PONG == b"\x64\0\0\1"
    TARGETS["uwsgi"](one_by_one(ping))


def test_repeated_variables() -> None:
    fields = [("HTTP_COOKIE", "a=1"), ("CONTENT_LENGTH", "0"), ("HTTP_COOKIE", "b=2")]
    found = parse(packet(block([*fields, ("CONTENT_LENGTH", "3")])), LIMIT)
    assert found is not None
    assert found[0] == {"HTTP_COOKIE": "a=1; b=2", "CONTENT_LENGTH": "3"}
