"""Whoever looks after a server sees what it is doing."""

import socket
from pathlib import Path
from typing import Any

from sdactivate.servers.native.server import Server
from sdactivate.settings import resolve
from sdactivate.systemd.listen_fds import InheritedSocket
from tests.servers.service import listener
from tests.servers.test_stop import REQUEST


def test_whoever_is_woken_by_a_request_sees_it(tmp_path: Path) -> None:
    # Otherwise he finds that nothing goes on, and sleeps through a request that never ends
    busy: list[int] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("204 No Content", [])
        return []

    with listener(tmp_path) as listening, socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        settings = resolve({"threads": 1}, {}, {})
        server: Server = Server(
            application,
            [InheritedSocket("socket", listening)],
            settings,
            lambda: busy.append(server.figures().busy),
        )
        server.start()
        server.unobserved = True
        peer.connect(listening.getsockname())
        peer.sendall(REQUEST)
        assert b"204" in peer.recv(4096)
        # A connection that came before its request has been told of as well
        assert busy[-1:] == [1]
        server.drain()
        assert server.join(60)
