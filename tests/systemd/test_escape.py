import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.systemd import escape, names, version


@pytest.mark.parametrize(
    "char", ["\n", "\r", "\t", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\ufffe"]
)
def test_a_control_character_is_refused_everywhere(char: str) -> None:
    for place in (escape.plain, escape.word, escape.one_line, escape.printable):
        with pytest.raises(UsageError, match="a unit file can't contain"):
            place(f"a{char}b")


def test_what_is_not_utf8_is_refused() -> None:
    with pytest.raises(UsageError):
        escape.word("\udcff")


@pytest.mark.parametrize("text", [" a", "a ", "a\\"])
def test_a_plain_value_keeps_its_ends(text: str) -> None:
    with pytest.raises(UsageError):
        escape.plain(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", '""'),
        ("a", "a"),
        ("A=b", "A=b"),
        ("a b", '"a b"'),
        ("50%", '"50%%"'),
        ('say "yes"', r'"say \"yes\""'),
        ("back\\", r'"back\\"'),
        (";", '";"'),
        ("#", '"#"'),
        ("ä", '"ä"'),
    ],
)
def test_words(text: str, written: str) -> None:
    assert escape.word(text) == written


def test_a_plain_value_doubles_specifiers_and_knows_no_quotes() -> None:
    assert escape.plain('/srv/50% of "it"') == '/srv/50%% of "it"'


def test_a_command_is_its_arguments() -> None:
    line = escape.command(["/opt/my env/bin/python", "-c", "$HOME ${X} $", ";", "%h"])
    assert line == '"/opt/my env/bin/python" -c "$$HOME $${X} $$" ";" "%%h"'


@pytest.mark.parametrize("path", ["python3", "", "/a'b", '/a"b', "/a\\b", "/a$b", "-/bin/sh"])
def test_a_program_that_ExecStart_cannot_name_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        escape.program(path)


@pytest.mark.parametrize("name", ["mysite", "my-site_2.example", "7", "_x", "my\\x20site"])
def test_names(name: str) -> None:
    assert names.unit_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "-x",
        ".x",
        "a b",
        "a/b",
        "a@b",
        "a:b",
        "a\nb",
        "a\\b",
        "a\\x2",
        "%i",
        "ä",
        "$x",
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="a name consists of"):
        names.unit_name(name)


def test_a_site_is_not_called_like_a_unit() -> None:
    with pytest.raises(
        UsageError, match=r"a site is named without \.socket; did you mean my\.site"
    ):
        names.unit_name("my.site.socket")


def test_a_refused_name_comes_with_what_systemd_would_write() -> None:
    with pytest.raises(UsageError, match=r"systemd would write it my\\x20site$"):
        names.unit_name("my site")


def test_a_long_name_is_refused() -> None:
    with pytest.raises(UsageError, match="at most"):
        names.unit_name("a" * 200)


@pytest.mark.skipif(not shutil.which("systemd-escape"), reason="needs systemd-escape")
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_escapes_as_systemd_does(text: str) -> None:
    if text.startswith("."):
        text = "x" + text
    told = subprocess.run(["systemd-escape", "--", text], capture_output=True, check=True).stdout
    assert names.escape(text).encode() == told.removesuffix(b"\n")


@pytest.mark.parametrize(
    "text", ["root", "www-data", "_apt", "a.b", "me@example.org", "0", "1000", "x$"]
)
def test_accounts(text: str) -> None:
    assert names.account(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "a b", "-x", "a:b", "a/b", "%u", "1a", "007", "65535", "4294967295", "9" * 12, "ä", "²"],
)
def test_what_is_no_account(text: str) -> None:
    with pytest.raises(UsageError):
        names.account(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("252", 252), ("v257", 257), ("systemd 252 (252.39-1~deb12u2)\n+PAM", 252), ("260~rc1", 260)],
)
def test_versions(text: str, number: int) -> None:
    assert version.parse_version(text) == number


@pytest.mark.parametrize("text", ["", "new", "25233", "239", "-1", "252x"[3:]])
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(UsageError):
        version.parse_version(text)


def test_the_version_of_a_host_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert version.host_version() == version.USUAL
