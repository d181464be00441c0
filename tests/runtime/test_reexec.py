"""HUP where nobody understands MAINPID=: a fresh interpreter, however the sockets came."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.peers import Request, ask
from tests.servers.service import listener

APPLICATION = """\
import time
started = time.time_ns()
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % started]
"""


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    (tmp_path / "hello.py").write_text(APPLICATION)
    with listener(tmp_path) as sock:
        yield sock


def answer(listening: socket.socket) -> int:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(listening.getsockname())
        body = ask(peer, "http", Request()).body
    return int(body)


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        (["--fd", "{fd}"], {}),
        ([], {"SDACTIVATE_FD": "{fd}"}),
        ([], {"SERVER_STARTER_PORT": "/s={fd}"}),
        ([], {"EINHORN_FD_COUNT": "1", "EINHORN_FD_0": "{fd}", "EINHORN_MASTER_PID": "{pid}"}),
        (["--fd", "{fd}", "--notify-fd", "{ready}"], {}),
        ([], {"SDACTIVATE_FD": "0"}),
    ],
)
def test_twice_by_the_same_process(
    listening: socket.socket, tmp_path: Path, options: list[str], environ: dict[str, str]
) -> None:
    fd, (hear, ready) = listening.fileno(), os.pipe()
    values = {"fd": fd, "pid": os.getpid(), "ready": ready}
    process = subprocess.Popen(
        [sys.executable, "-m", "sdactivate", "serve", "hello"]
        + [word.format(**values) for word in options],
        cwd=tmp_path,
        env={
            **{name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"},
            **{name: text.format(**values) for name, text in environ.items()},
        },
        stdin=fd if environ.get("SDACTIVATE_FD") == "0" else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(fd, ready),
    )
    os.close(ready)
    try:
        for _ in range(2):
            before = answer(listening)
            process.send_signal(signal.SIGHUP)
            while answer(listening) == before:  # it may not have been told yet
                assert process.poll() is None
    finally:
        process.terminate()
        _, talk = process.communicate(timeout=60)
        said = os.read(hear, 10)
        os.close(hear)
    assert process.returncode == 0, talk
    assert said == (b"\n" if "--notify-fd" in options else b"")
