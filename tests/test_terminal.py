"""What other people wrote steers no terminal, forges no line and turns no text around."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate import cli, log, terminal
from sdactivate.launch import talk

SHOWN = {
    "\x1b]0;owned\x07": r"\x1b]0;owned\x07",
    "\x9b31m": r"\x9b31m",
    "a\rb": r"a\x0db",
    "a\x7f": r"a\x7f",
    "a\u2028b": r"a\u2028b",
    "exe.\u202egpj": r"exe.\u202egpj",
    "\u2066a\u2069": r"\u2066a\u2069",
    "\u200e\u200f\u061c": r"\u200e\u200f\u061c",
    "web\u200b": r"web\u200b",
    "\U000e0041": r"\U000e0041",
    os.fsdecode(b"\xff"): r"\xff",
    "\ud800": r"\ud800",
}
PLAIN = ["/run/mysite.sock", "naïve café", "日本語", "שלום", "🙂", "a\N{NO-BREAK SPACE}b"]


@pytest.mark.parametrize("text", SHOWN)
def test_a_character_that_deceives_is_shown_as_its_escape(text: str) -> None:
    assert terminal.escape(text) == terminal.escape_lines(text) == SHOWN[text]


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_stays(text: str) -> None:
    assert terminal.escape(text) == text


def test_a_newline_ends_a_line_only_where_there_may_be_several() -> None:
    assert terminal.escape("a\nb") == r"a\nb"
    assert terminal.escape_lines("a\nb") == "a\nb"


@given(st.text(st.characters()) | st.binary().map(os.fsdecode))
def test_the_quick_way_for_ordinary_text_lets_nothing_through(text: str) -> None:
    shown = terminal.escape(text)
    assert terminal.escape(shown) == shown
    assert shown == terminal.escape_lines(text).replace("\n", r"\n")
    shown.encode()


def test_every_escaped_character_is_one_that_isprintable_sees() -> None:
    """Else `escape` and `escape_lines` would take a line that has it for an ordinary one."""
    unsafe = re.compile(terminal._ANY)
    found = [chr(code) for code in range(0x110000) if unsafe.match(chr(code))]
    assert not [it for it in found if it.isprintable()]


HOSTILE = "\x1b[2J\u202eevil\nsecond"


def test_the_log_the_launcher_and_the_command_escape_alike(
    capfd: pytest.CaptureFixture[str],
) -> None:
    talk.say(HOSTILE)
    log.say(log.ERROR, HOSTILE)
    code = cli.main(["doctor", "--offline", f"/nowhere/{HOSTILE}"])
    assert code == 1
    said = capfd.readouterr().err
    assert said.count(r"\x1b[2J\u202eevil") == 3
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_explain_shows_a_hostile_unit_escaped(tmp_path: Path) -> None:
    unit = tmp_path / "web.service"
    unit.write_text("[Service]\nExecStart=/bin/true \x1b]0;x\x07 \u202e\n")
    argv = [sys.executable, "-m", "sdactivate", "explain", str(unit)]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert r"ExecStart=/bin/true \x1b]0;x\x07 \u202e" in out
    assert "\x1b" not in out
