"""What was misspelt is answered with the nearest word, in one wording everywhere."""

from pathlib import Path

import pytest

from sdactivate.cli import VERBS, main
from sdactivate.errors import Error
from sdactivate.generate.build import kind_name
from sdactivate.generate.sites_toml import Tables
from sdactivate.settings import resolve
from sdactivate.suggest import meant


def test_the_nearest_or_all() -> None:
    assert meant("grup", ["user", "group"]) == "did you mean group?"
    assert meant("x", ["user", "group"]) == "choose from user, group"
    assert meant("x", ["user", "group"], "see --help") == "see --help"


@pytest.mark.parametrize(
    ("argv", "usage", "said"),
    [
        (["gen", "a", "--gruop", "www-data"], "gen NAME", "--gruop: there is no such option; did"),
        (["gen", "a", "--gruop=www-data"], "gen NAME", "did you mean --group?"),
        (["gen", "a", "--kind", "servce"], "gen NAME", "did you mean service?"),
        (["install", "a", "--chdri", "/srv"], "install NAME", "did you mean --chdir?"),
        (["serve", "a:b", "--thread", "4"], "serve", "did you mean --threads?"),
        (["who", "a", "--formt", "json"], "who", "did you mean --format?"),
        (
            ["who", "a", "--format", "jsn"],
            "who",
            "'jsn' is not one of its values; did you mean json",
        ),
        (["gen", "a", "--schedule", "daily"], "gen NAME", "there is no such option; see --help"),
        (["gen", "a", "--qqqqqqqq"], "gen NAME", "there is no such option; see --help"),
        (["uninstall", "a", "b"], "uninstall", "'b': unexpected argument"),
        (["instal", "a"], "[-h]", "'instal' is not one of its values; did you mean install?"),
    ],
)
def test_on_the_command_line(
    argv: list[str], usage: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert f"usage: sdactivate {usage}" in err
    assert said in err


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_its_own_usage(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--hepl"]) == 2
    assert f"usage: sdactivate {verb}" in capsys.readouterr().err


def test_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "sites.toml").write_text("[sites.mysite]\n")
    for attempt, said in (
        (lambda: kind_name("servce"), "'servce': there is no such kind; did you mean service?"),
        (lambda: resolve({"thread": "4"}, {}, {}), "no such setting; did you mean threads?"),
        (
            lambda: resolve({}, {}, {"SDACTIVATE_THREDS": "4"}),
            "SDACTIVATE_THREDS: there is no such setting; did you mean SDACTIVATE_THREADS?",
        ),
        (lambda: Tables(tmp_path / "sites.toml").entry("mysit"), "did you mean mysite?"),
    ):
        with pytest.raises(Error) as caught:
            attempt()
        assert said in str(caught.value)
