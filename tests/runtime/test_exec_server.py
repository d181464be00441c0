"""Another server is executed on what was passed here: real descriptors, a real exec."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sdactivate.backends import Backend

# A server that says what it has been given, beside a row that describes it
SERVER = """
import json, os, socket, stat, sys
fds = range(3, 3 + int(os.environ["LISTEN_FDS"]))
listening = [
    bool(socket.socket(fileno=fd).getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) for fd in fds
]
sys.stdout.write(json.dumps({
    "argv": sys.argv[1:],
    "mine": int(os.environ["LISTEN_PID"]) == os.getpid() == int(os.environ["STARTED_AS"]),
    "names": os.environ["LISTEN_FDNAMES"],
    "listening": listening,
    "stdin": stat.S_ISSOCK(os.fstat(0).st_mode),
}))
sys.stdout.flush()
os._exit(0)
"""
START = """
import os, sys
sys.path.insert(0, "")
os.environ["STARTED_AS"] = str(os.getpid())
wanted = sys.argv[1]
if wanted != "stdin":
    for at, fd in enumerate(map(int, wanted.split(","))):
        os.dup2(fd, 3 + at)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(at + 1))
from sdactivate.backends import Backend
from sdactivate.errors import Error
from sdactivate.external_servers import ExternalServer
from sdactivate.runtime.exec_server import become
from sdactivate.settings import resolve
backend = Backend("announced", ("wsgi",), ("http",), "announced")
server = ExternalServer(
    backend, "announced", ("--fixed",), ("--fd", "{fd}"), {"wsgi": ("{app}",)}, {}, several=False
)
server = server._replace(**eval(sys.argv[2]))
application = eval(sys.argv[3])
try:
    become(server, application, resolve({}, {}, os.environ))
except Error as error:
    sys.exit(str(error))
"""


def start(
    directory: Path, count: int = 1, stdin: bool = False, app: str = "'a.wsgi:b'", **row: object
) -> "subprocess.CompletedProcess[str]":
    (directory / "announced.py").write_text(SERVER)
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    try:
        for at, each in enumerate(sockets):
            each.bind(str(directory / f"socket-{at}"))
            each.listen()
        fds = [each.fileno() for each in sockets]
        # Out of the way of 3, 4, …
        names = {} if stdin else {"LISTEN_FDNAMES": ":".join(["web", "admin"][:count])}
        high = [os.dup(fd) for fd in fds]
        for fd in high:
            os.set_inheritable(fd, True)
        try:
            return subprocess.run(
                [sys.executable, "-c", START, *_words(high, stdin), repr(row), app],
                stdin=sockets[0].fileno() if stdin else subprocess.DEVNULL,
                pass_fds=() if stdin else high,
                cwd=directory,
                env={**os.environ, **names},
                capture_output=True,
                text=True,
                timeout=60,
            )
        finally:
            for fd in high:
                os.close(fd)
    finally:
        for each in sockets:
            each.close()


def _words(high: list[int], stdin: bool) -> list[str]:
    return ["stdin" if stdin else ",".join(map(str, high))]


def answer(done: "subprocess.CompletedProcess[str]") -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_sockets_are_announced_again(tmp_path: Path) -> None:
    found = answer(start(tmp_path, 2, several=True))
    assert found["argv"] == ["--fixed", "--fd", "3", "--fd", "4", "a.wsgi:b"]
    assert found["mine"]  # the process is the one that systemd knows
    assert found["names"] == "web:admin"
    assert found["listening"] == [True, True]


def test_a_socket_from_standard_input_becomes_descriptor_3(tmp_path: Path) -> None:
    found = answer(start(tmp_path, stdin=True))
    assert (found["listening"], found["stdin"], found["mine"]) == ([True], False, True)


def test_a_socket_that_would_not_be_served_is_refused(tmp_path: Path) -> None:
    done = start(tmp_path, 2)
    assert done.returncode == 1
    assert "--server announced serves one socket, and 2 are passed" in done.stderr


def test_one_that_is_not_installed_says_how_to_install_it(tmp_path: Path) -> None:
    done = start(tmp_path, backend=Backend("no_such_server", ("wsgi",), ("http",), "its-package"))
    assert f"`{sys.executable} -m pip install its-package`" in done.stderr


@pytest.mark.parametrize("app", ["lambda environ, start: []", "'mysite.asgi:application'"])
def test_an_application_that_it_can_not_import_is_refused(tmp_path: Path, app: str) -> None:
    done = start(tmp_path, app=app)
    assert done.returncode == 1
    assert "mysite.wsgi:application" in done.stderr
