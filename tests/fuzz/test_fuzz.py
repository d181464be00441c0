"""The fuzz targets: all that once broke a parser, and a short search for what still does."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.__main__ import main
from fuzz.targets import TARGETS, cut
from tests.conftest import CHECKOUT

CORPUS = CHECKOUT / "fuzz" / "corpus"
SEEDS = sorted(CORPUS.glob("*/*"))
SECONDS = 4
# Of a run: a target that does nothing would be called often and reach little
BROKEN = """
import sys
from fuzz import search, targets

def broken(pieces):
    assert not b"".join(pieces).startswith(b"7:"), "found"

search.FOUND = search.Path(sys.argv[1])
targets.TARGETS["scgi"] = broken
search.search("scgi", 120, sys.argv[1])
"""

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has wheels for CPython on x86-64 Linux with glibc only",
)


def test_every_parser_has_seeds() -> None:
    assert {path.parent.name for path in SEEDS} == TARGETS.keys()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_the_corpus(seed: Path) -> None:
    TARGETS[seed.parent.name](cut(seed.read_bytes()))


@needs_atheris
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_search_finds_nothing(name: str) -> None:
    done = run("-m", "fuzz", name, "--seconds", str(SECONDS))
    assert done.returncode == 0, done.stderr
    (count,) = (
        int(line.split()[1])
        for line in done.stderr.splitlines()
        if line.startswith("stat::number_of_executed_units:")
    )
    assert count > len(list((CORPUS / name).iterdir()))


@needs_atheris
def test_a_search_finds_what_there_is(tmp_path: Path) -> None:
    """A target that breaks where a netstring begins as no seed does."""
    assert not any(cut(path.read_bytes())[0].startswith(b"7:") for path in SEEDS)
    done = run("-c", BROKEN, str(tmp_path))
    assert done.returncode == 77, done.stderr
    (found,) = tmp_path.glob("scgi-crash-*")
    assert found.read_bytes()[1:].startswith(b"7:")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )


def test_an_input_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[bytes]] = []
    monkeypatch.setitem(TARGETS, "scgi", lambda pieces: seen.append(list(pieces)))
    (tmp_path / "input").write_bytes(b"\x02abcde")
    assert main(["scgi", "--replay", str(tmp_path / "input")]) == 0
    assert seen == [[b"ab", b"cd", b"e"]]


@pytest.mark.parametrize("words", [["nonsense"], ["--replay", "x"]])
def test_misuse(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    assert "parser" in capsys.readouterr().err
