"""The long run writes down the server's figures, and every kind of request is answered."""

import os
import shutil

import pytest

from bench import memory
from bench.load import bench
from bench.report import memory_section


@pytest.mark.skipif(not shutil.which("cc"), reason="the load generator is compiled")
def test_every_kind_is_answered_and_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "STEPS", 5)
    with bench() as place:
        result = memory.measure(place, memory.STEPS * 200, 600)
    assert result["whole"]
    first, last = result["rows"][0], result["rows"][-1]
    assert last["requests"] == memory.STEPS * first["requests"] > 0
    assert first["threads"] == 9
    assert f"| {last['requests']:,} |" in memory_section(result)


def test_what_is_seen_of_a_process() -> None:
    before = memory.seen(os.getpid())
    held = bytearray(os.urandom(8 << 20))
    with open(os.devnull) as one:
        after = memory.seen(os.getpid())
    assert after["rss_mib"] - before["rss_mib"] > 7, len(held)
    assert after["fds"] == before["fds"] + 1, one
