"""Sockets from every supervisor that passes some: real descriptors, in a real child process."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.taking import TAKE, take


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@pytest.fixture
def listening(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        yield sock


def test_standard_input(listening: socket.socket, path: str) -> None:
    """As spawn-fcgi, lighttpd, mod_fcgid, fcgi-program and s6-fdholder-retrieve pass it."""
    found = take(stdin=listening)
    assert (found["names"], found["addresses"], found["listening"]) == (["stdin"], [path], [True])
    assert found["inheritable"] == [False]
    assert found["stdin"] == "/dev/null"


def test_by_number(listening: socket.socket, path: str) -> None:
    fd = listening.fileno()
    found = take(str(fd), pass_fds=(fd,))
    assert (found["names"], found["addresses"]) == ([f"fd{fd}"], [path])
    assert found["inheritable"] == [False]


def test_server_starter(listening: socket.socket, path: str) -> None:
    fd = listening.fileno()
    found = take(env={"SERVER_STARTER_PORT": f"{path}={fd}"}, pass_fds=(fd,))
    assert (found["names"], found["addresses"], found["left"]) == ([path], [path], [])


@pytest.mark.parametrize("form", ["EINHORN_FDS={fd}", "EINHORN_FD_COUNT=1 EINHORN_FD_0={fd}"])
def test_einhorn(listening: socket.socket, path: str, form: str) -> None:
    fd = listening.fileno()
    env = dict(pair.split("=") for pair in form.format(fd=fd).split())
    env["EINHORN_MASTER_PID"] = str(os.getpid())
    found = take(env=env, pass_fds=(fd,))
    assert (found["names"], found["addresses"]) == ([f"fd{fd}"], [path])


def test_einhorn_meant_another(listening: socket.socket) -> None:
    fd = listening.fileno()
    env = {"EINHORN_FDS": str(fd), "EINHORN_MASTER_PID": "1"}
    assert take(env=env, pass_fds=(fd,))["error"] == "WrongProcess"


@pytest.mark.parametrize(
    "env",
    [
        {"SERVER_STARTER_PORT": "80"},
        {"SERVER_STARTER_PORT": "/run/x=four"},
        {"SERVER_STARTER_PORT": ""},
        {"EINHORN_FDS": "3 x"},
        {"EINHORN_FD_COUNT": "2", "EINHORN_FD_0": "3"},
        {"EINHORN_FD_COUNT": "-1"},
        {"EINHORN_MASTER_PID": "me", "EINHORN_FDS": "3"},
    ],
)
def test_what_no_supervisor_would_write_is_refused(env: dict[str, str]) -> None:
    found = take(env=env)
    assert found["error"] == "MalformedEnvironment"
    assert next(iter(env)) in found["says"]


def test_two_sources_are_refused(listening: socket.socket) -> None:
    fd = listening.fileno()
    env = {"SERVER_STARTER_PORT": f"/x={fd}", "EINHORN_FDS": str(fd)}
    found = take(env=env, pass_fds=(fd,))
    assert found["error"] == "Ambiguous"
    assert "Server::Starter and einhorn" in found["says"]
    assert take(str(fd), env={"EINHORN_FDS": str(fd)}, pass_fds=(fd,))["error"] == "Ambiguous"


def test_another_socket_as_standard_input_is_not_left_unserved(
    listening: socket.socket, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        other.listen()
        fd = other.fileno()
        assert take(str(fd), pass_fds=(fd,), stdin=listening)["error"] == "Ambiguous"


def test_the_same_socket_twice_is_one(listening: socket.socket, path: str) -> None:
    """systemd's StandardInput=socket, or --fd 0 said out loud."""
    fd = listening.fileno()
    assert take(str(fd), pass_fds=(fd,), stdin=listening)["addresses"] == [path]
    assert take("0", stdin=listening)["addresses"] == [path]


@pytest.mark.parametrize("kind", ["nothing", "file", "connection", "datagram"])
def test_other_standard_input_is_none(kind: str, tmp_path: Path) -> None:
    left, right = socket.socketpair()
    datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, datagram, (tmp_path / "file").open("w") as file:
        passed: dict[str, object] = {
            "nothing": subprocess.DEVNULL,
            "file": file,
            "connection": left,
            "datagram": datagram,
        }
        assert take(stdin=passed[kind])["error"] == "NoSockets"


def test_numbers_that_are_no_sockets() -> None:
    with open("/dev/null") as null:
        fd = null.fileno()
        assert take(str(fd), pass_fds=(fd,))["error"] == "NotASocket"
    closed = take("99")
    assert closed["error"] == "BadDescriptor"
    assert "descriptor 99 (fd99) is not open: it was not passed" in closed["says"]


@pytest.mark.skipif(not shutil.which("spawn-fcgi"), reason="spawn-fcgi is not installed")
def test_the_real_spawn_fcgi(path: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    script = tmp_path / "site"
    script.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/take >{output} 2>&1\n")
    script.chmod(0o755)
    (tmp_path / "take").write_text(TAKE)
    subprocess.run(["spawn-fcgi", "-n", "-s", path, "--", script], check=True, timeout=60)
    assert f'"addresses": ["{path}"]' in output.read_text()


@pytest.mark.skipif(not shutil.which("start_server"), reason="libserver-starter-perl is missing")
def test_the_real_server_starter(path: str, tmp_path: Path) -> None:
    (tmp_path / "take").write_text(TAKE + "sys.stdout.flush()\nimport signal; signal.pause()\n")
    command = ["start_server", f"--path={path}", "--", sys.executable, str(tmp_path / "take")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
        finally:
            process.terminate()
    assert f'"addresses": ["{path}"]' in line
