"""The PROXY protocol's parser; sections are those of haproxy's doc/proxy-protocol.txt."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.targets import TARGETS, one_by_one, proxy_outcome
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wire.proxy import SIGNATURE, begins, parse
from tests.servers.native.wire.cuts import cuts, pieces

ADDRESSES = st.ip_addresses()
PORTS = st.integers(0, 65535)


def line(source: object, destination: object, port: int, other: int) -> bytes:
    family = "TCP6" if ":" in str(source) else "TCP4"
    return f"PROXY {family} {source} {destination} {port} {other}\r\n".encode()


def binary(content: bytes, command: int = 0x21, family: int = 0x11, length: int = -1) -> bytes:
    length = len(content) if length < 0 else length
    return SIGNATURE + bytes((command, family)) + length.to_bytes(2, "big") + content


def packed(source: object, destination: object, port: int, other: int) -> bytes:
    addresses = ipaddress.ip_address(str(source)).packed + (
        ipaddress.ip_address(str(destination)).packed
    )
    return addresses + port.to_bytes(2, "big") + other.to_bytes(2, "big")


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


SAME = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


@given(SAME, PORTS, PORTS, st.binary(max_size=9), cuts())
def test_a_line_that_was_written_is_read(
    both: tuple[object, object], port: int, other: int, rest: bytes, cut: list[int]
) -> None:
    data = line(*both, port, other)
    assert parse(data + rest) == (len(data), (str(both[0]), port))
    assert proxy_outcome(pieces(data + rest, cut)) == ((str(both[0]), port), rest)


@given(SAME, PORTS, PORTS, st.lists(st.binary(max_size=40), max_size=3), st.binary(max_size=9))
def test_a_binary_header_that_was_written_is_read(
    both: tuple[object, object], port: int, other: int, values: list[bytes], rest: bytes
) -> None:
    """With type-length-values behind the addresses (section 2.2), which are passed over."""
    family = 0x21 if ":" in str(both[0]) else 0x11
    content = packed(*both, port, other) + b"".join(tlv(kind, v) for kind, v in enumerate(values))
    data = binary(content, family=family)
    assert parse(data + rest) == (len(data), (str(both[0]), port))
    for end in (*range(16), 16, 17, len(data) - 1):
        assert proxy_outcome([data[:end]]) is None, "more is needed"


GRAMMAR = st.one_of(
    st.binary(max_size=30),
    st.from_regex(rb"PROXY (TCP4|TCP6|UNKNOWN|X)?[ 0-9a-f:.]{0,60}(\r\n)?", fullmatch=True),
    st.builds(
        binary,
        st.binary(max_size=40),
        st.sampled_from([0x20, 0x21, 0x22, 0x11, 0x01]),
        st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x41, 0xFF]),
        st.sampled_from([-1, -1, -1, 0, 11, 12, 13, 36, 65535]),
    ),
    SAME.map(lambda both: line(*both, 1, 2)),
)


@given(GRAMMAR, st.binary(max_size=9), cuts())
@example(b"PROXY \xb2", b"", [])
def test_any_bytes_are_a_client_or_one_refusal(data: bytes, rest: bytes, cut: list[int]) -> None:
    TARGETS["proxy"](pieces(data + rest, cut))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P", None),
        (b"PRO", None),
        (b"PROXY", None),
        (b"PROXY ", True),
        (b"POST", False),
        (b"PROPFIND", False),
        (b"PROXYX", False),
        (b"\r\n", None),
        (b"\r\n\r\n", None),
        (b"\r\n\r\nGET", False),
        (b"\r\nG", False),
        (SIGNATURE[:-1], None),
        (SIGNATURE, True),
        (b"G", False),
    ],
)
def test_what_else_begins_so_is_not_taken_for_it(data: bytes, expected: bool | None) -> None:
    """A method, or the empty lines before a request, however few bytes have come."""
    assert begins(data) is expected


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        binary(b"", command=0x20, family=0),  # LOCAL: a health check of the proxy itself
        binary(packed("192.0.2.1", "192.0.2.2", 1, 2), command=0x20),
        binary(b"", family=0),  # AF_UNSPEC
        binary(b"/run/s".ljust(216, b"\0"), family=0x31),  # AF_UNIX
        binary(b"x" * 65535, family=0x41),
    ],
)
def test_clients_that_are_not_told(data: bytes) -> None:
    assert parse(data + b"GET") == (len(data), None)
    TARGETS["proxy"](one_by_one(data[:300] + b"GET"))


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP4 example.com 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 \xb2 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[:-2].ljust(107, b" "),  # without an end
        b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",  # 108 bytes
        binary(b"", command=0x22),
        binary(b"", command=0x11),
        binary(packed("192.0.2.1", "192.0.2.2", 1, 2)[:-1]),
        binary(packed("2001:db8::1", "2001:db8::2", 1, 2)[:-1], family=0x21),
        binary(b""),
    ],
)
def test_headers_that_are_refused(data: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        parse(data)
    assert refusal.value.status == "400 Bad Request"
    TARGETS["proxy"](one_by_one(data))


def test_the_longest_line() -> None:
    """107 bytes with its end (section 2.1)."""
    data = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"
    assert parse(data) == (107, None)
    assert parse(data[:-1]) is None


def test_a_tlv_that_is_cut_short_is_nobodys() -> None:
    data = binary(packed("192.0.2.1", "192.0.2.2", 1, 2) + b"\x04\xff\xff")
    assert parse(data) == (len(data), ("192.0.2.1", 1))
