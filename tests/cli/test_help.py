"""`--help`: what most sites need on one screen, the rest by topic, and what one kind reads."""

import argparse
import re
from importlib import import_module

import pytest

from sdactivate.cli import VERBS, main, parser
from sdactivate.generate.kinds import KINDS

LONG = [verb for verb in VERBS if hasattr(import_module(f"sdactivate.cli.{verb}"), "BRIEF")]


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def options_in(text: str) -> set[str]:
    return set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.MULTILINE))


def long_options(verb: str) -> set[str]:
    sub = parser([verb]).verbs[verb]
    return {name for name in sub._option_string_actions if name.startswith("--")}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_is_a_screen(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, verb, "--help")
    assert len(text.splitlines()) <= (40 if verb in LONG else 60)
    assert shown(capsys, verb, "-h") == text


@pytest.mark.parametrize("verb", LONG)
def test_the_short_help_names_options_that_exist_a_line_each(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, verb, "--help")
    section = text.partition("what most sites need:\n")[2].partition("\n\n")[0]
    brief = import_module(f"sdactivate.cli.{verb}").BRIEF
    entries = [line for line in section.splitlines() if not line.startswith(" " * 20)]
    assert len(entries) == len(brief)
    assert options_in(text) <= long_options(verb)
    assert "--help-all" in options_in(text)


@pytest.mark.parametrize("verb", LONG)
def test_all_options_are_one_word_away(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert options_in(shown(capsys, verb, "--help-all")) == long_options(verb)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kinds_help_shows_what_it_reads(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = KINDS[kind]
    text = shown(capsys, "gen", "mysite", "--kind", kind, "--help")
    assert f"--kind {kind}: {row.summary}" in text
    assert shown(capsys, "gen", f"--kind={kind}", "-h") == text
    own = {f"--{option.name}" for option in row.options}
    read = {f"--{name}" for name in row.reads or ()}
    assert own | read <= options_in(text)
    rest = options_in(text) - own - read
    if row.reads is not None:
        assert rest == {
            *("--from", "--out", "--force", "--systemd", "--user-manager", "--no-comments"),
        }


def test_a_kind_that_is_none_does_not_hide_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert "what most sites need" in shown(capsys, "gen", "--help", "--kind", "nginxx")


def test_without_a_verb_each_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [verb for verb in VERBS if f"\n    {verb} " in err] == list(VERBS)


def test_brief_lines_do_not_reach_the_manual_pages() -> None:
    """The parser is shared with them; only a help that is printed is shortened."""
    (gen,) = [
        action
        for action in parser(["gen"]).verbs["gen"]._actions
        if isinstance(action, argparse._StoreAction) and action.dest == "kind"
    ]
    assert "the socket unit" in (gen.help or "")
