"""Listening sockets as the kernel lists them."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.access import who, who_report
from sdactivate.access.sock_diag import behind, messages, parse_listener


def test_a_listening_socket_is_found_behind_its_file_with_its_queue(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen(5)
        client.connect(path)
        found = behind(path)
    assert found is not None
    assert (found.name, found.waiting, found.backlog) == (path, 1, 5)


@pytest.mark.parametrize("way", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_socket_that_was_shut_down_is_seen(way: int, tmp_path: Path) -> None:
    """It listens as before, in every other respect."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(5)
        found = behind(path)
        assert found is not None
        assert found.damage == ""
        server.shutdown(way)
        found = behind(path)
    assert found is not None
    assert "shutdown(2)" in found.damage


def test_a_backlog_of_nothing_is_seen_and_said(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        told = who.report(path, [])
    assert "listening, 0 of 0 waiting; its backlog is 0" in who_report.as_text(told)
    assert "systemctl restart" in who_report.as_text(told)
    assert "listen(2)" in who_report.as_json(told)["damage"]


def test_a_file_made_anew_has_nothing_behind_it(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
        server.bind(path)
        server.listen(5)
        os.unlink(path)
        assert behind(path) is None
        other.bind(path)
        assert behind(path) is None


def test_a_socket_is_found_by_whatever_name_its_file_has(tmp_path: Path) -> None:
    """Through links and under a new name; on overlayfs stat(2) has another device."""
    path, link, renamed = (str(tmp_path / name) for name in ("s", "link", "renamed"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(5)
        os.symlink("s", link)
        os.link(path, renamed)
        numbers = [one.number for it in (path, link, renamed) if (one := behind(it))]
        assert numbers == [os.fstat(server.fileno()).st_ino] * 3


def test_an_abstract_address_is_found_by_name() -> None:
    name = f"sdactivate-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen(3)
        found = behind("@" + name)
    assert found is not None
    assert found.backlog == 3
    assert behind("@" + name) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_value_error(raw: bytes) -> None:
    try:
        for _, payload in messages(raw):
            parse_listener(payload)
    except ValueError as error:
        assert str(error)  # noqa: PT017
    with pytest.raises(ValueError, match="cut short"):
        list(messages(raw[:15] or b"\0"))
