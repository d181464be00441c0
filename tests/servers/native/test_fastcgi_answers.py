"""A FastCGI answer in pieces: every byte of it is in a record, the head's, too."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate.servers.native.wire import fastcgi as wire

APPLICATION = """
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/nothing":
        start_response("204 No Content", [])
        return iter([b"not sent"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"first\\n", b"x" * 200_000, b"last\\n"])
"""

# What systemd does before exec: the socket is descriptor 3, and the process is told.
INHERIT = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Path]:
    """A real server on a real inherited socket; its path."""
    (directory / "app.py").write_text(APPLICATION)
    path = directory / "sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        number = listening.fileno()
        serve = [sys.executable, "-m", "sdactivate", "serve", "app:application"]
        with subprocess.Popen(
            [sys.executable, "-c", INHERIT, str(number), *serve], cwd=directory, pass_fds=[number]
        ) as process:
            try:
                yield path
            finally:
                process.terminate()


def pair(name: str, value: str) -> bytes:
    return bytes((len(name), len(value))) + (name + value).encode()


def request(path: str) -> bytes:
    fields = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": ""}
    params = b"".join(pair(*field) for field in fields.items())
    records = (
        (wire.BEGIN_REQUEST, bytes((0, wire.RESPONDER, 0, 0, 0, 0, 0, 0))),
        (wire.PARAMS, params),
        (wire.PARAMS, b""),
        (wire.STDIN, b""),
    )
    return b"".join(wire.head(kind, 1, len(content)) + content for kind, content in records)


def answer(path: Path, what: str) -> list[tuple[int, bytes]]:
    """The records of the answer; whatever is no record fails."""
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as file:
        sock.settimeout(30)
        sock.connect(str(path))
        sock.sendall(request(what))
        records = []
        while head := file.read(wire.HEAD):
            assert head[0] == wire.VERSION
            content = file.read(head[4] << 8 | head[5])
            file.read(head[6])
            records.append((head[1], content))
        return records


@pytest.mark.parametrize(
    ("what", "status", "body"),
    [
        ("/", b"Status: 200 OK", b"first\n" + b"x" * 200_000 + b"last\n"),
        ("/nothing", b"Status: 204 No Content", b""),
    ],
)
def test_an_answer_in_pieces_is_made_of_records(
    what: str, status: bytes, body: bytes, tmp_path: Path
) -> None:
    with serving(tmp_path) as path:
        records = answer(path, what)
    assert records[-1] == (wire.END_REQUEST, bytes(8))
    assert {kind for kind, _ in records[:-1]} == {wire.STDOUT}
    sent = b"".join(content for _, content in records[:-1])
    head, _, found = sent.partition(b"\r\n\r\n")
    assert head.startswith(status)
    assert found == body
