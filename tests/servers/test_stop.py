"""What becomes of connections that are open when a serving process is told to stop."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.peers import PROTOCOLS, Request, ask
from tests.servers.service import eventually, serving

# FastCGI's empty STDERR record of request 1
CLOSING = b"\1\7\0\1\0\0\0\0"
REQUEST = b"43:CONTENT_LENGTH\x000\x00SCGI\x001\x00REQUEST_METHOD\x00GET\x00,"
# The service manager's side of the contract: the socket is descriptor 3, and the PID is right.
EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "sdactivate", "serve", "hello:application"])
"""
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


def answer(peer: socket.socket) -> bytes:
    return b"".join(iter(lambda: peer.recv(4096), b""))


class Service:
    """A serving process, its socket, and what it tells its supervisor."""

    def __init__(self, directory: Path, server: str) -> None:
        (directory / "hello.py").write_text(APPLICATION)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(directory / "socket"))
        self.listening.listen()
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.supervisor.bind(str(directory / "notify"))
        self.supervisor.settimeout(60)
        self.process = subprocess.Popen(
            [sys.executable, "-c", EXEC, str(self.listening.fileno())],
            pass_fds=[self.listening.fileno()],
            cwd=directory,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(directory / "notify"),
                "SDACTIVATE_SERVER": server,
            },
        )
        self.told(b"READY=1")

    def told(self, wanted: bytes) -> None:
        while wanted not in self.supervisor.recv(4096).splitlines():
            pass

    def listens(self) -> bool:
        """Whether one of its epoll sets has the socket in it (proc(5), fdinfo)."""
        inode = f"ino:{os.fstat(self.listening.fileno()).st_ino:x} "
        fdinfo = Path(f"/proc/{self.process.pid}/fdinfo")
        try:
            return any(inode in (fdinfo / fd).read_text() for fd in os.listdir(fdinfo))
        except OSError:
            return self.process.poll() is None

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(60)
        peer.connect(self.listening.getsockname())
        return peer

    def ask(self, peer: socket.socket) -> bytes:
        peer.sendall(REQUEST)
        return answer(peer)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.listening.close()
        self.supervisor.close()


@pytest.fixture(params=["native", "flup"])
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    started = Service(tmp_path, request.param)
    yield started
    started.close()


def test_a_connection_that_was_accepted_is_served_though_it_has_not_spoken_yet(
    service: Service,
) -> None:
    with service.connect() as early, service.connect() as later:
        assert service.ask(later).endswith(b"hello")  # so early, in front of it, is accepted
        service.process.send_signal(signal.SIGTERM)
        service.told(b"STOPPING=1")
        assert service.ask(early).endswith(b"hello")
    assert service.process.wait(60) == 0


def test_one_that_never_speaks_does_not_hold_up_the_stop(service: Service) -> None:
    with service.connect() as silent, service.connect() as later:
        assert service.ask(later).endswith(b"hello")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(15) == 0  # and not after header_timeout, 30 seconds
        assert silent.recv(1) == b""


def test_one_that_was_not_accepted_waits_for_the_next_process(service: Service) -> None:
    service.process.send_signal(signal.SIGTERM)
    service.told(b"STOPPING=1")
    # STOPPING=1 is said first; what comes until the socket is let go is served
    eventually(lambda: not service.listens(), "the process to let go of its socket")
    with service.connect() as waiting:
        waiting.sendall(REQUEST)
        assert service.process.wait(60) == 0
        accepted, _ = service.listening.accept()
        with accepted:
            assert accepted.recv(4096) == REQUEST


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\n", REQUEST[:20]], ids=["http", "scgi"])
def test_one_that_has_begun_to_speak_may_go_on(tmp_path: Path, head: bytes) -> None:
    # Nobody has listened yet: the only thread is busy for longer than the silent have to speak
    rest = b"Host: localhost\r\n\r\n" if head[:1] == b"G" else REQUEST[20:]
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    with (
        serving(tmp_path, "sleeping:application", threads=1) as service,
        service.connect() as begun,
        service.connect() as busy,
    ):
        busy.sendall(b"GET /sleep HTTP/1.0\r\n\r\n")
        service.logged("sleeping")  # so begun, in front of it, is accepted
        begun.sendall(head)
        service.process.send_signal(signal.SIGTERM)
        assert answer(busy).endswith(b"hello")
        begun.sendall(rest)
        assert answer(begun).endswith(b"hello")
        assert service.process.wait(20) == 0


