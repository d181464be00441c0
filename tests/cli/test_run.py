"""sdactivate run: what is read of its command line; tests/machine/test_run.py runs it."""

from pathlib import Path

import pytest

from sdactivate import cli
from sdactivate.cli import main


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["x", "--", "sh", "-c", "y", "--", "z"], ["sh", "-c", "y", "--", "z"]),
        (["x", "--network", "--", "sh", "--", "--x"], ["sh", "--", "--x"]),
        (["--writable", "/a", "x", "--", "sh", "--network"], ["sh", "--network"]),
        (["x", "python", "manage.py", "migrate"], ["python", "manage.py", "migrate"]),
        (["x", "--", "sh", ""], ["sh", ""]),
    ],
)
def test_every_word_of_the_command_is_its_own(words: list[str], command: list[str]) -> None:
    args = cli.parser(["run"]).parse_args(["run", *words])
    assert (args.name, args.command) == ("x", command)


def test_an_option_after_the_command_needs_two_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x", "python", "manage.py", "migrate", "--plan"]) == 2
    said = capsys.readouterr().err
    assert "-- COMMAND..." in said
    assert "--plan: there is no such option" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--writable", "a", "--", "true"], "--writable 'a' is not an absolute path"),
        (["x", "--", ""], "COMMAND '' is empty: name a program"),
    ],
)
def test_what_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_without_systemd_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "x", "--", "true"]) == 1
    assert "systemd does not run here" in capsys.readouterr().err
