"""Unit files as systemd reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.systemd.unitfile import Unit, parse, reads_alike, split

# What unit files are made of, so that odd combinations of it come up
TEXT = st.lists(
    st.sampled_from(
        ["[Socket]", "[Service]", "[", "]", "A", "B=", "=", "x", " ", "\t", "\\", "\n", "\n", "#",
         ";", '"', "'", "\\\n", "ListenStream=", "ä", "\r\n", "%",
         "# sdactivate: ignore=SDA001 why"]
    )
).map("".join)  # fmt: skip


def unit(text: str, name: str = "web.service") -> Unit:
    return Unit(name, [parse(text, "f")], ["f"])


@pytest.mark.parametrize(
    ("other", "is_alike"),
    [
        ("# why\n[Socket]\nBacklog=9\n\n; more\nA=b", True),
        ("[Socket]\nA=b\nBacklog=9", False),  # the order counts: a later line may undo an earlier
        ("[Socket]\nBacklog=8\nA=b", False),
        ("[Service]\nBacklog=9\nA=b", False),
        ("[Socket]\nBacklog=9", False),
        ("", False),
    ],
)
def test_comments_do_not_count(other: str, is_alike: bool) -> None:
    assert reads_alike("[Socket]\nBacklog=9\nA=b\n", other) == is_alike


def test_an_assignment_has_its_section_and_line() -> None:
    text = "\n[Unit]\nDescription = a b \n\n[Service]\nUser=x\n"
    assert [tuple(entry) for entry in parse(text, "f").entries] == [
        ("Unit", "Description", "a b", "f", 3),
        ("Service", "User", "x", "f", 6),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=one \\\ntwo", "one  two"),
        ("A=one\\\n# not this\n; nor this\ntwo", "one two"),
        ("A=one\\", "one"),
        ("A=one\\\\\nB=2", "one\\\\"),
        ("  A  =  one", "one"),
        ("A=one=two", "one=two"),
        ("A=one # no comment", "one # no comment"),
        ("A=one\r\nB=2\r\n", "one"),
        ("A=one\\\r\ntwo", "one two"),
        ("A=one\rB=2", "one"),
        ("A=one\0B=2", "one"),
        ("A=1\nA=2", "2"),
        ("A=1\nA=", ""),
    ],
)
def test_lines_are_continued_and_trimmed_as_systemd_does(text: str, value: str) -> None:
    assert unit(f"[Service]\n{text}").value("A") == value


def test_an_empty_assignment_begins_a_list_anew() -> None:
    text = "[Service]\nExecStart=a\nExecStart=\nExecStart=b\nExecStart=c\n"
    assert [entry.value for entry in unit(text).entries_of("ExecStart")] == ["b", "c"]


def test_other_sections_keys_don_t_count() -> None:
    assert unit("[Unit]\nUser=a\n[Service]\n[X-Mine]\nUser=b").entry("User") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("\"a b\" 'c d'", ["a b", "c d"]),
        (r"a\x20b \101 \t", ["a b", "A", "\t"]),
        ('a"b c"', ['a"b', 'c"']),  # a quote in a word is a letter
        ("'a", ["a"]),
        ('""', [""]),
        (r"\q", [r"\q"]),
        ("", []),
    ],
)
def test_words_are_split_and_unquoted(value: str, words: list[str]) -> None:
    assert split(value) == words


def test_comments_silence_rules_and_say_why() -> None:
    text = "[Socket]\n# sdactivate: ignore=SDA001,SDA006 nobody else is here\n"
    assert [tuple(it) for it in parse(text, "f").ignores] == [
        ("SDA001", "nobody else is here", "f", 2),
        ("SDA006", "nobody else is here", "f", 2),
    ]


@given(TEXT | st.text())
def test_any_text_is_read_and_no_line_is_invented(text: str) -> None:
    for entry in parse(text, "f").entries:
        assert 1 <= entry.line <= text.count("\n") + 1
        assert entry.key in text
        assert "\n" not in entry.value
        assert entry.value == entry.value.strip(" \t\r")


@given(st.text())
def test_splitting_never_fails(value: str) -> None:
    assert all("\0" not in word or "\0" in value for word in split(value))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))))
def test_what_is_quoted_comes_back(words: list[str]) -> None:
    quoted = ['"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words]
    assert split(" ".join(quoted)) == words
