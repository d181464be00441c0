"""Every limit and deadline over every protocol: its own refusal, and one line of log."""

import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD
from typing import Any

import pytest

from tests.servers.peers import PROTOCOLS, Answer, FastCgi, Request, ask, record, variables
from tests.servers.service import Service, eventually, serving

APPLICATION = "tests.servers.native.applications:application"
LIMITS = {
    "header_bytes": 2000,
    "header_count": 20,
    "request_line": 500,
    "body_bytes": 100_000,
    "body_buffer": 20_000,
    "header_timeout": 0.5,
    "body_timeout": 0.5,
    "write_timeout": 0.5,
    "stream": "/read/streamed",
}
SPOKEN = [("native", protocol) for protocol in PROTOCOLS] + [("flup", "scgi"), ("flup", "fastcgi")]
FASTCGI = PROTOCOLS["fastcgi"]
assert isinstance(FASTCGI, FastCgi)


class Refuser:
    """A service with low limits, over one protocol."""

    def __init__(self, service: Service, protocol: str) -> None:
        self.service, self.protocol = service, protocol
        self._mark = len(service.log)

    @property
    def said(self) -> list[str]:
        """What has been logged since the test began."""
        return self.service.log[self._mark :].splitlines()

    def encode(self, request: Request) -> bytes:
        return PROTOCOLS[self.protocol].encode(request)

    def hears(self, peer: socket.socket, status: int, why: str) -> None:
        """`status` is answered to the end, and one line says `why` and who the peer was."""
        answer = PROTOCOLS[self.protocol].read(peer, Request())
        assert (answer.status, answer.whole) == (status, True), self.said
        assert peer.recv(1) == b""
        # One more request: what would be said twice has been said by then
        with self.service.connect() as other:
            assert ask(other, self.protocol, Request()).body == b"hello"
        assert len(self.said) == 1, self.said
        (line,) = self.said
        who = re.escape(f"unix peer ({self.protocol})")
        assert re.fullmatch(rf"sdactivate: warning: .*{who}: {why}.*; answered {status} .*", line)

    def refuses(self, data: bytes, status: int, why: str) -> None:
        """`data`, all at once, is refused so."""
        with self.service.connect() as peer:
            peer.sendall(data)
            self.hears(peer, status, why)


