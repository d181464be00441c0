"""What every wire parser promises, whatever bytes come: the targets of the fuzzer, and of tests.

A target is given bytes in pieces and raises AssertionError where a promise is broken:

- There is a request, or more is needed, or it is refused with one `Malformed`. Any other
  exception is a fault, and comes out of the target as it is.
- However the bytes are cut, the same requests come of them.
- What a parser keeps is bounded: by its limits, and by the one piece that has just come.
- A peer that was refused stays refused, no matter what it sends.

The limits are small ones, so that they are reached.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sdactivate.servers.native.wire import Malformed, fastcgi, http, proxy, scgi, uwsgi

Pieces = Sequence[bytes]
Target = Callable[[Pieces], None]

LIMIT = 200
HEADER_COUNT = 8
REQUEST_LINE = 40
KNOWN = {"FCGI_MAX_CONNS": "7", "FCGI_MAX_REQS": "7", "FCGI_MPXS_CONNS": "0"}
# The longest record of FastCGI, and the longest header of the PROXY protocol
LONGEST_RECORD = 8 + 65535 + 255
LONGEST_PROXY = 16 + 65535


def one_by_one(data: bytes) -> list[bytes]:
    """Cut `data` at every byte."""
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes) -> list[bytes]:
    """Cut the fuzzer's input: its first byte is the length of the pieces, 0 for the whole."""
    size = data[0] if data else 0
    rest = data[1:]
    return [rest[at : at + size] for at in range(0, len(rest), size)] if size else [rest]


