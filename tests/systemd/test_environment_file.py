"""Files of EnvironmentFile= are read as systemd reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.systemd.environment_file import parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\nB=two words  \n", {"A": "1", "B": "two words"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("# A=1\n; B=2\n\n C = 3\n", {"C": "3"}),
        ("# a comment \\\nA=1\nB=2", {"B": "2"}),
        ('A="one two"\nB=\'it\\n"s\'\n', {"A": "one two", "B": 'it\\n"s'}),
        ('A="a\\"b\\\\c\\$d\\e"', {"A": 'a"b\\c$d\\e'}),
        ('A="one\ntwo"\nB=1', {"A": "one\ntwo", "B": "1"}),
        ("A=one\\\ntwo\nB=1", {"A": "onetwo", "B": "1"}),
        ("A=a\\b", {"A": "ab"}),
        ("A=it's\nB=1", {"A": "it's", "B": "1"}),
        ("A=\nB=", {"A": "", "B": ""}),
        ("A='x'y'z'", {"A": "xy'z'"}),
        ("export A=1\n1A=2\nno line\n=x\nB=3", {"B": "3"}),
        ("A=1 # not a comment", {"A": "1 # not a comment"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("", {}),
    ],
)
def test_what_a_file_sets(text: str, found: dict[str, str]) -> None:
    assert parse(text) == found


@given(st.text("AB=\"'\\# \n;$", max_size=40))
def test_any_text_is_read(text: str) -> None:
    assert all(name.isidentifier() for name in parse(text))