@pytest.fixture(scope="module", params=["native", "flup"])
def service(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp(request.param)
    with serving(directory, APPLICATION, server=request.param, **LIMITS) as started:
        yield started
        assert started.stop() == 0


@pytest.fixture
def refuser(service: Service, request: pytest.FixtureRequest) -> Refuser:
    return Refuser(service, request.param)


def over(*spoken: tuple[str, str]) -> Callable[..., Any]:
    return pytest.mark.parametrize(("service", "refuser"), spoken or SPOKEN, indirect=True)


HTTP = ("native", "http")
LONG = Request(fields=[("X-Long", "x" * 3000)])


@over()
def test_a_header_too_long(refuser: Refuser) -> None:
    refuser.refuses(refuser.encode(LONG), 431, ".*over 2000 bytes")


@over()
def test_a_header_too_long_that_never_ends(refuser: Refuser) -> None:
    data = refuser.encode(LONG)
    if refuser.protocol == "fastcgi":  # PARAMS in several records, without the last
        assert isinstance(FASTCGI, FastCgi)
        data = FASTCGI.header(variables(Request()))[:-8] + record(4, b"x" * 3000)
    else:
        data = data[:-200]
    refuser.refuses(data, 431, ".*over 2000 bytes")


@over(HTTP)
def test_what_is_left_out_of_the_environ_counts(refuser: Refuser) -> None:
    for name in ("X-Forwarded-For", "X_Dropped"):
        long = Request(fields=[(name, "1" * 3000)])
        refuser.refuses(refuser.encode(long), 431, ".*over 2000 bytes")
        refuser = Refuser(refuser.service, "http")


@over(HTTP)
def test_too_many_fields(refuser: Refuser) -> None:
    fields = [(f"X-{number}", "1") for number in range(30)]
    refuser.refuses(refuser.encode(Request(fields=fields)), 431, ".*over 20 fields")


@over(HTTP)
def test_a_request_line_too_long(refuser: Refuser) -> None:
    refuser.refuses(refuser.encode(Request("/" + "x" * 600)), 414, ".*over 500 bytes")


@over()
def test_a_body_too_large(refuser: Refuser) -> None:
    refuser.refuses(
        refuser.encode(Request("/read", "POST", body=b"x" * 200_000)),
        413,
        "a body of 200000 bytes, over the limit of 100000",
    )


@over(HTTP, ("native", "fastcgi"), ("flup", "fastcgi"))
@pytest.mark.parametrize("body_buffer", [20_000, 1 << 20])
def test_a_body_too_large_whose_length_nobody_tells(
    service: Service, refuser: Refuser, body_buffer: int, tmp_path: Path
) -> None:
    """However much of it is read before it takes a thread."""
    body = b"x" * 200_000
    data = unmeasured(refuser.protocol, body)
    why = r"a body of \d+ bytes, over the limit of 100000"
    if body_buffer == LIMITS["body_buffer"]:
        refuser.refuses(data, 413, why)
        return
    settings = {**LIMITS, "body_buffer": body_buffer}
    with serving(tmp_path, APPLICATION, **settings) as other:
        Refuser(other, refuser.protocol).refuses(data, 413, why)


def unmeasured(protocol: str, body: bytes) -> bytes:
    """A request whose body's length shows at its end only."""
    if protocol == "http":
        head = PROTOCOLS["http"].encode(
            Request("/read", "POST", fields=[("Transfer-Encoding", "chunked")])
        )
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return PROTOCOLS[protocol].encode(
        Request("/read", "POST", body=body, extra={"CONTENT_LENGTH": ""})
    )


@pytest.mark.parametrize("service", ["native"], indirect=True)
def test_deadlines(service: Service) -> None:
    """All at the same time, for each takes its time: what has come of a request, and no more."""
    before = len(service.log)
    with contextlib.ExitStack() as stack:
        waiting = []
        for protocol in PROTOCOLS:
            for data, why in unfinished(protocol):
                peer = stack.enter_context(service.connect())
                peer.sendall(data)
                waiting.append((peer, protocol, why))
        for peer, protocol, _ in waiting:
            answer = PROTOCOLS[protocol].read(peer, Request())
            assert (answer.status, answer.whole) == (408, True)
            assert peer.recv(1) == b""
    lines = service.log[before:].splitlines()
    said = [f"sdactivate: warning: unix peer ({protocol}): {why}" for _, protocol, why in waiting]
    assert sorted(lines) == sorted(said)


def unfinished(protocol: str) -> Iterator[tuple[bytes, str]]:
    """Beginnings of requests, and what is said of each."""
    incomplete = f"{protocol}: no complete request; answered 408 Request Timeout"
    stopped = "no byte of the body for 0.5 s (body_timeout); answered 408 Request Timeout"
    cut = "no byte of the body for 0.5 s (body_timeout); the application can't read the rest"
    encode = PROTOCOLS[protocol].encode
    yield encode(Request())[:60], incomplete  # (FastCGI's request begins with its 17th byte)
    for path, size, come, why in (
        ("/read", 10_000, 0, stopped),
        ("/read", 10_000, 5_000, stopped),
        ("/read", 100_000, 80_000, stopped),  # more than body_buffer
        ("/read/streamed", 100_000, 80_000, cut),  # the application is reading it
    ):
        data = encode(Request(path, "POST", body=b"x" * size))
        yield data[: data.index(b"xxxx") + come], why
    if protocol in ("http", "fastcgi"):
        yield unmeasured(protocol, b"x" * 90_000)[:-10_000], stopped


@pytest.mark.parametrize("service", ["native"], indirect=True)
def test_what_comes_bit_by_bit(service: Service) -> None:
    """A header gains no time by it. A body does: none of its silences is too long."""
    before = len(service.log)
    late = Request("/read", "POST", body=b"x" * 10_000)
    with service.crowd(len(PROTOCOLS)) as headers, service.crowd(len(PROTOCOLS)) as bodies:
        slow = list(zip(PROTOCOLS.values(), headers, bodies, strict=True))
        for protocol, _, body in slow:
            data = protocol.encode(late)
            body.sendall(data[: data.index(b"xxxx")])
        for turn in range(20):
            for protocol, header, body in slow:
                with contextlib.suppress(BrokenPipeError):  # it has been refused
                    header.sendall(protocol.encode(Request())[turn * 5 :][:5])
                data = protocol.encode(late)
                start = data.index(b"xxxx") + turn * 500
                body.sendall(data[start : start + 500 if turn < 19 else None])
            time.sleep(0.1)
        for protocol, header, body in slow:
            assert protocol.read(header, Request()).status == 408
            assert protocol.read(body, late).body == b"10000 10000"
    assert len(service.log[before:].splitlines()) == len(PROTOCOLS)


@over(HTTP)
def test_a_chunk_that_is_none(refuser: Refuser) -> None:
    """A body that breaks its protocol is the peer's fault, whoever reads it."""
    data = unmeasured("http", b"x" * 50_000)[: -len(b"\r\n0\r\n\r\n")] + b"\r\nnot hexadecimal\r\n"
    refuser.refuses(data, 400, "HTTP: .*")


@pytest.mark.parametrize("service", ["native"], indirect=True)
def test_a_response_that_nobody_takes(service: Service) -> None:
    with service.crowd(len(PROTOCOLS)) as peers:
        for protocol, peer in zip(PROTOCOLS, peers, strict=True):
            peer.sendall(PROTOCOLS[protocol].encode(Request("/big/200")))
        for protocol in PROTOCOLS:
            takes = rf"unix peer \({protocol}\): accepted no byte for 0.5 s .*; connection closed"
            service.logged(takes)
            assert len(re.findall(takes, service.log)) == 1


def test_nobody_waits_to_refuse(tmp_path: Path) -> None:
    """Not even a peer that takes nothing: the one who looks after deadlines goes on."""
    request = PROTOCOLS["http"].encode(Request(keep=True))
    with serving(tmp_path, APPLICATION, threads=1, header_timeout=0.5) as service:
        with service.connect() as peer:
            count = fill(peer, request)
        with service.connect() as peer:
            assert fill(peer, request, count) == count
            peer.sendall(request[:50])
            service.logged("answered 408", 1)
            with service.connect() as other:
                other.sendall(b"GET ")
                assert PROTOCOLS["http"].read(other, Request()).status == 408


def fill(peer: socket.socket, request: bytes, limit: int = 100_000) -> int:
    """Ask until no further answer fits in the socket; how many have."""
    answered, size = 0, 0
    while answered < limit:
        peer.sendall(request)
        until = time.monotonic() + 0.5
        while (now := struct.unpack("i", ioctl(peer, FIONREAD, b"1234"))[0]) == size:
            if time.monotonic() > until:
                return answered
        answered, size = answered + 1, now
    return answered


@pytest.mark.parametrize("protocol", ["http", "fastcgi"])
def test_an_idle_connection_is_closed_without_a_word(tmp_path: Path, protocol: str) -> None:
    with (
        serving(tmp_path, APPLICATION, keepalive_timeout=0.2) as service,
        service.connect() as peer,
    ):
        assert ask(peer, protocol, Request(keep=True)).body == b"hello"
        assert peer.recv(1) == b""
        assert service.log == ""


class TestTooManyConnections:
    """One more than there may be: who has waited longest for its peer makes room."""

    @pytest.fixture
    def crowded(self, tmp_path: Path) -> Iterator[Service]:
        with serving(tmp_path, APPLICATION, connections=8, threads=2) as service:
            yield service

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_half_a_request_is_answered_503(self, crowded: Service, protocol: str) -> None:
        half = PROTOCOLS[protocol].encode(Request())[:60]
        who = re.escape(f"unix peer ({protocol})")
        refusal = rf"warning: {who}: .*connections=8.*; answered 503 "
        with contextlib.ExitStack() as stack:
            peers = []
            # (One whose bytes have not been read yet has not begun, and leaves without a word)
            while not re.search(refusal, crowded.log):
                peers.append(stack.enter_context(crowded.connect()))
                with contextlib.suppress(BrokenPipeError):
                    peers[-1].sendall(half)
                assert len(peers) < 1000

            answers: dict[socket.socket, Answer] = {}

            def refused() -> list[Answer]:
                """What those were told who have been, so far."""
                for peer in peers:
                    if peer not in answers and not is_open(peer):
                        answers[peer] = PROTOCOLS[protocol].read(peer, Request())
                return [answer for answer in answers.values() if answer.status]

            # (Who is told lingers, and counts: the next in the queue may drive out one more)
            eventually(
                lambda: (
                    len(refused()) == len(crowded.log.splitlines())
                    and len(peers) - len(answers) <= 8
                ),
                "the rest to be told, and a line for each",
            )
            assert {(answer.status, answer.whole) for answer in refused()} == {(503, True)}

    @pytest.mark.parametrize("protocol", ["http", "fastcgi"])
    def test_a_connection_that_is_used_stays(self, crowded: Service, protocol: str) -> None:
        with contextlib.ExitStack() as stack:
            used = stack.enter_context(crowded.connect())
            peers = []
            for _ in range(20):
                assert ask(used, protocol, Request(keep=True)).body == b"hello"
                peers.append(stack.enter_context(crowded.connect()))
                assert ask(peers[-1], protocol, Request(keep=True)).body == b"hello"
            assert sum(map(is_open, peers)) <= 8
            assert crowded.log == ""  # they were idle: no request is lost

    def test_silent_ones_make_room(self, crowded: Service) -> None:
        with crowded.crowd(20) as peers:
            eventually(lambda: sum(map(is_open, peers)) <= 8, "the rest to be closed")
            with crowded.connect() as peer:
                assert ask(peer, "scgi", Request()).body == b"hello"


def is_told(peer: socket.socket) -> bool:
    """Whether the server has said something on this connection."""
    peer.settimeout(0)
    try:
        return bool(peer.recv(1, socket.MSG_PEEK))
    except (BlockingIOError, ConnectionResetError):
        return False
    finally:
        peer.settimeout(60)


def is_open(peer: socket.socket) -> bool:
    """Whether the server has said nothing and not closed this connection."""
    peer.settimeout(0)
    try:
        peer.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        peer.settimeout(60)
    return False
