"""Connections share the threads, and none is to blame for what the others take."""

import contextlib
import threading
from pathlib import Path

import pytest

from tests.servers.peers import PROTOCOLS, Request, ask, until_end
from tests.servers.service import Service, serving

APPLICATION = """
import time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/new":
        time.sleep(0.005)
    elif environ["PATH_INFO"] == "/long":
        environ["wsgi.errors"].write("long")
        time.sleep(3)
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
NEW = b"GET /new HTTP/1.0\r\n\r\n"
KEPT = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_kept_connection_has_its_turn_while_the_backlog_never_empties(
    tmp_path: Path, threads: int
) -> None:
    (tmp_path / "fair.py").write_text(APPLICATION)
    enough = threading.Event()

    def crowd(service: Service) -> None:
        while not enough.is_set():
            with service.connect() as peer:
                peer.sendall(NEW)
                while peer.recv(4096):
                    pass

    with serving(tmp_path, "fair:application", threads=threads) as service:
        clients = [threading.Thread(target=crowd, args=(service,)) for _ in range(16)]
        with service.connect(timeout=20) as kept:
            for client in clients:
                client.start()
            try:
                for _ in range(5):
                    kept.sendall(KEPT)
                    assert kept.recv(4096).endswith(b"hello")
            finally:
                enough.set()
                for client in clients:
                    client.join()


@pytest.mark.parametrize("protocol", ["http", "fastcgi"])
def test_no_deadline_passes_while_it_is_the_server_that_is_late(
    tmp_path: Path, protocol: str
) -> None:
    # The only thread is busy for longer than an idle connection is kept, and than a header may take
    (tmp_path / "fair.py").write_text(APPLICATION)
    codec = PROTOCOLS[protocol]
    request = codec.encode(Request(keep=True))
    timeouts = {"keepalive_timeout": 0.2, "header_timeout": 0.2}
    with (
        serving(tmp_path, "fair:application", threads=1, **timeouts) as service,
        service.connect() as early,
        service.connect() as kept,
        service.connect() as busy,
    ):
        assert ask(kept, protocol, Request(keep=True)).body == b"hello"
        busy.sendall(codec.encode(Request("/long")))
        service.logged("long")
        kept.sendall(request)
        early.sendall(request)
        for peer in (kept, early):
            assert codec.read(peer, Request(keep=True)).body == b"hello"


@pytest.mark.parametrize("protocol", ["http", "fastcgi"])
def test_who_has_asked_again_does_not_make_room(tmp_path: Path, protocol: str) -> None:
    # More connections than there may be, and the oldest has said what nobody has heard yet
    (tmp_path / "fair.py").write_text(APPLICATION)
    codec = PROTOCOLS[protocol]
    with (
        serving(tmp_path, "fair:application", threads=1, connections=4) as service,
        service.connect() as kept,
        service.connect() as idle,
        service.connect() as busy,
    ):
        for peer in (kept, idle):
            assert ask(peer, protocol, Request(keep=True)).body == b"hello"
        busy.sendall(codec.encode(Request("/long")))
        service.logged("long")
        kept.sendall(codec.encode(Request(keep=True)))
        with service.crowd(6):
            assert codec.read(kept, Request(keep=True)).body == b"hello"
            assert idle.recv(1) == b""


COMPUTING = """
import time

released = False

def application(environ, start_response):
    global released
    if environ["PATH_INFO"] == "/compute":
        until = time.monotonic() + 60
        while not released and time.monotonic() < until:
            pass
    elif environ["PATH_INFO"] == "/quick":
        released = True
    start_response("200 OK", [("Content-Length", "5")])
    return [b"found" if released else b"never"]
"""


@pytest.mark.parametrize("count", [2, 5])
def test_a_quick_request_overtakes_those_that_compute_for_long(tmp_path: Path, count: int) -> None:
    # They compute until the quick one is served
    (tmp_path / "computing.py").write_text(COMPUTING)
    with (
        serving(tmp_path, "computing:application", threads=8) as service,
        contextlib.ExitStack() as peers,
    ):
        long = [peers.enter_context(service.connect(timeout=120)) for _ in range(count)]
        for peer in long:
            peer.sendall(b"GET /compute HTTP/1.0\r\n\r\n")
        with service.connect(timeout=120) as quick:
            quick.sendall(b"GET /quick HTTP/1.0\r\n\r\n")
            assert until_end(quick).endswith(b"found")
        for peer in long:
            assert until_end(peer).endswith(b"found")