def kept(value: Any) -> int:
    """Bytes and characters that an object holds on to, through all that it is made of."""
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, dict):
        return sum(kept(key) + kept(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return sum(map(kept, value))
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    return sum(kept(getattr(value, name, None)) for name in slots)


# One request a connection


def plain(parse: Any, longest: int, pieces: Pieces) -> Any:
    """What SCGI's or uwsgi's parser makes of a connection: (variables, body), None, a status."""
    data, outcome = b"", None
    for piece in pieces:
        data += piece
        if outcome is None:
            try:
                outcome = parse(data, LIMIT)
            except Malformed as error:
                outcome = error.status
            assert outcome or len(data) <= longest, "bytes are kept beyond the limit"
    if isinstance(outcome, tuple):
        variables, end = outcome
        return variables, data[end:]
    return outcome


def _plain_target(parse: Any, longest: int) -> Target:
    def target(pieces: Pieces) -> None:
        data = b"".join(pieces)
        outcome = plain(parse, longest, [data])
        for others in (pieces, one_by_one(data)):
            assert plain(parse, longest, others) == outcome
        if isinstance(outcome, tuple):
            variables, body = outcome
            assert kept(variables) <= LIMIT + 2 * len(data)  # ", " between repeated ones
            assert data.endswith(body)

    return target


# FastCGI


def fastcgi_outcome(pieces: Pieces, answering: bool = False) -> tuple[Any, ...]:
    """What comes of a connection: its requests, what is replied at once, and how it ends.

    answering: every request that is complete is answered at once; otherwise none is.
    """
    parser = fastcgi.Parser(LIMIT, KNOWN)
    replies, status, came = b"", "", 0
    for piece in pieces:
        came += len(piece)
        try:
            parser.feed(piece)
        except Malformed as error:
            status = error.status
        replies, parser.replies = replies + parser.replies, bytearray()
        for request in parser.requests:
            # As the connection does (FastCgi.prepare)
            assert request.variables is not None
            length = request.variables.get("CONTENT_LENGTH", "")
            if request.length is None and length.isascii() and length.isdigit():
                request.expect(int(length[:9]))
        if status:
            break
        # A body whose length nobody has said is the connection's to bound
        waiting = sum(came if r.length is None else r.length for r in parser.requests)
        assert kept(parser) <= kept(KNOWN) + 2 * LIMIT + LONGEST_RECORD + waiting, (
            "bytes are kept beyond the limits"
        )
        if answering and parser.requests and parser.requests[0].complete:
            parser.answered(parser.requests.pop(0))
    found = [(r.id, r.variables, b"".join(r.body), r.complete) for r in parser.requests]
    return found, replies, status, parser.idle or bool(status)


def fastcgi_target(pieces: Pieces) -> None:
    data = b"".join(pieces)
    outcome = fastcgi_outcome([data])
    for others in (pieces, one_by_one(data)):
        assert fastcgi_outcome(others) == outcome
    records(outcome[1])
    # What an answer lets in depends on when it comes: here only that nothing breaks
    fastcgi_outcome(pieces, answering=True)


def records(data: bytes | bytearray) -> list[tuple[int, int, bytes]]:
    """The records in `data`, which must be whole: each one's type, request and content."""
    found = []
    while data:
        assert len(data) >= 8
        assert data[0] == 1, "a record begins with the version"
        length = int.from_bytes(data[4:6], "big")
        end = 8 + length + data[6]
        assert len(data) >= end
        found.append((data[1], int.from_bytes(data[2:4], "big"), bytes(data[8 : 8 + length])))
        data = data[end:]
    return found


# HTTP


def http_outcome(pieces: Pieces) -> tuple[list[Any], str]:
    """What comes of a connection: its requests, and the status that it is refused with."""
    parser = http.Parser(LIMIT, HEADER_COUNT, REQUEST_LINE)
    requests: list[http.Request] = []
    status = ""
    for piece in pieces:
        try:
            parser.feed(piece)
        except Malformed as error:
            status = error.status
        requests += parser.requests
        parser.requests.clear()
        if status:
            break
        under_way = [request for request in requests if not request.complete]
        assert kept(parser) <= sum(map(kept, under_way)) + 2 * LIMIT + 2 * len(piece), (
            "bytes are kept beyond the limits"
        )
        assert parser.idle <= (not under_way)
    found = [
        (
            dict(r.environ),
            r.forwarded,
            r.length,
            b"".join(r.body),
            r.complete,
            r.keep_alive,
            r.awaits_continue,
        )
        for r in requests
    ]
    return found, status


# Refused for its size: as a rule by all cuts alike. But a header that is over the limit only
# with its line breaks and blanks is counted with them where it comes in several reads.
_SIZES = ("431 Request Header Fields Too Large", "414 URI Too Long")


def http_target(pieces: Pieces) -> None:
    data = b"".join(pieces)
    outcome = http_outcome([data])
    for others in (pieces, one_by_one(data)):
        compare(outcome, http_outcome(others))
    for environ, *_ in outcome[0]:
        assert all(type(value) is str for value in environ.values())
        assert environ["PATH_INFO"][:1] in ("/", "")
        assert environ.keys().isdisjoint(http.FORWARDED | {"HTTP_PROXY"})


def compare(one: tuple[list[Any], str], other: tuple[list[Any], str]) -> None:
    """Two outcomes of the same bytes must be one, but for where exactly a header is too large."""
    if one == other:
        return
    (fewer, status), (more, _) = sorted((one, other), key=lambda outcome: len(outcome[0]))
    assert status in _SIZES or one[1] in _SIZES or other[1] in _SIZES or (one[1] and other[1]), (
        one,
        other,
    )
    whole = [request for request in fewer if request[4]]
    assert more[: len(whole)] == whole


# PROXY protocol


def proxy_outcome(pieces: Pieces) -> Any:
    """What comes of a connection's first bytes: (client, the rest), None, a status."""
    data = b""
    outcome: Any = None
    for piece in pieces:
        data += piece
        if outcome is None:
            begins = proxy.begins(data)
            if begins is False:
                outcome = "none"
            elif begins:
                try:
                    outcome = proxy.parse(data)
                except Malformed as error:
                    outcome = error.status
            assert outcome or len(data) < LONGEST_PROXY, "bytes are kept beyond the limit"
    if isinstance(outcome, tuple):
        end, client = outcome
        return client, data[end:]
    return outcome


def proxy_target(pieces: Pieces) -> None:
    data = b"".join(pieces)
    outcome = proxy_outcome([data])
    for others in (pieces, one_by_one(data)):
        assert proxy_outcome(others) == outcome
    if isinstance(outcome, tuple) and outcome[0] is not None:
        address, port = outcome[0]
        assert type(address) is str
        assert 0 <= port < 65536


TARGETS: dict[str, Target] = {
    "scgi": _plain_target(scgi.parse, LIMIT + len("200:,")),
    "uwsgi": _plain_target(uwsgi.parse, LIMIT + 4),
    "fastcgi": fastcgi_target,
    "http": http_target,
    "proxy": proxy_target,
}
