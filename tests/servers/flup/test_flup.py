"""What flup can't do is refused, with a sentence."""

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.servers.flup import scgi
from sdactivate.servers.native.wire import Malformed
from tests.servers.flup.served import EXEC, HERE, netstring, request, served
from tests.servers.peers import Request, ask
from tests.servers.service import serving


@pytest.mark.parametrize("protocol", ["scgi", "fastcgi"])
@pytest.mark.parametrize("size", [0, 10, 3 << 20])  # none, at hand, streamed
def test_wsgi_is_kept_to(protocol: str, size: int, tmp_path: Path) -> None:
    with serving(tmp_path, "tests.servers.flup.answers:validated", server="flup") as service:
        body = bytes(size)
        sent = Request("/", "POST", query="a=b", fields=[("Content-Type", "x/y")], body=body)
        with service.connect() as peer:
            answer = ask(peer, protocol, sent)
        assert (answer.status, answer.body, answer.whole) == (200, body, True)
        assert "AssertionError" not in service.log


@pytest.mark.parametrize(
    ("data", "title"),
    [(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP"), (b"\0\0\0\0", "uwsgi")],
)
def test_a_connection_in_another_protocol_is_told_so(
    data: bytes, title: str, tmp_path: Path
) -> None:
    with served(tmp_path, plain=False, protocol="scgi") as process:
        with process.connect() as peer:
            peer.say(data)
            assert peer.response().startswith(b"HTTP/1.1 501 Not Implemented\r\n")
        assert f"flup does not speak {title}" in process.said()


@pytest.mark.parametrize(
    ("option", "name", "family"),
    [
        (["--protocol", "http"], "x", socket.AF_UNIX),
        ([], "uwsgi", socket.AF_UNIX),
        ([], "x", socket.AF_INET),  # where HTTP is served unless something else is asked
    ],
    ids=["setting", "name", "TCP"],
)
def test_a_socket_of_another_protocol_is_refused(
    option: list[str], name: str, family: socket.AddressFamily, tmp_path: Path
) -> None:
    with socket.socket(family) as listening:
        listening.bind(str(tmp_path / "socket") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listening.listen()
        fd = listening.fileno()
        argv = [sys.executable, "-c", EXEC, str(fd), "--server", "flup", *option]
        env = {**os.environ, "LISTEN_FDNAMES": name}
        done = subprocess.run(
            [*argv, "answers:application"],
            pass_fds=[fd],
            cwd=HERE,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert "flup does not speak" in done.stderr
    assert "--server native" in done.stderr


def test_descriptors_over_1023_are_served(tmp_path: Path) -> None:
    """select(2) knows none of these, and flup waits with select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2200:
        pytest.skip("needs a limit of 2200 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))  # others may have some, too
    try:
        with served(tmp_path, False, "fastcgi", 8, "--connections", "2000") as process:
            idle = [process.connect() for _ in range(1050)]
            for peer in idle:
                peer.say(b"\x01")
            assert process.get("/ready").endswith(b"ready")
            assert len(os.listdir(f"/proc/{process.process.pid}/fd")) > 1050
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_header_is_read_as_its_bytes_come() -> None:
    data = request("scgi", "/path", b"body")
    end = len(data) - 4
    for length in range(end):
        assert scgi.parse(data[:length], 65536) is None
    variables, at = scgi.parse(data, 65536) or ({}, 0)
    assert (at, variables["PATH_INFO"]) == (end, "/path")


@pytest.mark.parametrize("data", [b"x", b"12a", b"0:,", netstring(b"A"), b"3:A\0\0;"])
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        scgi.parse(data, 65536)
