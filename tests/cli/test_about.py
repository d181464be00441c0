"""`sdactivate --version --verbose`: what a report of a fault needs, and nothing private."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.cli import main


def typed(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sdactivate", *argv]
    env = {**os.environ, **environ}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_a_version_for_each_part() -> None:
    run = typed("--version", "--verbose")
    assert run.returncode == 0
    first, *others = run.stdout.splitlines()
    assert first == typed("--version").stdout.rstrip()
    said = dict(line.split(": ", 1) for line in others)
    assert said["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert said["kernel"].startswith(f"Linux {os.uname().release}")
    assert said["Jinja2"][0].isdigit()
    for front, program in (("nginx", "nginx"), ("HAProxy", "haproxy"), ("Caddy", "caddy")):
        assert (said[front] == "none") == (shutil.which(program) is None)


def test_nothing_private(tmp_path: Path) -> None:
    said = typed("--version", "--verbose").stdout
    for private in (socket.gethostname(), getpass.getuser(), str(Path.home()), sys.prefix):
        assert not re.search(rf"(?<![\w.]){re.escape(private)}(?![\w.])", said), private


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    said = typed("--version", "--verbose", PATH=str(tmp_path)).stdout
    for part in ("systemd", "nginx", "Apache", "lighttpd", "Caddy", "HAProxy", "Cherokee"):
        assert f"\n{part}: none\n" in said


def test_verbose_belongs_to_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--verbose", "gen", "mysite"]) == 2
    assert "--verbose goes with --version only" in capsys.readouterr().err
    assert main(["--verbose", "--version"]) == 0
    assert "\nPython: " in capsys.readouterr().out
