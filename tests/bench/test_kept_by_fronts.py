"""What nginx does with kept FastCGI connections that have more bytes than a response."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import front
from sdactivate.servers.native.wire.fastcgi import STDOUT, closing, end_response, stream

pytestmark = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
PATIENCE = 30.0
END = b"\1\5\0\1\0\0\0\0"  # of a request: the empty record of its body
HEAD = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"


class Client:
    """A POST to nginx, whose answer comes in a thread."""

    def __init__(self, port: int) -> None:
        self.said = b""
        self._thread = threading.Thread(target=self._ask, args=(port,))
        self._thread.start()

    def _ask(self, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            sock.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
                b"Connection: close\r\n\r\nx"
            )
            self.said = b"".join(iter(lambda: sock.recv(65536), b""))

    @property
    def answer(self) -> bytes:
        self._thread.join()
        return self.said


class Upstream:
    """What nginx passes requests on to: it accepts one connection after the other."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "socket"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        os.chmod(self.path, 0o666)
        self._listener.listen()
        self._listener.settimeout(PATIENCE)

    def accept(self) -> socket.socket:
        sock, _ = self._listener.accept()
        sock.settimeout(PATIENCE)
        return sock

    def close(self) -> None:
        self._listener.close()


def hear(sock: socket.socket) -> None:
    """Read a request to its end."""
    data = b""
    while not data.endswith(END):
        data += sock.recv(65536)


def response(size: int) -> bytes:
    return stream(STDOUT, 1, HEAD + bytes(size)) + end_response(1)


def is_closed(sock: socket.socket) -> bool:
    """Whether nginx closes the connection; it does not say anything on it."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:  # with the bytes unread
        return True


@pytest.fixture(params=["off", "on"])
def buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """nginx with keepalive and fastcgi_keep_conn, as bench.front makes it, buffering or not."""
    written, value = front.location, request.param

    def location(protocol: str) -> str:
        return written(protocol).replace("fastcgi_buffering off", f"fastcgi_buffering {value}")

    monkeypatch.setattr(front, "location", location)
    assert f"fastcgi_buffering {value};" in front.location("fastcgi")
    return str(value)


@contextmanager
def kept(directory: Path) -> Iterator[tuple[Upstream, int]]:
    upstream = Upstream(directory)
    try:
        with front.nginx(upstream.path, "fastcgi") as port:
            yield upstream, port
    finally:
        upstream.close()


# Below, at and beyond the sizes of nginx's buffers (4096 bytes, eight of them)
@pytest.mark.parametrize("size", [5, 4000, 4096 - 8 - len(HEAD) - 24, 20_000, 100_000])
@pytest.mark.usefixtures("buffering")
def test_it_closes_a_connection_with_more_behind_a_response(tmp_path: Path, size: int) -> None:
    with kept(tmp_path) as (upstream, port):
        client = Client(port)
        with upstream.accept() as sock:
            hear(sock)
            sock.sendall(response(size) + closing(1))
            assert is_closed(sock)
        assert client.answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.usefixtures("buffering")
def test_it_closes_an_idle_connection_that_says_anything(tmp_path: Path) -> None:
    with kept(tmp_path) as (upstream, port):
        client = Client(port)
        with upstream.accept() as sock:
            hear(sock)
            sock.sendall(response(5))
            assert client.answer.startswith(b"HTTP/1.1 200 OK")
            sock.sendall(closing(1))
            assert is_closed(sock)


@pytest.mark.usefixtures("buffering")
def test_it_passes_over_what_is_in_front_of_a_response(tmp_path: Path) -> None:
    # It has taken the idle connection for a request before it heard that it should close it
    with kept(tmp_path) as (upstream, port):
        client = Client(port)
        with upstream.accept() as sock:
            hear(sock)
            sock.sendall(response(5))
            assert client.answer.startswith(b"HTTP/1.1 200 OK")
            client = Client(port)
            hear(sock)  # on the same connection
            sock.sendall(closing(1) + response(5) + closing(1))
            assert client.answer.startswith(b"HTTP/1.1 200 OK")
            assert is_closed(sock)
