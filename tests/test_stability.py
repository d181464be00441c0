"""docs/stability.md: what it promises is there, and nothing goes without a word."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import sdactivate
from sdactivate import cli
from tests.stable_names import HERE, names

RELEASED = sorted(HERE.glob("[0-9]*.txt"))
NEXT = HERE / "next.txt"


def test_there_are_names_of_a_release() -> None:
    assert [path.name for path in RELEASED] == ["0.1.0.txt", "0.2.0.txt"]


@pytest.mark.parametrize("release", RELEASED, ids=lambda path: path.stem)
def test_what_a_release_had_is_still_there(release: Path) -> None:
    gone = set(release.read_text().splitlines()) - set(names())
    assert not gone, "docs/stability.md says how a name is deprecated, and when it may go"


def test_the_names_of_today_are_written_down() -> None:
    assert names() == NEXT.read_text().splitlines(), (
        "python -m tests.stable_names > tests/stable_names/next.txt; look at what that removes"
    )


@pytest.mark.parametrize(
    ("code", "argv"),
    [
        (0, ["gen", "mysite", "--group", "www-data"]),
        (1, ["doctor", "--offline", "{unit}"]),
        (2, ["gen", "--no-such-option"]),
        (2, []),
    ],
    ids=["done", "wrong", "option", "nothing"],
)
def test_exit_codes(code: int, argv: list[str], tmp_path: Path) -> None:
    unit = tmp_path / "mysite.socket"
    unit.write_text("[Socket]\nListenStream=/run/mysite.sock\n")  # mode 0666: SDA001
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as talk:
        assert cli.main([word.format(unit=unit) for word in argv]) == code
    assert bool(output.getvalue()) is (code != 2)
    assert bool(talk.getvalue()) is (code == 2)


def test_the_changelog_is_in_the_form_of_keep_a_changelog() -> None:
    text = (HERE.parent.parent / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", one) for one in versions[1:])
    assert versions[1].startswith(f"{sdactivate.__version__} - ")
    order = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.*)", section, re.MULTILINE)
        assert kinds == [kind for kind in order if kind in kinds]
