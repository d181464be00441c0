"""A reload, from the side of the old process and from that of its successor.

- old: start a successor -> it is ready -> hand over to it (or abandon it)
- new: report readiness -> become the main process -> wait until the old one exits (or be abandoned)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sdactivate import log
from sdactivate.runtime.handover import READY, Predecessor, Successor

if TYPE_CHECKING:
    from sdactivate.runtime.main_loop import MainLoop
    from sdactivate.runtime.plan import Plan

# Seconds beyond graceful_timeout that the old process has to exit
_OVERTIME = 10.0


class Reload:
    """The old process's side. One reload at a time: a second request is for even newer code.

    ready: called with a successor that waits to become the main process, and the seconds it took.
    failed: called with the reason if there is none.
    """

    def __init__(
        self,
        plan: Plan,
        loop: MainLoop,
        ready: Callable[[Successor, float], None],
        failed: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._ready = ready
        self._failed = failed
        self._successor: Successor | None = None
        self._began = 0.0

    @property
    def is_under_way(self) -> bool:
        """Whether a successor is starting."""
        return self._successor is not None

    def begin(self) -> None:
        """Start a successor; kill one that is not ready yet."""
        self.give_up()
        self._began = time.monotonic()
        try:
            successor = Successor(self._plan.invocation, self._plan.sockets)
        except OSError as error:
            self._failed(str(error))
            return
        self._successor = successor
        self._loop.watch(successor.channel.fileno(), self._hear)
        self._loop.add(self._expire)

    def give_up(self) -> None:
        """Kill the successor that is starting, if any."""
        if (successor := self._forget()) is not None:
            successor.kill()

    def _forget(self) -> Successor | None:
        """Stop waiting for the successor and return it."""
        successor, self._successor = self._successor, None
        if successor is not None:
            self._loop.forget(successor.channel.fileno())
        return successor

    def _hear(self) -> None:
        successor = self._successor
        if successor is None or (is_ready := successor.hear()) is None:
            return
        self._forget()
        if is_ready:
            self._ready(successor, time.monotonic() - self._began)
        else:
            successor.channel.close()
            self._failed(successor.said.strip() or "see the successor's messages above")

    def _expire(self) -> float | None:
        if self._successor is None:
            return None
        limit = self._plan.settings.start_timeout
        if (left := self._began + limit - time.monotonic()) > 0:
            return left
        self.give_up()
        self._failed(f"not ready after {limit:g} s (start_timeout)")
        return None


class Succession:
    """The new process's side. It detects whether there is an old process.

    grace: seconds for the old process to finish its requests (graceful_timeout). confirmed: called
    when this is the main process, with the time at which the service started. given_up: called if
    it will never be the main process.
    """

    def __init__(
        self,
        loop: MainLoop,
        grace: float,
        confirmed: Callable[[float], None],
        given_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._grace = grace
        self._confirmed = confirmed
        self._given_up = given_up
        self._predecessor = Predecessor.find()
        self._deadline = 0.0

    @property
    def has_predecessor(self) -> bool:
        """Whether there is an old process that has not exited yet."""
        return self._predecessor is not None

    @property
    def is_over(self) -> bool:
        """Whether there is no old process, or it has exited."""
        return self._predecessor is None or self._predecessor.is_gone

    def failed(self, reason: str) -> None:
        """Report why this process can't become the main process."""
        if self._predecessor is not None:
            self._predecessor.say(reason.encode("utf-8", "replace"))

    def ready(self) -> None:
        """Report that requests are served here, and wait to become the main process."""
        predecessor = self._predecessor
        assert predecessor is not None
        predecessor.say(READY)
        # Read the channel first: both are readable if the old process exits at once
        self._loop.watch(predecessor.channel.fileno(), self._hear)
        if predecessor.process >= 0:
            self._loop.watch(predecessor.process, self._hear)

    def _hear(self) -> None:
        predecessor = self._predecessor
        assert predecessor is not None
        self._loop.forget(predecessor.channel.fileno())
        self._loop.forget(predecessor.process)
        if predecessor.hear():
            self._deadline = time.monotonic() + self._grace + _OVERTIME
            self._loop.add(self._see_off)
            self._confirmed(predecessor.since)
        else:
            self._predecessor = None
            self._given_up()

    def _see_off(self) -> float | None:
        """Forget the old process when it has exited; kill it if it does not."""
        predecessor = self._predecessor
        if predecessor is None:
            return None
        if predecessor.is_gone:
            predecessor.close()
            self._predecessor = None
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            log.say(log.WARNING, "the old process has not exited in time: killing it")
            predecessor.kill()
        return max(1.0, left)
