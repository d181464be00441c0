"""The load generator tells the truth, and one server runs through the whole harness."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import handler, process, wire
from bench.load import Bench, bench, running
from bench.servers import SERVERS, Case

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is compiled")


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench() as made:
        yield made


@contextmanager
def answering(place: Bench, answers: list[bytes]) -> Iterator[None]:
    """A server that gives the connections in turn these answers and closes each."""
    place.socket.unlink(missing_ok=True)
    with process.listen(place.socket) as listener:

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("protocol", SERVERS["sdactivate"].protocols)
def test_hundred_requests(place: Bench, protocol: str) -> None:
    with running(place, Case("sdactivate", protocol, "trivial")) as server:
        report = server.measured(lambda: place.load(protocol, n="100"))
        assert report["requests"] == 100
        assert not any(report["failures"].values())
        assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"]
        assert 1 < report["cpu_us"] < 1e6
        assert server.memory() > 1


@pytest.mark.parametrize("protocol", SERVERS["sdactivate"].protocols)
@pytest.mark.parametrize("app", ["post", "file"])
def test_what_does_not_fit_a_buffer(place: Bench, app: str, protocol: str) -> None:
    with running(place, Case("sdactivate", protocol, app)) as server:
        report = server.measured(lambda: server.load(n="20", c="4"))
    assert report["requests"] == 20
    assert not any(report["failures"].values())


@pytest.mark.parametrize("app", ["trivial", "post"])
def test_a_server_at_a_port(place: Bench, app: str) -> None:
    with running(place, Case("sdactivate-tcp", "http", app)) as server:
        assert server.load(n="20")["requests"] == 20


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "empty"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello", "truncated"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 13\r\n\r\nHello, World!", "wrong"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nWhat", "wrong"),
    ],
)
def test_a_failure_is_told(place: Bench, answer: bytes, kind: str) -> None:
    with answering(place, [answer]):
        report = place.load("http", n="1", c="1")
    assert report["requests"] == 0
    assert report["failures"][kind] == 1
    assert sum(report["failures"].values()) == 1


def test_a_closed_answer_is_as_long_as_its_head_says(place: Bench) -> None:
    answers = [
        b"Status: 200 OK\r\nContent-Length: 14\r\n\r\nHello, World!",
        b"Status: 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!",
        b"Status: 200 OK\r\n\r\nHello, World!",
    ]
    with answering(place, answers):
        report = place.load("scgi", n="3", c="1")
    assert report["requests"] == 2
    assert report["failures"]["truncated"] == 1


def test_a_kept_connection_that_was_closed_is_opened_again(place: Bench) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!"
    with answering(place, [whole, whole]):
        report = place.load("http", n="2", c="1")
    assert (report["requests"], report["stale"]) == (2, 1)
    assert not any(report["failures"].values())


def test_requests_are_like_nginx_makes_them() -> None:
    assert len(wire.PARAMS) == 27
    for protocol in wire.PROTOCOLS.values():
        assert 600 < len(protocol.request(wire.PARAMS)) < 1100


def test_the_loop_without_a_server_calls_the_application() -> None:
    closed = []

    class Result(list[bytes]):
        def close(self) -> None:
            closed.append(self)

    def application(environ: dict[str, object], start_response: object) -> Result:
        assert environ["PATH_INFO"] == wire.PATH
        return Result([b"Hello, World!"])

    handler.requests(application, 3)
    assert len(closed) == 3
