"""Processes as they are, read from a real /proc."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.access.connect import reached
from sdactivate.access.path_walk import walk
from sdactivate.access.permissions import Range, judge
from sdactivate.access.processes import Process, parse_ranges, parse_status, running

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users, which root only may")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process of a user, a group and two supplementary groups that have no names."""
    process = subprocess.Popen(
        ["sleep", "600"], user=20001, group=20002, extra_groups=[20003, 20004]
    )
    yield process
    process.kill()
    process.wait()


def _find(pid: int) -> Process:
    return next(process for process in running() if process.pid == pid)


@as_root
def test_a_running_process_has_the_groups_it_was_started_with(
    child: subprocess.Popen[bytes],
) -> None:
    found = _find(child.pid)
    assert found.name == "sleep"
    assert (found.identity.uid, found.identity.gid) == (20001, 20002)
    assert found.identity.groups == {20003, 20004}
    assert not found.identity.override
    assert found.root == "/"


@as_root
def test_a_mount_namespace_of_its_own_is_another_view() -> None:
    argv = [
        "unshare",
        "--mount",
        "--propagation=unchanged",
        "sh",
        "-c",
        "echo ready; exec sleep 600",
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert _find(process.pid).root == f"/proc/{process.pid}/root"
        finally:
            process.kill()


_ROOT_INSIDE = """
import socket, sys
print(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]), flush=True); sys.stdin.read()
"""


@as_root
@pytest.mark.parametrize(("uid", "mode"), [(0, 0o600), (20001, 0o000), (20001, 0o600), (20002, 0)])
def test_root_of_a_user_namespace_is_judged_as_the_kernel_does(uid: int, mode: int) -> None:
    """It has every capability, over what is owned by ids that its namespace knows."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        socket.socket(socket.AF_UNIX) as server,
    ):
        os.chmod(directory, 0o755)
        server.bind(path := f"{directory}/s")
        server.listen()
        os.chown(path, uid, uid)
        os.chmod(path, mode)
        argv = ["setpriv", "--reuid=20001", "--regid=20001", "--clear-groups"]
        argv += ["unshare", "--user", "--map-root-user", "/usr/bin/python3", "-c", _ROOT_INSIDE]
        pipe = subprocess.PIPE
        with subprocess.Popen([*argv, path], stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            error = int(process.stdout.readline())
            identity = _find(process.pid).identity
            process.communicate("")
        assert identity.override
        assert identity.uids == (Range(20001, 1),)
        assert judge(walk(path), identity).allowed == reached(error)


def test_kernel_threads_and_zombies_are_left_out() -> None:
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    pids = {process.pid for process in running()}
    zombie.wait()
    assert os.getpid() in pids
    assert zombie.pid not in pids


def test_the_ids_of_a_user_namespace_are_ranges_and_the_first_one_knows_all() -> None:
    assert parse_ranges("         0          0 4294967295\n") is None
    assert parse_ranges("0 100000 65536\n70000 1000 1\n") == (Range(100000, 65536), Range(1000, 1))


@as_root
def test_what_counts_are_the_ids_for_files() -> None:
    """setfsuid(2): still root otherwise, but to a file somebody else, and without its powers."""
    script = "import ctypes, sys; libc = ctypes.CDLL(None); libc.setfsgid(20002); "
    script += "libc.setfsuid(20001); print(flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        identity = _find(process.pid).identity
        process.communicate(b"")
    assert (identity.uid, identity.gid, identity.override) == (20001, 20002, False)


@given(st.text())
def test_any_text_is_a_status_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        parse_status(text)
