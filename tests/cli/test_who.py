"""sdactivate who, as a command."""

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from sdactivate.cli import main

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="looks into a directory of root's")


@as_root
def test_exit_codes_tell_scripts_whether_somebody_can_connect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert main(["who", path, "--as", "root"]) == 0
        assert main(["who", path, "--as", "nobody"]) == 1
        assert main(["who", path, "--as", "no-such-user"]) == 2
        capsys.readouterr()
        assert main(["who", path, "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)[0]
    assert report["address"] == path
    assert report["listening"] is True
    assert report["way"][-1]["kind"] == "socket"
    assert next(it for it in report["accounts"] if it["name"] == "root")["allowed"] is True
    assert any(os.getpid() in team["pids"] for team in report["processes"])


@as_root
def test_a_proof_that_contradicts_its_verdict_is_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert main(["who", path, "--as", "root", "--prove"]) == 0
        # what SELinux may say of it, which not every kernel has
        monkeypatch.setattr("sdactivate.access.who.prove", lambda *_: errno.EACCES)
        assert main(["who", path, "--as", "root", "--prove"]) == 1


def test_what_is_no_socket_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (tmp_path, "a directory, and who can reach what is in it"),
        (tmp_path / "pipe", "nothing listens here, not a socket but a fifo"),
    ):
        assert main(["who", str(path), "--as", "root"]) == 0
        assert capsys.readouterr().out.startswith(f"{path}: {what}\n")


def test_a_name_that_is_none_is_misuse_with_what_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["who", "./s"]) == 2
    assert f"the socket's absolute path: {tmp_path}/s" in capsys.readouterr().err
    assert main(["who", "mysite.service"]) == 2
    assert "give the name of a socket unit" in capsys.readouterr().err
