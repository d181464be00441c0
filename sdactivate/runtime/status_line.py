"""The line that `systemctl status` shows: STATUS= of sd_notify(3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sdactivate.status_record import utc

if TYPE_CHECKING:
    from sdactivate.servers.api import Figures

# The least time between two lines, in seconds
_PACE = 0.9


class Status:
    """The status line, and when it is due.

    protocol: the protocol that is served. server: the server's own description; "": none. since:
    when the service started, reloaded: when this process took over, both in seconds since the
    epoch. stale: the files that have changed since the start and that only a restart reads again.
    announced: whether a stop is announced. failed_reloads, reason: the number of failed reloads,
    and why the last one failed.
    """

    def __init__(self, protocol: str, server: str = "") -> None:
        self.protocol = protocol
        self.server = server
        self.since = time.time()
        self.reloaded = 0.0
        self.stale = ""
        self.announced = False
        self.failed_reloads = 0
        self.reason = ""
        self._failure = ""
        self._requests = 0
        self._at = time.monotonic()
        self._rate = 0.0
        self._said = ""

    def reload_failed(self, reason: str) -> None:
        """Begin the line with the reason, until a later reload succeeds."""
        self.failed_reloads += 1
        self.reason = reason
        self._failure = f"reload failed ({self.failed_reloads}): {reason}; "

    def line(self, figures: Figures) -> str:
        """Return the current line."""
        parts = [
            ("stop announced" if self.announced else "ready")
            + f": {figures.busy} of {figures.threads} threads busy"
            + (f" in {figures.workers} workers" if figures.workers > 1 else ""),
            f"{self._rate:.0f} requests/s",
            f"{figures.requests} served",
            f"{figures.errors} failed",
        ]
        if figures.backlog is not None:
            parts.append(f"{figures.backlog} waiting")
        parts.append(f"protocol {self.protocol}")
        if self.server:
            parts.append(self.server)
        parts.append(f"up since {utc(self.since)}")
        if self.reloaded:
            parts.append(f"reloaded {utc(self.reloaded)}")
        stale = f"restart needed to read {self.stale} again; " if self.stale else ""
        return self._failure + stale + ", ".join(parts)

    def due(self, figures: Figures) -> str | None:
        """Return the line if it has changed; "" if not; None if the process is idle."""
        now = time.monotonic()
        elapsed = now - self._at
        if elapsed < _PACE:
            return ""
        rate = (figures.requests - self._requests) / elapsed
        quiet = rate == 0 == self._rate and not figures.busy
        self._at, self._requests, self._rate = now, figures.requests, rate
        line = self.line(figures)
        if line == self._said:
            return None if quiet else ""
        self._said = line
        return line
