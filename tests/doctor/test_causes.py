"""Causes before effects: the relation has no circle, and what is shown first is a cause."""

import html
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdactivate.doctor import causes, report
from sdactivate.doctor.causes import arrange
from sdactivate.doctor.finding import Advice, Case, Finding
from sdactivate.doctor.html_page import page
from sdactivate.doctor.rules import BY_ID, TABLE
from sdactivate.doctor.units import Deployment
from sdactivate.systemd.unitfile import Unit
from tests.doctor import sarif
from tests.doctor.test_html_page import Strict
from tests.effort import examples

SOCKET, SERVICE, FRONT = "web.socket", "web.service", "nginx.service"
PATH = "/run/web.sock"


def found(rule: str, subject: str, unit: str = "", path: str = "") -> Finding:
    why = f"why {rule}"
    return Finding(BY_ID[rule], subject, "", 0, "", why, Advice(f"fix {rule}"), "", unit, path)


def names(findings: list[Finding]) -> list[tuple[int, str]]:
    return [(it.depth, it.rule.id) for it in findings]


UNREADABLE = [
    found("SDA113", SERVICE, path="/srv/web"),
    found("SDA110", SERVICE),
    found("SDA109", SOCKET),
    found("SDA111", FRONT, SOCKET, PATH),
]


def test_a_chain_is_told_from_its_cause_on_whatever_was_found_first() -> None:
    for order in permutations(UNREADABLE):
        assert names(arrange(order)) == [
            (0, "SDA113"), (1, "SDA110"), (2, "SDA109"), (3, "SDA111"),
        ]  # fmt: skip


def test_what_is_about_something_else_has_another_cause() -> None:
    """Another socket's mode, another file, a home that is not on the way."""
    apart = [
        found("SDA114", "other.socket", path="/run/other.sock"),
        found("SDA102", FRONT, SOCKET, "/srv"),
        found("SDA022", SERVICE, path="/root/venv/bin/python"),
        found("SDA113", SERVICE, path="/srv/web"),
    ]
    assert {depth for depth, _ in names(arrange(apart))} == {0}
    assert names(arrange([apart[0], found("SDA102", FRONT, SOCKET, "/run/other.sock")])) == [
        (0, "SDA114"),
        (1, "SDA102"),
    ]
    assert names(arrange([apart[2], found("SDA113", SERVICE, path="/root")])) == [
        (0, "SDA022"),
        (1, "SDA113"),
    ]


def test_what_keeps_requests_from_being_answered_comes_first() -> None:
    """A warning that explains an outage comes before an error that does not."""
    order = arrange(
        [
            found("SDA020", SERVICE),
            found("SDA112", SERVICE),
            found("SDA114", SOCKET, path=PATH),
            found("SDA102", FRONT, SOCKET, PATH),
        ]
    )
    assert names(order) == [(0, "SDA114"), (1, "SDA102"), (0, "SDA020"), (0, "SDA112")]


def test_all_causes_are_named_the_nearest_first() -> None:
    order = arrange([found("SDA014", SOCKET), *UNREADABLE])
    (effect,) = (it for it in order if it.rule.id == "SDA109")
    assert [it.rule.id for it in effect.because_of] == ["SDA110", "SDA014"]
    assert report.as_json([effect])[0]["explained_by"] == [
        {"rule": "SDA110", "subject": SERVICE},
        {"rule": "SDA014", "subject": SOCKET},
    ]


def test_the_table_names_rules_and_makes_no_circle() -> None:
    edges = {(row.cause, effect) for row in causes.TABLE for effect in row.effects}
    assert {name for edge in edges for name in edge} | {*causes.OUTAGE} <= BY_ID.keys()
    left = edges
    while roots := {cause for cause, _ in left} - {effect for _, effect in left}:
        left = {edge for edge in left if edge[0] not in roots}
    assert left == set()


_SUBJECTS = st.sampled_from((SOCKET, SERVICE, FRONT))
_PATHS = st.sampled_from(("", PATH, "/root", "/root/python"))
_FINDINGS = st.builds(
    found,
    st.sampled_from([rule.id for rule in TABLE]),
    _SUBJECTS,
    st.sampled_from(("", SOCKET)),
    _PATHS,
)


@settings(max_examples=examples(50))
@given(st.lists(_FINDINGS, max_size=12))
def test_any_findings_are_all_there_once_each_after_its_cause(findings: list[Finding]) -> None:
    order = arrange(findings)
    found = {it.rule.id for it in findings}
    hidden = {*causes.LAST_RESORTS} if found & causes.LOGGED_BY_FRONTS else set()
    shown = [it for it in findings if it.rule.id not in hidden]
    assert sorted(it._replace(because_of=()) for it in order) == sorted(shown)
    for place, finding in enumerate(order):
        if finding.because_of:
            above = [it for it in order[:place] if it.depth == finding.depth - 1]
            assert above[-1] == finding.because_of[0]
        for cause in finding.because_of:
            assert cause in order
    report.as_text(order)
    sarif.validate(report.as_sarif(order))


def test_text_shows_effects_beneath_their_cause() -> None:
    text = report.as_text(arrange(UNREADABLE))
    assert text.startswith(
        "web.service\n"
        "  error SDA113: The service's user can't read the program\n"
        "    why   why SDA113\n"
        "    fix   fix SDA113\n"
        "    so    error SDA110: The service has failed (web.service)\n"
        "      why   why SDA110\n"
        "      after fix SDA110\n"
        "      so    error SDA109: The socket unit has failed (web.socket)\n"
    )
    assert text.count("\n\n") == 1
    assert text.endswith("\n\n3 errors, 1 warning\n")


def test_sarif_names_the_place_of_the_cause() -> None:
    said = report.as_sarif(arrange(UNREADABLE[:2]))
    sarif.validate(said)
    cause, effect = said["runs"][0]["results"]
    assert "relatedLocations" not in cause
    (related,) = effect["relatedLocations"]
    assert related["logicalLocations"] == [{"fullyQualifiedName": SERVICE}]
    assert related["message"]["text"].startswith("SDA113 web.service explains it: ")


@pytest.mark.parametrize("several", [False, True])
def test_the_page_has_an_effect_in_its_cause_s_box(several: bool) -> None:
    case = Case(Deployment(Unit(SERVICE, [], []), ()))
    findings = arrange([*UNREADABLE, *([found("SDA020", SERVICE)] if several else [])])
    text = page([(case, findings)])
    parser = Strict()
    parser.feed(text)
    assert parser.open == []
    start, end = text.index("<article"), text.index("</article>")
    assert text[start:end].count("<article") == 4  # one inside the other
    assert "Consequence of SDA110 web.service:" in html.unescape(text)
    assert text.count("<article") == 4 + several


def test_the_documentation_has_the_relation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    pairs: dict[str, set[str]] = {}
    for row in causes.TABLE:
        pairs.setdefault(row.cause, set()).update(row.effects)
    for cause, effects in pairs.items():
        assert f"| {cause} | {', '.join(sorted(effects))} |" in text, cause
