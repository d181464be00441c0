"""The grammar of --allow-peer and what each rule costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.peer_rules import PeerRule, kernel_version, needs, parse_rule


@pytest.mark.parametrize(
    "text",
    ["unit:nginx.service", "unit:web@1.service", "user:www-data", "group:20001", "user:host$"],
)
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_rule(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "nginx",
        "unit:nginx",
        "unit:",
        "unit:../x.service",
        "user:",
        "user:a b",
        "uid:0",
        "unit:a.slice",
    ],
)
def test_what_means_nothing_is_misuse_and_the_message_shows_it(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a rule|is not the name"):
        parse_rule(text)


@given(st.text())
def test_no_name_leads_out_of_the_directory_it_is_looked_for_in(text: str) -> None:
    try:
        rule = parse_rule(f"unit:{text}")
    except UsageError:
        return
    assert "/" not in rule.name
    assert rule.name.isascii()
    assert rule.name.isprintable()


@pytest.mark.parametrize(
    ("kinds", "kernel", "found"),
    [
        ("unit", (6, 13), []),
        ("unit", (6, 12), ["peer-proc"]),
        ("user", (6, 18), ["peer-ids"]),
        ("group", (5, 10), ["peer-ids"]),
        ("unit user", (6, 1), ["peer-ids", "peer-proc"]),
        ("", (6, 1), []),
    ],
)
def test_only_what_a_rule_needs_is_relaxed(
    kinds: str, kernel: tuple[int, int], found: list[str]
) -> None:
    rules = [PeerRule(kind, "x") for kind in kinds.split()]
    assert list(needs(rules, kernel)) == found


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.13.0-rc1", (6, 13)), ("5.10-amd64", (5, 10)), ("odd", (0, 0)), ("", (0, 0))],
)
def test_the_kernel_is_told_from_its_release(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
