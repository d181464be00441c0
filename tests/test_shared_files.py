"""Completions and manual pages: made from the parser, right for their readers."""

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from sdactivate import cli

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", CHECKOUT / "hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(hook: ModuleType) -> dict[str, str]:
    made: dict[str, str] = hook.shared_files()
    return made


def test_every_verb_has_a_page(files: dict[str, str]) -> None:
    pages = {place for place in files if place.endswith(".1")}
    names = ["sdactivate", *(f"sdactivate-{verb}" for verb in cli.VERBS)]
    assert pages == {f"share/man/man1/{name}.1" for name in names}
    assert "\\fB\\-\\-group\\fR GROUP" in files["share/man/man1/sdactivate-gen.1"]


@pytest.mark.skipif(not shutil.which("man"), reason="man reads the pages")
def test_man_reads_the_pages_without_a_warning(files: dict[str, str], tmp_path: Path) -> None:
    for place, text in files.items():
        if not place.endswith(".1"):
            continue
        (tmp_path / "page.1").write_text(text)
        run = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", str(tmp_path / "page.1")],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "MANPAGER": "cat", "MANWIDTH": "100", "LANG": "C.UTF-8"},
        )
        assert (run.returncode, run.stderr) == (0, ""), place
        assert "SYNOPSIS" in run.stdout


def test_bash_completes_options(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(files["share/bash-completion/completions/sdactivate"])
    script = """
        source "$1"
        COMP_WORDS=(sdactivate gen mysite --cred); COMP_CWORD=3
        _shtab_sdactivate sdactivate --cred mysite
        echo "${COMPREPLY[@]}"
    """
    run = subprocess.run(
        ["bash", "-c", script, "bash", str(tmp_path / "completion")], capture_output=True, text=True
    )
    assert (run.stdout, run.stderr) == ("--credential\n", "")


def test_roff_means_nothing_else(hook: ModuleType) -> None:
    assert hook._roff("a\\n -x\n.TH 'q'") == "a\\en \\-x\n\\&.TH \\(aqq\\(aq"
