"""The line that `systemctl status` shows."""

import time

import pytest

from sdactivate.runtime.status_line import Status
from sdactivate.servers.api import Figures


def test_a_reload_that_failed_stands_first_until_one_works() -> None:
    status = Status("auto")
    status.reload_failed("importing app failed")
    assert status.line(Figures()).startswith("reload failed (1): importing app failed; ready: 0 of")
    status.reload_failed("no room")
    assert status.line(Figures(requests=7)).startswith("reload failed (2): no room; ready: 0 of")


def test_its_times_do_not_depend_on_the_applications_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    status = Status("auto")
    status.since, status.reloaded = 1763889860.0, 1763892171.0
    try:
        monkeypatch.setenv("TZ", "America/Chicago")  # as Django does, to its TIME_ZONE
        time.tzset()
        line = status.line(Figures(threads=8))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert line == (
        "ready: 0 of 8 threads busy, 0 requests/s, 0 served, 0 failed, protocol auto, "
        "up since 2025-11-23 09:24:20 UTC, reloaded 2025-11-23 10:02:51 UTC"
    )
