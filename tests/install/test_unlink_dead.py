"""What uninstall removes at a socket's path: a socket that no process has bound, and no more."""

import os
import select
import socket
from pathlib import Path

import pytest

from sdactivate.install.manager import unlink_dead


@pytest.fixture
def sock() -> socket.socket:
    return socket.socket(socket.AF_UNIX)


def test_a_socket_that_its_process_has_left_is_removed(sock: socket.socket, tmp_path: Path) -> None:
    with sock:
        sock.bind(str(tmp_path / "s"))
    assert unlink_dead(tmp_path / "s")
    assert not (tmp_path / "s").exists()
    assert not unlink_dead(tmp_path / "s")


@pytest.mark.parametrize("listens", [True, False], ids=["listening", "bound"])
def test_one_that_a_process_has_bound_stays_and_nobody_is_woken(
    sock: socket.socket, listens: bool, tmp_path: Path
) -> None:
    with sock:
        sock.bind(str(tmp_path / "s"))
        if listens:
            sock.listen()
        assert not unlink_dead(tmp_path / "s")
        assert (tmp_path / "s").is_socket()
        assert not listens or select.select([sock], [], [], 0)[0] == []


def test_what_is_not_a_socket_stays(sock: socket.socket, tmp_path: Path) -> None:
    """connect(2) refuses a file as it refuses a socket that is dead: data would have been lost."""
    (tmp_path / "file").write_text("data")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    with sock:
        sock.bind(str(tmp_path / "dead"))
    (tmp_path / "link").symlink_to("dead")
    for name in ("file", "fifo", "directory", "link"):
        assert not unlink_dead(tmp_path / name)
        assert os.path.lexists(tmp_path / name)
    assert (tmp_path / "file").read_text() == "data"
