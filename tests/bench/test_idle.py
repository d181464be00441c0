"""Leaving when idle loses nobody who comes at that moment: the harness sees it happen."""

import shutil

import pytest

from bench import idle
from bench.load import bench


@pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is compiled")
def test_a_process_that_leaves_loses_nobody() -> None:
    with bench() as place:
        report = idle.leaving(place, 5)
    assert report["requests"] >= 5
    assert not any(report["failures"].values())
