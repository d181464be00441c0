"""From 0.1.0 to this version: its units are recognised and brought forward, and nothing is lost."""

import base64
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.conftest import build_wheel
from tests.machine.clients import asking
from tests.machine.machine import CHECKOUT, Installation, Machine, wheels

OLD = "4a3be16f2dae6eb8b2db3c452d3efc9adf8f3301"
"""The commit that is 0.1.0."""
KIT = "/opt/kit"
SDACTIVATE = f"{KIT}/bin/sdactivate"
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]
"""
INSTALL = (
    *(SDACTIVATE, "install", "quick", "--group", "www-data"),
    *("--app", "app:application", "--chdir", "/srv/quick"),
)


@pytest.fixture(scope="module")
def old_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of 0.1.0."""
    directory = tmp_path_factory.mktemp("old")
    git = ["git", "-C", str(CHECKOUT), "archive", OLD]
    try:
        made = subprocess.run(git, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the checkout has no history: git fetch --unshallow")
    source = directory / "source"
    source.mkdir()
    subprocess.run(["tar", "-x", "-C", str(source)], check=True, input=made)
    return build_wheel(directory / "made", source)[0]


def _send(machine: Machine, directory: str, *files: Path) -> None:
    """Copy files into a directory of the machine."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            tar.add(file, file.name)
    script = 'mkdir -p "$1"; base64 -d | tar -x -C "$1"'
    text = base64.b64encode(packed.getvalue()).decode()
    machine.run("sh", "-ec", script, "sh", directory, input=text)


def _pip(machine: Machine, *words: str) -> None:
    pip = (f"{KIT}/bin/pip", "install", "--quiet", "--no-index", "--find-links", "/root/new")
    machine.run(*pip, *words)


@pytest.fixture(scope="module")
def upgraded(
    machine: Machine, installation: Installation, fitting_wheel: Path, old_wheel: Path
) -> Machine:
    """A machine with a site that 0.1.0 has installed and serves."""
    _send(machine, "/root/new", *wheels(installation, fitting_wheel).iterdir())
    _send(machine, "/root/old", old_wheel)
    machine.write("/srv/quick/app.py", APPLICATION)
    machine.run("/usr/bin/python3", "-m", "venv", KIT)
    _pip(machine, f"/root/old/{old_wheel.name}")
    machine.run(*INSTALL)
    return machine


def test_brought_forward_under_load(upgraded: Machine, fitting_wheel: Path) -> None:
    machine = upgraded
    written = machine.read("/etc/systemd/system/quick.service")
    with asking(machine, ("http", "/run/quick.sock"), clients=8, pause=0.02) as asked:
        _pip(machine, "--force-reinstall", f"/root/new/{fitting_wheel.name}")
        # The old process serves on, and starts again with the new code and the units as they were
        machine.run("systemctl", "restart", "quick.service")
        assert machine.run("systemctl", "is-active", "quick.service").stdout == "active\n"
        shown = machine.run(*INSTALL, "--dry-run").stdout
        assert "--- /etc/systemd/system/quick.service" in shown
        assert machine.read("/etc/systemd/system/quick.service") == written
        machine.run(*INSTALL)
        assert machine.read("/etc/systemd/system/quick.service") != written
        assert machine.run(*INSTALL, "--dry-run").stdout == ""
    (found,) = asked.values()
    assert found["requests"] > 100
    assert found["failed"] == 0, found
    findings = machine.run(SDACTIVATE, "doctor", "quick", "--format", "json", check=False).stdout
    assert json.loads(findings) == []


def test_what_it_installed_is_removed_whole(upgraded: Machine) -> None:
    upgraded.run(SDACTIVATE, "uninstall", "quick")
    script = "find /etc/systemd /var/lib/sdactivate -name 'quick*'"
    assert upgraded.run("sh", "-c", script).stdout == ""
