"""The fronts' pages say what the tests of the fronts hold true."""

import pytest

from tests.machine import asgi, front_files, front_results
from tests.machine.front_docs import DOCS, SYSTEMS, TABLES, filled
from tests.machine.fronts import CASES, CHECKS, DEVIATIONS, TOPICS, deviation, is_right


@pytest.mark.parametrize("page", TABLES)
def test_the_tables_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == filled(page), (
        "python -m tests.machine.front_docs brings it up to date"
    )


def test_every_check_is_in_one_column() -> None:
    assert sorted(check for checks in TOPICS.values() for check in checks) == sorted(CHECKS)


def test_every_check_of_files_is_in_one_column() -> None:
    columns = front_files.TOPICS.values()
    assert sorted(check for checks in columns for check in checks) == sorted(front_files.CHECKS)


def test_every_deviation_is_of_a_case_and_a_check() -> None:
    for front, check in front_files.DEVIATIONS:
        assert front in front_files.SERVING
        assert check in front_files.CHECKS
    for name, check in asgi.DEVIATIONS:
        assert any(name in case for case in asgi.ALL_CASES)
        assert check in asgi.CHECKS
    for front, protocol, check in DEVIATIONS:
        assert protocol == "*" or (front, protocol) in CASES
        assert check in CHECKS


def test_there_are_results_of_each_system() -> None:
    assert list(SYSTEMS) == list(front_results.TITLES)


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_was_found_on_a_system_is_what_the_tests_hold_true(system: str) -> None:
    """Each case, and each check of it. FRONT_RESULTS=1 keeps what another run has found."""
    found = SYSTEMS[system]
    for part, cases, checks, expected in (
        ("fronts", CASES, CHECKS, deviation),
        ("asgi", asgi.CASES, asgi.CHECKS, asgi.deviation),
    ):
        for front, other in cases:
            version = front_results.version(found["versions"][front])
            outcomes = found[part][f"{front}-{other}"]
            assert set(outcomes) <= set(checks)
            for check in checks:
                row = expected(front, other, check, version)
                outcome = outcomes.get(check, "ok")
                assert outcome == asgi.NOT_TRIED or is_right(outcome, row), (front, other, check)
