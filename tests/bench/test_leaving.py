"""Nothing is lost and nobody hangs when a process leaves: five restarts and reloads a cell."""

import shutil
from collections.abc import Iterator

import pytest

from bench import leaving
from bench.load import Bench, bench

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is compiled")
TIMES = 5
# Of the bench's cells: each protocol, one process and several, one thread and several
CELLS = [
    ("scgi", 2, 1, "socket"),
    ("uwsgi", 1, 8, "socket"),
    ("fastcgi", 1, 8, "socket"),
    ("fastcgi", 2, 8, "nginx"),
    ("http", 4, 1, "socket"),
    ("http", 1, 8, "generated"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.mark.parametrize("action", leaving.ACTIONS)
@pytest.mark.parametrize(("protocol", "workers", "threads", "via"), CELLS)
def test_nothing_is_lost(
    place: Bench, protocol: str, workers: int, threads: int, via: str, action: str
) -> None:
    if via != "socket" and not shutil.which("nginx"):
        pytest.skip("nginx is not installed")
    row = leaving.cell(place, protocol, workers, threads, action, TIMES, via)
    assert row["times"] == TIMES
    assert row["requests"] > 100
    assert (row["lost"], row["hung"]) == (0, 0), row["reasons"]
