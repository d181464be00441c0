"""What a server that is left alone must stand: large, many, slow, and gone. On real sockets."""

import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.peers import PROTOCOLS, Answer, Request, ask, record
from tests.servers.service import Service, eventually, listener, serving

APPLICATION = "tests.servers.native.applications:application"
MiB = 1 << 20
GiB = 1 << 30
PIECE = bytes(MiB)
# Threads that overlap keep a descriptor each: /proc/self/task/TID/schedstat (see pool.py)
PER_THREAD = 8


def served(service: Service, times: int = 1) -> None:
    """Every protocol is answered."""
    for _ in range(times):
        for which, protocol in enumerate(PROTOCOLS):
            with service.connect(which % len(service.listeners)) as peer:
                assert ask(peer, protocol, Request()).body == b"hello"


# -- large ---------------------------------------------------------------------------------------


class Upload:
    """A body of `size` bytes, sent by a thread of its own in the protocol's way."""

    def __init__(self, peer: socket.socket, protocol: str, size: int, chunked: bool) -> None:
        self.peer, self.protocol, self.size, self.chunked = peer, protocol, size, chunked
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        length = ("Content-Length", str(self.size))
        how = ("Transfer-Encoding", "chunked") if self.chunked else length
        names = {"CONTENT_LENGTH": "" if self.chunked else str(self.size)}
        request = Request("/read", "POST", fields=[how], extra=names)
        piece, end = PIECE, b""
        if self.protocol == "http" and self.chunked:
            piece, end = b"%x\r\n%b\r\n" % (MiB, PIECE), b"0\r\n\r\n"
        if self.protocol == "fastcgi":
            piece, end = record(5, bytes(32768)) * 32, record(5, b"")
        self.peer.sendall(PROTOCOLS[self.protocol].encode(request).removesuffix(end))
        for _ in range(self.size // MiB):
            self.peer.sendall(piece)
        if end:
            self.peer.sendall(end)

    def join(self) -> Answer:
        answer = PROTOCOLS[self.protocol].read(self.peer, Request())
        self._thread.join()
        return answer


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_gigabyte_comes_in_constant_memory(tmp_path: Path, protocol: str) -> None:
    with serving(tmp_path, APPLICATION, body_bytes=0) as service, service.connect() as peer:
        served(service)
        before = service.forget_peak()
        answer = Upload(peer, protocol, GiB, chunked=False).join()
        assert answer.body == f"{GiB} {GiB}".encode()
        assert service.peak - before < 16 * MiB


@pytest.mark.parametrize("protocol", ["http", "fastcgi"])
def test_a_body_of_unknown_length_waits_on_disk(tmp_path: Path, protocol: str) -> None:
    size = 256 * MiB
    with serving(tmp_path, APPLICATION, body_bytes=0) as service, service.connect() as peer:
        served(service)
        before = service.forget_peak()
        answer = Upload(peer, protocol, size, chunked=True).join()
        assert answer.body == f"{size} {size}".encode()
        assert service.peak - before < 16 * MiB


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", ["/big/16384", "/file/1073741824"])
def test_a_gigabyte_goes_in_constant_memory(tmp_path: Path, protocol: str, path: str) -> None:
    """In pieces that the application makes, and as a file."""
    with serving(tmp_path, APPLICATION) as service, service.connect() as peer:
        served(service)
        before = service.forget_peak()
        peer.sendall(PROTOCOLS[protocol].encode(Request(path)))
        size, buffer = 0, bytearray(MiB)
        while count := peer.recv_into(buffer):
            size += count
        assert GiB < size < GiB * 1.01
        assert service.peak - before < 16 * MiB


def test_what_comes_behind_a_body_is_not_kept(tmp_path: Path) -> None:
    """FastCGI can send more than it said."""
    protocol = PROTOCOLS["fastcgi"]
    with serving(tmp_path, APPLICATION) as service, service.connect() as peer:
        served(service)
        before = service.forget_peak()
        peer.sendall(
            protocol.encode(Request("/read", "POST", body=b"12345")).removesuffix(record(5, b""))
        )
        for _ in range(100):
            peer.sendall(record(5, bytes(32768)) * 32)
        peer.sendall(record(5, b""))
        assert protocol.read(peer, Request()).body == b"5 5"
        assert service.peak - before < 16 * MiB


# -- gone ----------------------------------------------------------------------------------------

SMALL = Request("/read", "POST", body=b"x" * 10_000, keep=True)
LARGE = Request("/read", "POST", body=b"x" * (4 * MiB), keep=True)


def phases(protocol: str) -> Iterator[bytes]:
    """What a client has said when it vanishes."""
    encode = PROTOCOLS[protocol].encode
    small, large = encode(SMALL), encode(LARGE)
    header = small.index(b"xxxx")
    yield b""
    yield small[:1]
    yield small[: header // 2]
    yield small[:header]
    yield small[: header + 5000]
    yield large[: header + 2 * MiB]
    yield small  # and does not wait for its answer
    yield encode(Request("/big/100"))


def reset(peer: socket.socket) -> None:
    """End a connection as a crash does: over TCP by RST."""
    if peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def half_close(peer: socket.socket) -> None:
    with peer:
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(MiB):
            pass


@pytest.mark.parametrize("family", ["unix", "tcp"])
@pytest.mark.parametrize("end", [socket.socket.close, reset, half_close])
def test_clients_that_vanish_leave_nothing(
    tmp_path: Path, family: str, end: Callable[[socket.socket], None]
) -> None:
    names = list(PROTOCOLS)
    sockets = [listener(tmp_path, family, name) for name in names]
    with serving(tmp_path, APPLICATION, listeners=sockets, names=names) as service:
        served(service)
        before = service.descriptors + PER_THREAD
        for which, protocol in enumerate(PROTOCOLS):
            for said in phases(protocol):
                peer = service.connect(which)
                peer.sendall(said)
                end(peer)
            if protocol in ("http", "fastcgi"):
                peer = service.connect(which)
                assert ask(peer, protocol, Request(keep=True)).body == b"hello"
                end(peer)
            served(service)
        eventually(lambda: service.descriptors <= before, "the last of them to be closed")
        assert "Traceback" not in service.log
        assert service.stop() == 0


# -- out of descriptors --------------------------------------------------------------------------


def test_without_descriptors_it_waits_says_so_once_and_goes_on(tmp_path: Path) -> None:
    protocol = PROTOCOLS["http"]
    let_go = tmp_path / "let-go"
    with serving(tmp_path, APPLICATION, nofile=64, connections=30) as service:
        served(service)
        before = service.descriptors + PER_THREAD
        with service.connect() as holder:
            holder.sendall(protocol.encode(Request(f"/hold{let_go}")))
            eventually(lambda: service.descriptors == 64, "all descriptors to be taken")
            # Whoever comes now waits, and so does the server
            with service.crowd(4) as peers:
                for peer in peers:
                    peer.sendall(protocol.encode(Request("/meet/4")))
                service.logged("error: cannot accept: Too many open files")
                ran = service.cpu_seconds
                time.sleep(1)
                assert service.cpu_seconds - ran < 0.5
                let_go.touch()
                for peer in peers:
                    assert protocol.read(peer, Request()).body == b"met"
            assert protocol.read(holder, Request()).status == 200
        served(service)
        assert service.log.count("cannot accept") == 1
        eventually(lambda: service.descriptors <= before, "the last of them to be closed")


def test_a_body_that_cannot_be_kept_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no space left, no descriptor, or as here no directory."""
    protocol = PROTOCOLS["http"]
    request = Request("/read", "POST", fields=[("Transfer-Encoding", "chunked")], keep=True)
    body = protocol.encode(request) + b"%x\r\n%b\r\n0\r\n\r\n" % (MiB, PIECE)
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    with (
        serving(tmp_path, APPLICATION, body_buffer=100_000) as service,
        service.connect() as peer,
    ):
        peer.sendall(body)
        assert protocol.read(peer, request).body == b"1048576 1048576"
        directory.rmdir()
        peer.sendall(body)
        assert protocol.read(peer, request).status == 503
        service.logged(
            f"can't buffer the body in {directory}: No such file or directory; answered 503 "
        )


TAKES_DESCRIPTORS = """
import os

taken = []

def application(environ, start_response):
    environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/let-go":
        while taken:
            os.close(taken.pop())
    file = open(__file__, "rb") if environ["PATH_INFO"] != "/take-last" else None
    if environ["PATH_INFO"].startswith("/take"):
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](file) if file else [b""]
"""


def test_what_is_done_without_descriptors(tmp_path: Path) -> None:
    """Nothing is imported, which would need one: for an error, a refusal, a file, or at a stop."""
    (tmp_path / "takes.py").write_text(TAKES_DESCRIPTORS)
    upload = Request("/", "POST", body=bytes(200_000), keep=True)
    with serving(
        tmp_path, "takes:application", nofile=64, connections=30, threads=1, body_buffer=100_000
    ) as service:
        with service.connect() as peer:
            for path in ("/", "/take"):
                answer = ask(peer, "http", Request(path, keep=True))
                assert (answer.status, answer.body) == (200, TAKES_DESCRIPTORS.encode())
            assert ask(peer, "http", Request("/take-last", keep=True)).status == 200
            assert service.descriptors == 64
            assert ask(peer, "http", Request("/", keep=True)).status == 500
            service.logged("OSError: .*Too many open files")
            assert ask(peer, "http", upload).status == 503
            service.logged("can't buffer the body in .*: Too many open files; answered 503 ")
        for request in (Request("/let-go"), upload):
            with service.connect() as peer:
                assert ask(peer, "http", request).status == 200
        with service.connect() as peer:
            assert ask(peer, "http", Request("/take-last", keep=True)).status == 200
            assert service.stop() == 0
        assert "internal error in sdactivate" not in service.log


def test_without_descriptors_those_that_are_silent_make_room(tmp_path: Path) -> None:
    half = PROTOCOLS["scgi"].encode(Request())[:60]
    with serving(tmp_path, APPLICATION, nofile=64, connections=1000, threads=2) as service:
        assert "connections=1000, but this process may have only 64 descriptors" in service.log
        with service.crowd(100) as peers:
            for peer in peers:
                peer.sendall(half)
            served(service)
            assert service.descriptors <= 64
            reason = r"unix peer \(scgi\): gives way to others: Too many open files"
            service.logged(rf"{reason}; answered 503 ", times=30)
            assert service.log.count("cannot accept") <= 1


# -- many ----------------------------------------------------------------------------------------


def test_a_hundred_thousand_requests_leave_nothing(tmp_path: Path) -> None:
    """On kept connections, pipelined and not, and on one each."""
    turns = {name: PROTOCOLS[name].encode(Request()) for name in ("scgi", "uwsgi")}
    kept = {name: PROTOCOLS[name].encode(Request(keep=True)) for name in ("http", "fastcgi")}

    def ask_all(rounds: int) -> None:
        with service.connect() as http, service.connect() as fastcgi:
            for _ in range(rounds):
                http.sendall(kept["http"] * 100)
                answers(http, 100)
                for _ in range(100):
                    fastcgi.sendall(kept["fastcgi"])
                    answers(fastcgi, 1)
                for request in turns.values():
                    for _ in range(25):
                        with service.connect() as peer:
                            peer.sendall(request)
                            assert peer.recv(4096).endswith(b"hello")

    with serving(tmp_path, APPLICATION) as service:
        served(service)
        descriptors = service.descriptors + PER_THREAD
        ask_all(100)  # every thread's memory has been at its most
        before = service.resident
        ask_all(400)
        eventually(lambda: service.descriptors <= descriptors, "the last of them to be closed")
        assert service.resident - before < 2 * MiB  # not twenty bytes a request


def answers(peer: socket.socket, count: int) -> None:
    """Read so many answers on a connection that stays."""
    data = b""
    while data.count(b"hello") < count:
        data += peer.recv(MiB)


def test_a_thousand_that_wait_cost_no_thread_and_delay_nobody(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    with (
        serving(tmp_path, APPLICATION, threads=2, connections=1200) as service,
        service.crowd(1000) as peers,
    ):
        threads = service.threads
        half = {}
        for number, peer in enumerate(peers):
            protocol = list(PROTOCOLS)[number % 4]
            data = PROTOCOLS[protocol].encode(SMALL)
            at = (0, 60, data.index(b"xxxx"), data.index(b"xxxx") + 5000)[number // 4 % 4]
            peer.sendall(data[:at])
            half[peer] = (PROTOCOLS[protocol], data[at:])
            if number % 50 == 0:
                served(service)
        with service.crowd(100) as idle:
            for number, peer in enumerate(idle):
                protocol = ("http", "fastcgi")[number % 2]
                assert ask(peer, protocol, Request(keep=True)).body == b"hello"
            with service.crowd(2) as pair:  # both threads are free at the same time
                for peer in pair:
                    peer.sendall(PROTOCOLS["scgi"].encode(Request("/meet/2")))
                for peer in pair:
                    assert PROTOCOLS["scgi"].read(peer, Request()).body == b"met"
        for peer, (spoken, rest) in half.items():
            peer.sendall(rest)
            assert spoken.read(peer, SMALL).body == b"10000 10000"
        assert service.threads == threads
        assert service.log == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_with_four_threads_two_hundred_are_served_and_none_is_refused(
    tmp_path: Path, protocol: str
) -> None:
    with serving(tmp_path, APPLICATION, threads=4) as service, service.crowd(200) as peers:
        for peer in peers:
            peer.sendall(PROTOCOLS[protocol].encode(Request("/meet/4")))
        for peer in peers:
            assert PROTOCOLS[protocol].read(peer, Request()).body == b"met"
        assert service.log == ""
