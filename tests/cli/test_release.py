"""Words that `release`, `rollback` and `releases` can't take, and what they say of them."""

import os
from pathlib import Path

import pytest

from sdactivate.cli import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mysite.service", "."], "a site is named without .service; did you mean mysite?"),
        (["my\\x2dsite", "."], "a site with releases can't have '\\' in its name"),
        (
            ["mysite", "nowhere.tar"],
            "SOURCE 'nowhere.tar': no such file or directory; give a directory, a tar file",
        ),
        (["mysite", ".", "--keep", "0"], "--keep '0' is not a whole number of at least 1"),
        (["mysite", ".", "--keep", "٣"], "--keep '٣' is not a whole number of at least 1"),
        (["mysite", ".", "--build-env", "X"], "--build-env 'X': a variable is NAME=VALUE"),
        (["mysite", ".", "--python", "python3"], "--python 'python3' is not an absolute path"),
        (["mysite", ".", "--find-links", "none"], "--find-links 'none' is not a directory"),
        (["mysite", ".", "--find-links", "a b"], "a b': remove ':', quotes or spaces"),
        (["mysite", ".", "--no-index"], "--no-index needs --find-links DIR"),
        (["mysite", ".", "--ref", "a\nb"], "--ref 'a\\nb': write at most 200"),
        (["mysite", ".", "--keeep", "3"], "--keeep: there is no such option; did you mean --keep?"),
    ],
)
def test_misuse_is_told(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a b").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["release", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_terminal_is_no_tar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leader, follower = os.openpty()
    with open(follower) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert main(["release", "mysite", "-"]) == 2
    os.close(leader)
    assert "SOURCE -: standard input is a terminal" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["rollback", "releases"])
def test_a_site_without_releases(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    if verb == "rollback" and os.geteuid():
        pytest.skip("only root can go back")
    assert main([verb, "no-such-site"]) == 1
    assert "no-such-site has no releases in /srv/no-such-site" in capsys.readouterr().err
