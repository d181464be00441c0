"""waitress here loses nothing at a stop, and leaves the socket as it is."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate.errors import UsageError
from sdactivate.servers.waitress import Listening, adjustments
from sdactivate.settings import resolve

EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "sdactivate", "serve", *sys.argv[2:]])
"""
APPLICATION = """
import sys, time
def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        print("slowly", file=sys.stderr, flush=True)
        time.sleep(0.5)
    if environ["PATH_INFO"] == "/fails":
        raise LookupError("failed")
    said = "%s %s" % (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"])
    start_response("200 OK", [("Content-Length", str(len(said)))])
    return [said.encode()]
"""


class Service:
    """waitress as a service, its socket, and what it tells its supervisor."""

    def __init__(self, directory: Path) -> None:
        (directory / "said.py").write_text(APPLICATION)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(directory / "socket"))
        self.listening.listen()
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.supervisor.bind(str(directory / "notify"))
        self.supervisor.settimeout(60)
        argv = [sys.executable, "-c", EXEC, str(self.listening.fileno()), "--server", "waitress"]
        self.process = subprocess.Popen(
            [*argv, "--threads", "2", "--graceful-timeout", "20", "said:application"],
            pass_fds=[self.listening.fileno()],
            cwd=directory,
            env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            self.told("READY=1")
        except BaseException:
            self.close()
            raise

    def told(self, wanted: str) -> str:
        while True:
            message = self.supervisor.recv(4096).decode()
            if wanted in message:
                return message

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(60)
        peer.connect(self.listening.getsockname())
        return peer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.listening.close()
        self.supervisor.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    started = Service(tmp_path)
    yield started
    started.close()


def ask(peer: socket.socket, path: str = "/", *fields: str) -> None:
    head = "".join(f"{field}\r\n" for field in ("Host: mysite.test", *fields))
    peer.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())


def some(peer: socket.socket) -> bytes:
    piece = peer.recv(4096)
    assert piece, "the connection was closed"
    return piece


def answered(peer: socket.socket) -> bytes:
    """One whole response."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += some(peer)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"Content-Le"))
    while len(body) < length:
        body += some(peer)
    return head.split(b"\r\n")[0] + b" " + body


def test_a_request_under_way_is_finished_at_a_stop(service: Service) -> None:
    with service.connect() as slow, service.connect() as idle:
        ask(idle)
        assert answered(idle).startswith(b"HTTP/1.1 200 OK")  # and the connection stays
        ask(slow, "/slow")
        assert service.process.stderr
        while "slowly" not in service.process.stderr.readline():
            pass
        service.process.send_signal(signal.SIGTERM)
        assert answered(slow).startswith(b"HTTP/1.1 200 OK")
        assert service.process.wait(60) == 0
        assert idle.recv(1) == b""


def test_what_was_not_accepted_waits_for_the_next_process(service: Service) -> None:
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    with service.connect() as waiting:  # the socket listens on, and was not shut down
        ask(waiting)
        service.listening.setblocking(True)
        accepted, _ = service.listening.accept()
        with accepted:
            assert accepted.recv(4096).startswith(b"GET / ")


def test_requests_and_failures_are_counted(service: Service) -> None:
    with service.connect() as peer:
        ask(peer)
        answered(peer)
        ask(peer, "/fails")
        assert answered(peer).startswith(b"HTTP/1.1 500 ")
    assert "2 served, 1 failed" in service.told("2 served")


def test_on_a_unix_socket_the_front_is_believed(service: Service) -> None:
    with service.connect() as peer:
        ask(peer, "/", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        assert answered(peer).endswith(b" 192.0.2.7 https")


@pytest.mark.parametrize(
    "given",
    [
        {"header_timeout": "5"},
        {"protocol": "scgi"},
        {"trust": "10.0.0.1 10.0.0.2"},
        {"trust_headers": "X-Script-Name"},
        {"trust_headers": "Forwarded"},
    ],
)
def test_what_waitress_can_not_do_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="waitress"):
        adjustments(resolve(given, {}, {}), ())


def test_waitress_believes_what_the_table_says() -> None:
    for given, more in (("", set()), ("X-Forwarded-Host", {"x-forwarded-host"})):
        settings = resolve({"trust": "10.0.0.1", "trust_headers": given}, {}, {})
        told = adjustments(settings, ())["trusted_proxy_headers"]
        assert told == {"x-forwarded-for", "x-forwarded-proto"} | more


def test_listen_is_not_called_again_and_peers_may_be_refused(tmp_path: Path) -> None:
    class Nobody:
        def admits(self, fd: int) -> bool:
            return False

    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as peer:
        listening.bind(str(tmp_path / "socket"))
        with Listening(fileno=os.dup(listening.fileno())) as ours:
            ours.listen(5)
            assert not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            listening.listen()
            ours.gate = Nobody()
            peer.connect(str(tmp_path / "socket"))
            with pytest.raises(BlockingIOError):
                ours.accept()
            assert peer.recv(1) == b""
