"""A fault of the server's own: it costs a connection and a line of the log, and no thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.peers import PROTOCOLS, Request, ask, send_apart, until_end
from tests.servers.service import Service, eventually, serving

APPLICATION = "tests.servers.native.broken_codecs:application"
FAULT = "internal error in sdactivate; please report it"
THREADS = 2


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, APPLICATION, threads=THREADS) as started:
        yield started


def breaking(protocol: str) -> bytes:
    # By its host, which nobody has asked for before, the codecs and not their compiled twin read it
    return PROTOCOLS[protocol].encode(Request("/BREAK-READING", host="broken.example"))


def all_threads_serve(service: Service, protocol: str) -> bool:
    """Whether as many requests as there are threads are served at the same time."""
    peers = [service.connect() for _ in range(THREADS)]
    for peer in peers:
        peer.sendall(PROTOCOLS[protocol].encode(Request(f"/meet/{THREADS}")))
    answers = [PROTOCOLS[protocol].read(peer, Request()) for peer in peers]
    for peer in peers:
        peer.close()
    return [answer.body for answer in answers] == [b"met"] * THREADS


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pieces", ["at once", "later"])
def test_a_codec_that_raises(service: Service, protocol: str, pieces: str) -> None:
    """On a new connection, and on one that has waited; far more often than there are threads."""
    times = 5 * THREADS
    data = breaking(protocol)
    before = service.descriptors
    for _ in range(times):
        with service.connect() as peer:
            send_apart(peer, *([data[:1], data[1:]] if pieces == "later" else [data]))
            assert until_end(peer) == b"", "it is closed"
    eventually(lambda: service.descriptors < before + times, "the descriptors to be closed")
    service.logged(FAULT, times)
    service.logged("RuntimeError: the codec is broken", times)
    assert "Traceback (most recent call last)" in service.log
    assert "broken_codecs.py" in service.log, "the traceback says where"
    assert all_threads_serve(service, protocol)
    assert service.stop() == 0


def test_a_codec_that_raises_between_requests_of_a_connection(service: Service) -> None:
    for protocol in ("fastcgi", "http"):
        with service.connect() as peer:
            assert ask(peer, protocol, Request(keep=True)).status == 200
            peer.sendall(breaking(protocol))
            assert until_end(peer) == b""
        assert all_threads_serve(service, protocol)
    service.logged(FAULT, 2)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_ends_a_connection_raises(tmp_path: Path, protocol: str) -> None:
    """In the thread that looks after all deadlines, and the process with it."""
    timeouts = {"header_timeout": 0.5, "body_timeout": 0.5}
    with serving(tmp_path, APPLICATION, threads=THREADS, **timeouts) as service:
        for times in (1, 2):  # deadlines are still looked after
            with service.connect() as peer:
                peer.sendall(PROTOCOLS[protocol].encode(Request())[:-3])
                assert until_end(peer) == b""
            service.logged(FAULT, times)
        service.logged("RuntimeError: what ends a connection is broken", 2)
        assert all_threads_serve(service, protocol)
        assert service.process.poll() is None
