"""The fronts' pages say what the tests of the fronts hold true."""

import pytest

from tests.machine import asgi
from tests.machine.front_docs import DOCS, TABLES, filled
from tests.machine.fronts import CASES, CHECKS, DEVIATIONS, TOPICS


@pytest.mark.parametrize("page", TABLES)
def test_the_tables_are_up_to_date(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == filled(page), (
        "python -m tests.machine.front_docs brings it up to date"
    )


def test_every_check_is_in_one_column() -> None:
    assert sorted(check for checks in TOPICS.values() for check in checks) == sorted(CHECKS)


def test_every_deviation_is_of_a_case_and_a_check() -> None:
    for name, check in asgi.DEVIATIONS:
        assert any(name in case for case in asgi.ALL_CASES)
        assert check in asgi.CHECKS
    for front, protocol, check in DEVIATIONS:
        assert protocol == "*" or (front, protocol) in CASES
        assert check in CHECKS
