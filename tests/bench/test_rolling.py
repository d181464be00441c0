"""The model of a rolling release, and what the page says of it."""

from pathlib import Path

import pytest

from bench import rolling

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("fleet", "size", "steps"),
    [
        (10, 1, 10),
        (10, 3, 4),  # three of three, and one of one
        (100, 25, 4),
        (1000, 100, 20),  # a batch of 100 is two of FORKS
        (1000, 1000, 20),
        (10, 10, 1),
    ],
)
def test_batches_come_one_after_the_other(fleet: int, size: int, steps: int) -> None:
    assert rolling.duration(fleet, size, 60) == steps * 60


def test_a_batch_and_one_that_fails_are_away() -> None:
    assert rolling.spare(100, rolling.batch(100, "5 %")) == 0.06
    assert rolling.spare(10, rolling.batch(10, "5 %")) == 0.2
    assert rolling.spare(10, 10) == 1


def test_the_page_says_what_the_results_say() -> None:
    measured = rolling.times(ROOT / "bench" / "results")
    page = (ROOT / "docs" / "several-machines.md").read_text()
    assert "bench/results/drain-rolling.svg" in page
    words = " ".join(page.split())
    for fleet in rolling.FLEETS:
        hours = [
            rolling.duration(fleet, rolling.batch(fleet, name), measured.each) / 3600
            for name in ("one machine", "10 %")
        ]
        said = f"{fleet:,} machines: {spoken(hours[0])} and {spoken(hours[1])}"
        assert said in words, said


def spoken(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 1.5 else f"{hours:.0f} hours"