@pytest.mark.parametrize("protocol", ["http", "fastcgi"])
def test_a_kept_connection_that_has_begun_again_may_go_on(tmp_path: Path, protocol: str) -> None:
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    codec, kept_on = PROTOCOLS[protocol], Request(keep=True)
    half = codec.encode(kept_on)[:30]
    with (
        serving(tmp_path, "sleeping:application", threads=1) as service,
        service.connect() as kept,
        service.connect() as busy,
    ):
        assert ask(kept, protocol, kept_on).body == b"hello"
        busy.sendall(b"GET /sleep HTTP/1.0\r\n\r\n")
        service.logged("sleeping")
        kept.sendall(half)
        service.process.send_signal(signal.SIGTERM)
        assert answer(busy).endswith(b"hello")
        kept.sendall(codec.encode(kept_on)[30:])
        assert codec.read(kept, kept_on).body == b"hello"
        assert service.process.wait(20) == 0


def test_a_connection_that_goes_on_behind_its_last_response_is_served(tmp_path: Path) -> None:
    # FastCGI has no word for: this is the last. (HTTP has, and its peers heed it)
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    codec, kept_on = PROTOCOLS["fastcgi"], Request(keep=True)
    slow = Request("/sleep", keep=True)
    with (
        serving(tmp_path, "sleeping:application", threads=1) as service,
        service.connect() as peer,
    ):
        peer.sendall(codec.encode(slow))
        service.logged("sleeping")
        service.process.send_signal(signal.SIGTERM)
        peer.sendall(codec.encode(kept_on)[:30])
        assert codec.read(peer, slow).body == b"hello"
        peer.sendall(codec.encode(kept_on)[30:])
        assert codec.read(peer, kept_on).body == b"hello"
        assert service.process.wait(20) == 0


@pytest.mark.parametrize("server", ["native", "flup"])
def test_what_comes_behind_the_last_response_is_refused_from_the_first_byte(
    tmp_path: Path, server: str
) -> None:
    # Who has its answer asks again at once; the beginning must not be taken and the rest refused
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    codec, slow = PROTOCOLS["fastcgi"], Request("/sleep", keep=True)
    with (
        serving(tmp_path, "sleeping:application", threads=1, server=server) as service,
        service.connect() as peer,
    ):
        peer.sendall(codec.encode(slow))
        service.logged("sleeping")
        service.process.send_signal(signal.SIGTERM)
        service.logged("exiting")
        assert codec.read(peer, slow).body == b"hello"
        with pytest.raises(BrokenPipeError):
            peer.sendall(codec.encode(slow)[:30])
        assert service.process.wait(20) == 0


@pytest.mark.parametrize("server", ["native", "flup"])
def test_a_front_is_asked_to_close_its_fastcgi_connections(tmp_path: Path, server: str) -> None:
    # By a record that says nothing: behind the last response, and on a connection that is idle.
    # tests/bench/test_kept_by_fronts.py shows that nginx then closes them
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    codec, kept_on = PROTOCOLS["fastcgi"], Request(keep=True)
    slow = Request("/sleep", keep=True)
    with (
        serving(tmp_path, "sleeping:application", threads=1, server=server) as service,
        service.connect() as idle,
        service.connect() as busy,
        service.connect() as silent,
    ):
        assert ask(idle, "fastcgi", kept_on).body == b"hello"
        busy.sendall(codec.encode(slow))
        service.logged("sleeping")
        service.process.send_signal(signal.SIGTERM)
        assert codec.read(busy, slow).body == b"hello"
        assert answer(busy) == CLOSING
        # Its front does not close it: so it is closed
        assert answer(idle) == CLOSING
        assert answer(silent) == b"", "no request has begun, and there is nobody to ask"
        assert service.process.wait(20) == 0


