"""Decide when a process must be replaced: max_requests, max_memory, worker_timeout."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from sdactivate import log

if TYPE_CHECKING:
    from sdactivate.servers.api import Figures, Server
    from sdactivate.settings import Settings


class Recycling:
    """Tells when a serving process has reached a limit, or is stuck.

    wanted: whether any limit is set.
    """

    def __init__(self, settings: Settings) -> None:
        jitter = random.randint(0, settings.max_requests_jitter)  # noqa: S311
        self._requests = settings.max_requests and settings.max_requests + jitter
        self._memory = settings.max_memory
        self._timeout = settings.worker_timeout
        self.wanted = bool(self._requests or self._memory)

    def reason(self, figures: Figures) -> str | None:
        """Return which limit the process has reached; None if it has not."""
        if self._requests and figures.requests >= self._requests:
            return f"it has served {figures.requests} requests (max_requests)"
        if self._memory and (memory := resident_memory()) >= self._memory:
            return f"it has grown to {memory >> 20} MiB (max_memory)"
        return None

    def stuck(self, server: Server, figures: Figures) -> str | None:
        """Return why the process is stuck, and log the thread's stack; None if it is not stuck."""
        if not self._timeout or figures.oldest <= self._timeout:
            return None
        reason = f"a request has taken more than {self._timeout:g} s"
        stacks = server.stacks(self._timeout)
        for stack in stacks:
            log.say(log.ERROR, f"{reason}:\n{stack}")
        return f"{reason} (worker_timeout)" if stacks else None


def resident_memory() -> int:
    """Return this process's own memory in bytes: resident but not shared (proc(5), statm)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
