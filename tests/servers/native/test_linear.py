"""What a peer sends in the smallest pieces costs in proportion to its length, and no more.

Counted is memory that each piece makes the server fill anew, by tracemalloc: copying all that has
come for each piece makes four times the length cost sixteen times as much.
"""

import socket
import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.servers.flup import fastcgi as flup
from sdactivate.servers.native import http, one_shot
from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.server import Server
from sdactivate.servers.native.wire import Joined, Message, fastcgi, joined
from sdactivate.settings import Settings
from tests.servers.peers import PROTOCOLS, Request, record

LIMIT = 1 << 20
KNOWN = {"FCGI_MAX_CONNS": "1", "FCGI_MAX_REQS": "1", "FCGI_MPXS_CONNS": "0"}
SIZES = (2_000, 8_000)
Pieces = Iterable[bytes]
Feed = Callable[[bytes], object]


def filled(feed: Feed, pieces: Pieces) -> int:
    """Bytes of memory that feeding these pieces fills."""
    total = 0
    tracemalloc.start()
    try:
        for piece in pieces:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            feed(piece)
            total += max(0, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return total


def assert_linear(start: Callable[[], Feed], pieces: Callable[[int], Pieces]) -> None:
    short, long = (filled(start(), list(pieces(size))) for size in SIZES)
    factor = SIZES[1] / SIZES[0]
    assert long < 1.5 * factor * short + 20_000, (short, long)


def one_by_one(data: bytes) -> Pieces:
    return (data[at : at + 1] for at in range(len(data)))


BEGIN = record(1, bytes((0, 1, 1, 0, 0, 0, 0, 0)))
PARAMS = record(4, b"\1\1ab") + record(4, b"")
FASTCGI: dict[str, Callable[[int], Pieces]] = {
    "a long record": lambda size: one_by_one(BEGIN + record(4, bytes(size))),
    "parameters in records": lambda size: [BEGIN, *(record(4, b"x") for _ in range(size))],
    "a body in records": lambda size: [BEGIN + PARAMS, *(record(5, b"x") for _ in range(size))],
}


@pytest.mark.parametrize("codec", [fastcgi, flup])
@pytest.mark.parametrize("kind", FASTCGI)
def test_fastcgi(codec: object, kind: str) -> None:
    assert_linear(lambda: codec.Parser(LIMIT, KNOWN).feed, FASTCGI[kind])  # type: ignore[attr-defined]


def test_a_body_in_pieces() -> None:
    assert_linear(lambda: Message(True).take, lambda size: one_by_one(bytes(4 * size)))


AT_ONCE: dict[str, tuple[type, str, Callable[[int], object]]] = {
    "parameters in records": (
        fastcgi.Parser,
        "_params",
        lambda size: fastcgi.Parser(LIMIT, KNOWN).feed(BEGIN + record(4, b"x") * size),
    ),
    "values that are asked for": (
        fastcgi.Parser,
        "_control",
        lambda size: fastcgi.Parser(LIMIT, KNOWN).feed(record(9, b"", 0) * size),
    ),
    "unknown records": (
        fastcgi.Parser,
        "_control",
        lambda size: fastcgi.Parser(LIMIT, KNOWN).feed(record(77, b"", 0) * size),
    ),
    "a variable that comes often": (
        Joined,
        "__setitem__",
        lambda size: joined(["HTTP_COOKIE", "a"] * size),
    ),
}


@pytest.mark.parametrize("kind", AT_ONCE)
def test_many_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come in one piece; counted is what each of them fills."""
    owner, name, run = AT_ONCE[kind]
    step = getattr(owner, name)
    totals = []
    for size in SIZES:
        calls: list[int] = []

        def counting(*given: object, calls: list[int] = calls) -> None:
            calls.append(filled(lambda _: step(*given), [b""]))

        monkeypatch.setattr(owner, name, counting)
        run(size)
        totals.append(sum(calls))
        assert len(calls) >= size
    assert totals[1] < 1.5 * SIZES[1] / SIZES[0] * totals[0] + 20_000, totals


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[[], Feed]]:
    """Begin a connection of a server that has started nothing; its bytes are given to it."""
    server = Server(lambda environ, start: [], [], Settings(header_bytes=LIMIT, body_bytes=LIMIT))
    ends = []
    protocol: type[Connection] = request.param

    def begin() -> Feed:
        ours, peer = socket.socketpair()
        ends.append(peer)
        return protocol(server, ours.detach(), None).received

    yield begin
    server.cut()
    for end in ends:
        end.close()


def head(protocol: str, size: int) -> Pieces:
    """A header of so many bytes, without its last one, a byte at a time."""
    return one_by_one(PROTOCOLS[protocol].encode(Request(fields=[("X", "x" * size)]))[:-1])


@pytest.mark.parametrize("start", [one_shot.Scgi, one_shot.Uwsgi], indirect=True)
def test_a_header_in_pieces(start: Callable[[], Feed]) -> None:
    protocol = start().__self__.protocol  # type: ignore[attr-defined]
    assert_linear(start, lambda size: head(protocol, size))


@pytest.mark.parametrize("start", [one_shot.Scgi, one_shot.Uwsgi], indirect=True)
def test_a_body_behind_a_header(start: Callable[[], Feed]) -> None:
    protocol = start().__self__.protocol  # type: ignore[attr-defined]

    def pieces(size: int) -> Pieces:
        data = PROTOCOLS[protocol].encode(Request(method="POST", body=bytes(size)))
        return [data[:-size], *one_by_one(data[-size:-1])]

    assert_linear(start, pieces)


@pytest.mark.parametrize("start", [http.Http], indirect=True)
def test_a_proxy_header_in_pieces(start: Callable[[], Feed]) -> None:
    signature = b"\r\n\r\n\0\r\nQUIT\n\x21\x11"
    assert_linear(
        start, lambda size: one_by_one(signature + size.to_bytes(2, "big") + bytes(size - 1))
    )


@given(st.lists(st.binary(max_size=6000), max_size=12), st.none() | st.integers(0, 40000))
def test_a_body_is_what_its_pieces_are(pieces: list[bytes], length: int | None) -> None:
    message = Message(True)
    message.length = length
    for piece in pieces:
        message.take(piece)
    whole = b"".join(pieces)[:length]
    assert (b"".join(message.body), message.received) == (whole, len(whole))


@given(st.lists(st.tuples(st.sampled_from(["HTTP_COOKIE", "HTTP_A", "B"]), st.text(max_size=3))))
def test_variables_that_come_repeatedly(fields: list[tuple[str, str]]) -> None:
    found = joined([text for field in fields for text in field])
    for name, separator in (("HTTP_COOKIE", "; "), ("HTTP_A", ", ")):
        values = [value for each, value in fields if each == name]
        assert found.get(name) == (separator.join(values) if values else None)
    assert found.get("B") == dict(fields).get("B")