@pytest.mark.parametrize(
    ("server", "protocol"),
    [("native", "http"), ("native", "fastcgi"), ("flup", "fastcgi"), ("waitress", "http")],
)
def test_a_kept_connection_at_work_has_time_for_one_more_request(
    tmp_path: Path, server: str, protocol: str
) -> None:
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    codec, request = PROTOCOLS[protocol], Request("/", "POST", body=b"x" * 100, keep=True)
    data = codec.encode(request)
    with (
        serving(tmp_path, "sleeping:application", threads=1, server=server) as service,
        ExitStack() as stack,
    ):
        peers = [stack.enter_context(service.connect()) for _ in range(8)]
        for peer in peers:
            assert ask(peer, protocol, request).body == b"hello"
        service.process.send_signal(signal.SIGTERM)
        service.logged("exiting")
        for peer in peers:
            peer.sendall(data[:-100])
        for peer in peers:
            peer.sendall(data[-100:])
            answer = codec.read(peer, request)
            assert answer.body == b"hello"
            if protocol == "http":  # which says that this was the last one
                assert answer["connection"].lower() == "close"
        assert service.process.wait(20) == 0


def test_who_has_woken_a_process_that_leaves_is_served_by_it(tmp_path: Path) -> None:
    # The kernel has woken a thread of this process for each, and wakes no other process for them
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    with (
        serving(tmp_path, "sleeping:application", threads=8) as service,
        ExitStack() as stack,
    ):
        with service.connect() as peer:
            assert ask(peer, "scgi", Request()).body == b"hello"
        service.process.send_signal(signal.SIGSTOP)
        peers = [stack.enter_context(service.connect()) for _ in range(6)]
        for peer in peers:
            peer.sendall(PROTOCOLS["scgi"].encode(Request()))
        service.process.send_signal(signal.SIGTERM)
        service.process.send_signal(signal.SIGCONT)
        assert service.process.wait(20) == 0
        for peer in peers:
            peer.settimeout(5)
            assert PROTOCOLS["scgi"].read(peer, Request()).body == b"hello"


SLEEPING = """
import time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/sleep":
        environ["wsgi.errors"].write("sleeping")
        time.sleep(4)
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
BURNING = """
import time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/burn":
        environ["wsgi.errors"].write("burning")
        end = time.thread_time() + 0.5
        while time.thread_time() < end:
            pass
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""


def test_threads_that_compute_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    # While they compute fewer are allowed; were that so at a stop, nobody would serve the rest
    (tmp_path / "burning.py").write_text(BURNING)
    with serving(tmp_path, "burning:application", threads=3) as service, ExitStack() as stack:
        begun, *burners = (stack.enter_context(service.connect()) for _ in range(4))
        begun.sendall(b"GET / HTTP/1.1\r\n")
        for peer in burners:
            peer.sendall(b"GET /burn HTTP/1.0\r\n\r\n")
        service.logged("burning", 3)
        service.process.send_signal(signal.SIGTERM)
        for peer in burners:
            assert answer(peer).endswith(b"hello")
        begun.sendall(b"Host: localhost\r\n\r\n")
        assert answer(begun).endswith(b"hello")
        assert service.process.wait(20) == 0


def test_one_client_never_waits_for_another_while_workers_are_replaced(tmp_path: Path) -> None:
    # A connection that a leaving worker was woken for hung until the next one came: 1 in 1000 did
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    codec, request = PROTOCOLS["scgi"], Request()
    with serving(
        tmp_path, "sleeping:application", workers=2, threads=8, max_requests=20
    ) as service:
        for _ in range(3000):
            with service.connect(timeout=15) as peer:
                peer.sendall(codec.encode(request))
                assert codec.read(peer, request).body == b"hello"
        service.logged("replacing worker", 5)
