"""The settings that systemd reads by section, held against the systemd that runs here."""

import re
import subprocess
from pathlib import Path

import pytest

from sdactivate.doctor import rarer_directives
from sdactivate.doctor.settings_of_units import sections, unread_variables
from sdactivate.systemd.version import host_version
from tests.doctor import broken

SYSTEMD = next(
    (it for it in map(Path, ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")) if it.exists()),
    None,
)


@pytest.mark.skipif(SYSTEMD is None, reason="systemd is not installed")
def test_systemd_reads_the_same_settings_in_the_same_sections() -> None:
    done = subprocess.run(
        [str(SYSTEMD), "--dump-configuration-items"], capture_output=True, text=True, check=True
    )
    theirs: dict[str, set[str]] = {}
    section = ""
    for line in done.stdout.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and section in ("Unit", "Socket", "Service"):
            theirs.setdefault(line.partition("=")[0], set()).add(section)
    ours = {name: set(held) - {"Install"} for name, held in sections().items()}
    assert len(theirs) > 300
    unknown = {it: held for it, held in theirs.items() if held - ours.get(it, set())}
    if host_version() > rarer_directives.NEWEST:
        unknown = {it: held for it, held in unknown.items() if it in ours}
    assert unknown == {}


# What systemd takes as it is written, and is hardly meant: it says nothing of it
SILENT = 'Environment="A=1 B_2=3"'


@pytest.mark.parametrize(
    "setup",
    [it for it in broken.OFFLINE["SDA038"] if it.at != SILENT],
    ids=lambda it: it.at.partition("=")[0],
)
def test_systemd_says_so_of_each_broken_setup(setup: broken.Broken, tmp_path: Path) -> None:
    """And not of its working twin."""
    said = {}
    for name, files in (("broken", broken.units(setup)), ("twin", broken.twin(setup))):
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
        argv = ["systemd-analyze", "verify", "--man=no"]
        try:
            done = subprocess.run(
                [*argv, *(str(tmp_path / name / file) for file in files)],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            pytest.skip("systemd-analyze is not installed")
        lines = [it for it in done.stderr.splitlines() if str(tmp_path) in it]
        said[name] = [it for it in lines if re.search("gnoring|not absolute", it)]
    assert said["broken"]
    assert said["twin"] == []


def test_words_that_are_no_assignments() -> None:
    assert unread_variables(["A=1", "b", "_C=", "1D=2", "%i=3", "E"]) == ["b", "1D=2", "E"]
