"""Completions and manual pages: made from the parser, right for their readers."""

import importlib.util
import os
import pty
import select
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


# Typed, and what the line is after a TAB.
TYPED = {
    "sdactivate unin": "sdactivate uninstall",
    "sdactivate gen mysite --cred": "sdactivate gen mysite --credential",
    "sdactivate gen mysite --kind sys": "sdactivate gen mysite --kind sysusers",
    "sdactivate install mysite --dry": "sdactivate install mysite --dry-run",
}
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {}"),
    "zsh": (["zsh", "-f", "-i"], "fpath=({.parent} $fpath); autoload -U compinit; compinit -u -D"),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes(shell: str, files: dict[str, str], tmp_path: Path) -> None:
    """On a terminal, as one types: what the shell writes after the TAB is the rest of the word."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (place,) = (place for place in files if f"/{shell}" in place)
    (path := tmp_path / Path(place).name).write_text(files[place])
    argv, prepare = SHELLS[shell]
    environ = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "LANG": "C.UTF-8", "HOME": str(tmp_path)}
    for typed, completed in TYPED.items():
        keys = f"{prepare.format(path)}\n{typed}\t\n"
        # What is completed is a command line for this: it says what it got, and ends the shell.
        keys = f'sdactivate() {{ echo "got: sdactivate $*"; exit; }}\n{keys}'
        assert f"got: {completed}" in on_a_terminal(argv, environ, keys)


def on_a_terminal(argv: list[str], environ: dict[str, str], keys: str) -> str:
    """Run a shell on a terminal of its own, type, and return what is on it in the end."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    ) as process:
        os.close(theirs)
        os.write(ours, keys.encode())
        shown = b""
        try:
            while select.select([ours], [], [], 30)[0] and (piece := os.read(ours, 65536)):
                shown += piece
        except OSError:  # EIO: the shell has left the terminal
            pass
        finally:
            os.close(ours)
            process.kill()
    return shown.decode(errors="replace").replace("\r", "")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes(files: dict[str, str], tmp_path: Path) -> None:
    (place,) = (place for place in files if place.endswith(".fish"))
    (path := tmp_path / "sdactivate.fish").write_text(files[place])
    for typed, completed in TYPED.items():
        run = subprocess.run(
            ["fish", "--no-config", "-c", f"source {path}; complete -C '{typed}'"],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
            timeout=60,
        )
        assert run.stderr == ""
        offered = [line.partition("\t")[0] for line in run.stdout.splitlines()]
        # fish 4 also lists what has the letters somewhere; a TAB prefers what begins with them.
        word = typed.rpartition(" ")[2]
        assert [one for one in offered if one.startswith(word)] == [completed.rpartition(" ")[2]]


def test_roff_means_nothing_else(hook: ModuleType) -> None:
    assert hook._roff("a\\n -x\n.TH 'q'") == "a\\en \\-x\n\\&.TH \\(aqq\\(aq"
