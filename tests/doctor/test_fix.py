"""--fix: what is shown, what is asked, and what is written."""

import os
import pty
import sys
from pathlib import Path

import pytest

from sdactivate.doctor.finding import Advice, Command, Finding, Fix, Lines
from sdactivate.doctor.fix import apply, asker, drop_in
from sdactivate.doctor.rules import BY_ID
from sdactivate.errors import Error


def finding(fix: Fix) -> Finding:
    return Finding(BY_ID["SDA015"], "web.socket", "", 0, "", "because", fix)


def test_only_what_is_agreed_to_is_run(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fixes = [Command(("touch", str(path)), safe=True) for path in (first, second)]
    answers = iter([False, True])
    assert apply([finding(it) for it in fixes], lambda _: next(answers)) == 1
    assert not first.exists()
    assert second.exists()


def test_what_is_not_safe_is_said_and_never_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(question: str) -> bool:
        raise AssertionError(question)

    fixes: list[Fix] = [
        Command(("touch", str(tmp_path / "no"))),
        Lines("web.socket", "Socket", ("SocketMode=0660",)),
        Advice("move it"),
    ]
    assert apply([finding(it) for it in fixes], ask, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("left to you") == 3


def test_one_fix_for_several_findings_is_applied_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fix = Command(("sh", "-c", f"echo once >>{log}"), safe=True)
    assert apply([finding(fix), finding(fix)], lambda _: True) == 1
    assert log.read_text() == "once\n"


def test_a_command_that_fails_is_an_error_with_its_own_words() -> None:
    fix = Command(("sh", "-c", "echo too bad >&2; exit 3"), safe=True)
    with pytest.raises(Error, match="too bad"):
        apply([finding(fix)], lambda _: True)
    with pytest.raises(Error, match="no-such-program isn't installed here"):
        apply([finding(Command(("no-such-program", "-x"), safe=True))], lambda _: True)


def test_a_drop_in_keeps_what_it_has(tmp_path: Path) -> None:
    fix = Lines("web.socket", "Socket", ("Backlog=4096",), safe=True)
    path, old, new = drop_in(fix, tmp_path)
    assert (path, old) == (tmp_path / "web.socket.d" / "zz-sdactivate-doctor.conf", "")
    path.parent.mkdir()
    path.write_text(new)
    _, old, both = drop_in(fix._replace(lines=("FlushPending=no",)), tmp_path)
    assert old == new
    assert both.startswith(new)
    assert both.endswith("[Socket]\nFlushPending=no\n")


def test_lines_that_a_later_file_overrides_are_not_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fix = Lines("web.socket", "Socket", ("Backlog=4096",), safe=True)
    path, _, new = drop_in(fix, tmp_path)
    path.parent.mkdir()
    path.write_text(new)
    assert apply([finding(fix)], lambda _: True, tmp_path) == 0
    assert f"{path} has it, but a later file differs" in capsys.readouterr().err
    assert path.read_text() == new


_EOF = "\x04"


@pytest.mark.parametrize(
    ("typed", "answer"), [("y\n", True), ("\n", False), ("nonsense\n", False), (_EOF, False)]
)
def test_a_terminal_is_asked(
    typed: str,
    answer: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The question is talk: standard output is the report's."""
    leader, follower = pty.openpty()
    with open(follower) as terminal, open(leader, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        keyboard.write(typed.encode())
        assert asker(yes=False)("write it?") is answer
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "write it? [y/N] ")


def test_without_a_terminal_the_answer_is_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert asker(yes=False)("write it?") is False
        assert "nothing is changed without --yes" in capsys.readouterr().err
        assert asker(yes=True)("write it?") is True
