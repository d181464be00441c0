"""SCGI's parser: netstrings from hostile hands, and what an independent encoder writes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.targets import TARGETS, one_by_one
from sdactivate.servers.native.wire import Malformed, TooLarge
from sdactivate.servers.native.wire.scgi import parse
from tests.servers.native.wire.cuts import cuts, pieces

LIMIT = 65536
VALUES = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=40)
NAMES = VALUES.filter(bool)
BODY = b"\0,:12"


def netstring(content: bytes) -> bytes:
    return str(len(content)).encode() + b":" + content + b","


def block(fields: list[tuple[str, str]]) -> bytes:
    return b"".join(text.encode("latin-1") + b"\0" for pair in fields for text in pair)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=9), st.binary(max_size=9), cuts())
def test_what_was_written_is_read(variables: dict[str, str], body: bytes, cut: list[int]) -> None:
    data = netstring(block(list(variables.items()))) + body
    found = parse(data, LIMIT)
    assert found == (variables, len(data) - len(body))
    for end in cut:
        short = data[: end % (len(data) - len(body))]
        assert parse(short, LIMIT) is None, "more is needed"


GRAMMAR = st.one_of(
    st.binary(max_size=40),
    st.from_regex(rb"[0-9]{0,11}[:;]?", fullmatch=True),
    st.binary(max_size=30).map(netstring),
    st.lists(st.tuples(NAMES, VALUES), max_size=5).map(lambda fields: netstring(block(fields))),
    st.integers(190, 210).map(lambda size: netstring(b"A\0" + b"x" * (size - 3) + b"\0")),
)


@given(GRAMMAR, st.binary(max_size=9), cuts())
@example(b"201:", b"", [])
@example(b"99999x", b"", [])
def test_any_bytes_are_a_request_or_one_refusal(data: bytes, body: bytes, cut: list[int]) -> None:
    TARGETS["scgi"](pieces(data + body, cut))


REQUEST = netstring(b"CONTENT_LENGTH\x005\0SCGI\x001\0REQUEST_METHOD\0POST\0")


def test_the_example_of_the_specification() -> None:
    data = REQUEST + BODY
    variables = {"CONTENT_LENGTH": "5", "SCGI": "1", "REQUEST_METHOD": "POST"}
    assert parse(data, LIMIT) == (variables, len(REQUEST))
    for piece in range(len(REQUEST)):
        assert parse(data[:piece], LIMIT) is None


@pytest.mark.parametrize(
    "data",
    [
        b"0:,",
        b"0",
        b"012:A\x00x\x00",
        b":A\0x\0,",
        b"-5:A\0x\0,",
        b"+4:A\0x\0,",
        b" 4:A\0x\0,",
        b"4 :A\0x\0,",
        b"4_0:",
        b"\xb2:",
        b"4;A\0x\0,",
        b"4:A\0x\0;",  # no comma
        b"5:A\0x\0,,",
        b"3:A\0x,",  # no NUL at the end
        b"2:A\0,",  # a name without a value
        b"1:\0,",
        b"6:A\0x\0B\0,",
        b"1234567890",
        b"1234567890:",
    ],
)
def test_no_netstring_and_no_pairs(data: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        parse(data, LIMIT)
    assert refusal.value.status == "400 Bad Request"
    TARGETS["scgi"](one_by_one(data))


@pytest.mark.parametrize("size", [4, 9, 10, 99, 100, 65535, 65536])
def test_sizes_up_to_the_limit(size: int) -> None:
    data = netstring(b"A\0" + b"x" * (size - 3) + b"\0")
    assert parse(data, size) == ({"A": "x" * (size - 3)}, len(data))
    with pytest.raises(TooLarge) as refusal:
        parse(data, size - 1)
    assert refusal.value.status == "431 Request Header Fields Too Large"
    with pytest.raises(TooLarge):
        parse(data[: len(str(size)) + 1], size - 1)  # before any of it has come


def test_repeated_variables() -> None:
    """nginx, HAProxy and Cherokee repeat HTTP_COOKIE; nginx CONTENT_LENGTH, 0 first."""
    fields = [
        ("CONTENT_LENGTH", "0"),
        ("HTTP_COOKIE", "a=1"),
        ("HTTP_ACCEPT", "x"),
        ("HTTP_COOKIE", "b=2"),
        ("HTTP_ACCEPT", "y"),
        ("CONTENT_LENGTH", "12"),
    ]
    found = parse(netstring(block(fields)), LIMIT)
    assert found is not None
    assert found[0] == {
        "CONTENT_LENGTH": "12",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_ACCEPT": "x, y",
    }


def test_values_may_be_empty_and_in_any_bytes() -> None:
    data = netstring(b"A\0\0B\0" + bytes(range(1, 256)) + b"\0")
    found = parse(data, LIMIT)
    assert found is not None
    assert found[0] == {"A": "", "B": bytes(range(1, 256)).decode("latin-1")}
