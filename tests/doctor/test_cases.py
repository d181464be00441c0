"""docs/cases.md and `doctor --explain` say what the tables of rules, symptoms and setups have."""

import runpy
from pathlib import Path

import pytest

from sdactivate.cli import main
from sdactivate.doctor import symptoms
from sdactivate.doctor.finding import Rule
from sdactivate.doctor.rules import BY_ID, TABLE
from sdactivate.fronts import FRONTS

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_tables_say() -> None:
    script = runpy.run_path(str(ROOT / "script" / "cases.py"))
    page = (ROOT / "docs" / "cases.md").read_text(encoding="utf-8")
    assert page == script["whole"](), "script/cases.py brings it up to date"
    headings = {script["slug"](line.lstrip("# ")) for line in page.splitlines() if line[:1] == "#"}
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links <= headings
    assert "/tmp/tmp" not in page


def test_every_rule_has_its_row_and_every_symptom_its_place() -> None:
    assert set(symptoms.TABLE) == set(BY_ID)
    for all_ in symptoms.TABLE.values():
        assert {it.place for it in all_} <= {*symptoms.PLACES, *FRONTS}


@pytest.mark.parametrize("rule", TABLE, ids=lambda rule: rule.id)
def test_a_rule_is_explained(rule: Rule, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--explain", rule.id]) == 0
    said = capsys.readouterr().out
    assert all(it.words in said for it in symptoms.TABLE[rule.id])
    assert said.startswith(f"{rule.id} (")


def test_without_a_rule_a_name_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 2
    assert "NAME of a unit, or FILE with --offline, is missing" in capsys.readouterr().err


def test_a_rule_that_does_not_exist_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--explain", "SDA12"]) == 2
    assert "SDA12: there is no such rule; did you mean SDA012?" in capsys.readouterr().err
