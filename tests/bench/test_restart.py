"""The activator restarts and reloads, and the harness counts what is lost."""

import os
import shutil
from collections.abc import Iterator

import pytest

from bench import front, restart
from bench.activator import Activator
from bench.load import Bench, bench
from bench.servers import Case

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is compiled")


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench() as made:
        yield made


def test_restarts_under_load(place: Bench) -> None:
    rows = list(restart.once(place, "sdactivate", ("scgi",), "trivial", "restart", 2))
    assert [row["via"] for row in rows] == ["socket"] + ["nginx"] * (not front.absent())
    for row in rows:
        assert row["times"] == 2
        assert row["requests"] > 50
        assert row["failed"] == 0


def test_a_restart_is_another_process_on_the_same_socket(place: Bench) -> None:
    activator = Activator(place, Case("sdactivate", "http", "trivial"))
    try:
        before, inode = activator.main, os.stat(place.socket).st_ino
        activator.restart()
        assert activator.main != before
        assert not os.path.exists(f"/proc/{before}")
        assert os.stat(place.socket).st_ino == inode
        assert activator.answers()
    finally:
        activator.close()
