"""A cold start is measured from a connection that nobody serves yet."""

import shutil
from collections.abc import Iterator

import pytest

from bench import start
from bench.load import Bench, bench
from bench.process import Failed, python
from bench.servers import Case

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is compiled")


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.mark.parametrize("server", [start.REFERENCE, "sdactivate"])
def test_cold_start_is_answered(place: Bench, server: str) -> None:
    assert 5 < start.cold(place, Case(server, "scgi", "trivial"))["ms"] < 30_000


def test_a_server_that_does_not_start_is_told(place: Bench) -> None:
    with (
        pytest.raises(Failed, match="no such application"),
        start.activated(place, python("-c", "raise SystemExit('no such application')"), "scgi"),
    ):
        pass


def test_imports_name_what_the_server_adds(place: Bench) -> None:
    found = start.imports(place, "trivial")["modules_us"]
    assert "sdactivate.runtime.serve" in found
    assert "bench.apps.trivial" not in found
