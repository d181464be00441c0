"""--fix: what is shown, what is asked, and what is written."""

import os
import pty
import sys
from pathlib import Path

import pytest

from sdactivate.doctor.finding import Advice, Command, Finding, Fix, Lines
from sdactivate.doctor.fix import apply, asker, drop_in
from sdactivate.doctor.rules import BY_ID


def finding(fix: Fix, rule: str = "SDA015", text: str = "") -> Finding:
    return Finding(BY_ID[rule], "web.socket", "", 0, text, "because", fix)


def touch(path: Path) -> Command:
    return Command(("touch", str(path)), safe=True)


def test_only_what_is_agreed_to_is_run(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    found = [finding(touch(path), text=path.name) for path in (first, second)]
    answers = iter([False, True])

    def look() -> list[Finding]:
        return [it for it in found if not (tmp_path / it.text).exists()]

    assert apply(found, lambda _: next(answers), look) == 1
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
    found = [finding(it, text=str(it)) for it in fixes]
    assert apply(found, ask, lambda: found, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err.count("fix it by hand") == 3


def test_a_fix_is_applied_once_whatever_it_has_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that ran is no fix: what is found after it counts."""
    log = tmp_path / "log"
    fix = Command(("sh", "-c", f"echo once >>{log}"), safe=True)
    found = [finding(fix, text="a"), finding(fix, text="b")]
    assert apply(found, lambda _: True, lambda: found) == 0
    assert log.read_text() == "once\n"
    said = capsys.readouterr().err
    assert "SDA015 web.socket: still there: because" in said
    assert "still there, although its fix was applied" in said


def test_what_follows_waits_for_its_cause_and_goes_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done, again = tmp_path / "cause", tmp_path / "effect"
    cause = finding(touch(done), "SDA113")
    effect = finding(touch(again), "SDA110")._replace(because_of=(cause,))

    def look() -> list[Finding]:
        return [] if done.exists() else [cause, effect]

    assert apply([cause, effect], lambda question: False, look) == 0
    said = capsys.readouterr().err
    assert "SDA110 web.socket: not fixed before its cause: SDA113 web.socket" in said
    assert apply([cause, effect], lambda question: True, look) == 2
    assert not again.exists()
    said = capsys.readouterr().err
    assert "SDA113 web.socket: gone, and with it SDA110 web.socket\n" in said


def test_what_outlives_its_cause_is_fixed_after_it(tmp_path: Path) -> None:
    done, again = tmp_path / "cause", tmp_path / "effect"
    cause, effect = finding(touch(done), "SDA110"), finding(touch(again), "SDA109")

    def look() -> list[Finding]:
        here = [] if done.exists() else [cause]
        return here if again.exists() else [*here, effect._replace(because_of=tuple(here))]

    assert apply(look(), lambda question: True, look) == 2
    assert again.exists()


def test_what_a_fix_brings_up_is_said_and_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = finding(touch(tmp_path / "no"), "SDA114")
    assert apply([finding(touch(tmp_path / "a"))], lambda _: True, lambda: [new]) == 1
    assert "new finding, not fixed: SDA114 web.socket: because" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_command_that_fails_is_told_in_its_own_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = [
        finding(Command(("sh", "-c", "echo too bad >&2; exit 3"), safe=True), text="a"),
        finding(Command(("no-such-program", "-x"), safe=True), text="b"),
    ]
    assert apply(found, lambda _: True, lambda: found) == 0
    said = capsys.readouterr().err
    assert "too bad" in said
    assert "no-such-program isn't installed: install it" in said


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
    assert apply([found := finding(fix)], lambda _: True, lambda: [found], tmp_path) == 0
    assert f"{path} has it, but a file that is read later overrides it" in capsys.readouterr().err
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


def test_a_newline_in_a_name_begins_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{tmp_path}/a\nSDA999 web.socket: gone"
    found = [
        finding(Command(("chmod", "o+x", path)), text="a"),
        finding(Command(("true", path), safe=True), text="b"),
    ]
    assert apply(found, lambda _: True, lambda: found) == 0
    said = capsys.readouterr().err
    assert "\\nSDA999 web.socket: gone" in said
    assert "\nSDA999" not in said
