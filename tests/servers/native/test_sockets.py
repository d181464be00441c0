"""Several inherited sockets at once: of every family, each pinned by its descriptor's name."""

import socket
from pathlib import Path

import pytest

from tests.servers.peers import PROTOCOLS, Request, ask
from tests.servers.service import listener, serving

APPLICATION = "tests.servers.native.applications:application"
FAMILIES = {
    "scgi": "unix",
    "fastcgi": "tcp",
    "uwsgi": "tcp6",
    "http": "unix",
    "any": "unix",
    "open": "tcp",
    "open6": "tcp6",
}


@pytest.mark.parametrize("workers", [1, 2])
def test_all_are_served_each_in_its_protocol(tmp_path: Path, workers: int) -> None:
    listeners = [listener(tmp_path, family, name) for name, family in FAMILIES.items()]
    with serving(
        tmp_path, APPLICATION, listeners=listeners, names=list(FAMILIES), workers=workers
    ) as service:
        for which, name in enumerate(FAMILIES):
            for protocol in PROTOCOLS if name == "any" else (name,):
                protocol = protocol if protocol in PROTOCOLS else "http"
                with service.connect(which) as peer:
                    assert ask(peer, protocol, Request()).body == b"hello"
        assert service.log == ""
        with service.connect(0) as peer:  # not spoken there
            peer.sendall(PROTOCOLS["http"].encode(Request()))
            assert peer.recv(100).startswith(b"Status: 400 ")
        service.logged(r"unix peer \(scgi\): SCGI: .*; answered 400 ")
        assert service.stop() == 0


def test_a_vsock_socket_is_served_beside_a_unix_one(tmp_path: Path) -> None:
    """Over vsock itself only where the kernel has its loopback."""
    try:
        listeners = [listener(tmp_path, "vsock"), listener(tmp_path)]
    except OSError:
        listeners = [listener(tmp_path)]  # a kernel without vsock
    with serving(tmp_path, APPLICATION, listeners=listeners) as service:
        with service.connect(len(listeners) - 1) as peer:
            assert ask(peer, "scgi", Request()).body == b"hello"
        if len(listeners) == 2 and Path("/sys/module/vsock_loopback").exists():
            with service.connect(0) as peer:
                assert peer.family == socket.AF_VSOCK
                assert ask(peer, "http", Request()).body == b"hello"
        assert service.log == ""
