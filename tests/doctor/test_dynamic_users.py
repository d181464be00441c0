"""What gives a dynamic user a name: by what a system has of libnss-systemd and nsswitch.conf."""

import subprocess
from pathlib import Path

import pytest

from sdactivate.doctor.checks.dynamic_users import named
from sdactivate.doctor.finding import Command

LIBRARY = "usr/lib/x86_64-linux-gnu/libnss_systemd.so.2"
FILES = "passwd:         files\ngroup:          files\nhosts: files dns\n"


def system(root: Path, nsswitch: str, library: str = "") -> Path:
    (root / "etc").mkdir()
    (root / "etc/nsswitch.conf").write_text(nsswitch)
    if library:
        (root / library).parent.mkdir(parents=True)
        (root / library).touch()
    return root


def test_where_the_library_is_missing_it_is_to_be_installed(tmp_path: Path) -> None:
    assert str(named(system(tmp_path, FILES))) == "apt-get install libnss-systemd"


@pytest.mark.parametrize("library", [LIBRARY, "usr/lib64/libnss_systemd.so.2"])
def test_where_nobody_asks_it_the_command_makes_nss_ask(library: str, tmp_path: Path) -> None:
    fix = named(system(tmp_path, FILES, library))
    assert isinstance(fix, Command)
    assert not fix.safe
    *argv, file = fix.argv
    assert file == "/etc/nsswitch.conf"
    subprocess.run([*argv, tmp_path / "etc/nsswitch.conf"], check=True)
    assert (tmp_path / "etc/nsswitch.conf").read_text() == (
        "passwd:         files systemd\ngroup:          files systemd\nhosts: files dns\n"
    )
    # once more it would be there twice
    assert not isinstance(named(tmp_path), Command)


@pytest.mark.parametrize("text", ["", "passwd: files\n", FILES.replace("files\ngroup", "db [x]\n")])
def test_what_it_would_not_change_for_certain_is_said(text: str, tmp_path: Path) -> None:
    assert "nsswitch.conf" in str(named(system(tmp_path, text, LIBRARY)))
