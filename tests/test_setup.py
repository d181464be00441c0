"""What script/setup leaves on the machine: nothing that the tests alone need is enabled."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
TIMER = "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target\n"

pytestmark = pytest.mark.skipif(not shutil.which("systemctl"), reason="there is no systemd")


def enabled(root: Path, *words: str) -> list[str]:
    done = subprocess.run(
        [CHECKOUT / "script" / "enabled", *words],
        env={**os.environ, "ROOT": str(root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def unit(root: Path, name: str) -> None:
    directory = root / "usr/lib/systemd/system"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(TIMER if name.endswith(".timer") else UNIT)
    subprocess.run(["systemctl", f"--root={root}", "-q", "enable", name], check=True, timeout=60)


def test_what_was_enabled_stays_and_what_is_new_does_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    unit(root, "own.service")
    before = tmp_path / "before"
    before.write_text("".join(f"{name}\n" for name in enabled(root, "list")))
    for name in ("apache2.service", "man-db.timer", "systemd-timesyncd.service"):
        unit(root, name)
    said = enabled(root, "restore", str(before))
    assert [line.split()[1] for line in said] == ["apache2.service", "man-db.timer"]
    assert enabled(root, "list") == ["own.service", "systemd-timesyncd.service"]
    assert enabled(root, "restore", str(before)) == []


def test_where_nothing_was_enabled(tmp_path: Path) -> None:
    root, before = tmp_path / "root", tmp_path / "before"
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    before.touch()
    assert enabled(root, "restore", str(before)) == []
    unit(root, "postfix.service")
    enabled(root, "restore", str(before))
    assert enabled(root, "list") == []


def test_what_packages_enabled_before_there_was_a_systemd_stays(tmp_path: Path) -> None:
    root, tools = tmp_path / "root", tmp_path / "bin"
    unit(root, "apt-daily.timer")
    tools.mkdir()
    for name in ("find", "sed", "sort", "sh"):
        (tools / name).symlink_to(shutil.which(name) or "")
    done = subprocess.run(
        [CHECKOUT / "script" / "enabled", "list"],
        env={"ROOT": str(root), "PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("apt-daily.timer\n", "")


def test_what_pip_says_is_in_a_file_and_its_end_is_shown_where_it_fails(tmp_path: Path) -> None:
    """In a copy whose package can't be built: no network is asked for."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("script", "hatch_build.py", "sdactivate"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        whole, there = CHECKOUT / name, copy / name
        shutil.copytree(whole, there, ignore=ignored) if whole.is_dir() else shutil.copy(
            whole, there
        )
    broken = '[build-system]\nrequires = []\nbuild-backend = "nothing"\n[project]\nname = "x"\n'
    (copy / "pyproject.toml").write_text(broken)
    done = subprocess.run(
        [copy / "script" / "setup", "demo"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) <= 30
    assert "all that it said is in build/setup.log" in lines[-1]
    log = (copy / "build" / "setup.log").read_text()
    assert log.splitlines()[-1] in done.stderr
