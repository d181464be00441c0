"""Kept connections and new ones share the threads."""

import threading
from pathlib import Path

import pytest

from tests.servers.service import Service, serving

APPLICATION = """
import time

def application(environ, start_response):
    if environ["PATH_INFO"] == "/new":
        time.sleep(0.005)
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
