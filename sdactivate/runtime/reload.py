"""A reload, as the old process and its successor each see it.

old: start a successor -> it is ready -> hand over to it           (or give it up)
new: say that it is ready -> be the main process -> see the old one off   (or be given up)
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

# Seconds beyond graceful_timeout that the process before has to leave
_OVERTIME = 10.0


class Reload:
    """The old process's half. One at a time: who asks again wants code that is newer still.

    ready: called with a successor that waits to be the main process, and the seconds it took.
    failed: called with the reason why there is none.
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
        """Whether a successor is waited for."""
        return self._successor is not None

    def begin(self) -> None:
        """Start a successor, in the place of one that is not ready yet."""
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
        """End the successor, if one is waited for."""
        if (successor := self._forget()) is not None:
            successor.kill()

    def _forget(self) -> Successor | None:
        """Wait no longer for the successor, which is returned."""
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
            self._failed(successor.said.strip() or "the successor's own words are above")

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
    """The new process's half, if it is one: whether there was a process before is found out here.

    grace: seconds that that one has to finish its requests (graceful_timeout).
    confirmed: called when this is the main process, with the time since when the service is up.
    given_up: called when it will never be.
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
        """Whether there is a process before, which has not been seen off."""
        return self._predecessor is not None

    @property
    def is_over(self) -> bool:
        """Whether there is no process before, or none any more."""
        return self._predecessor is None or self._predecessor.is_gone

    def failed(self, reason: str) -> None:
        """Say why this process can't be the main one."""
        if self._predecessor is not None:
            self._predecessor.say(reason.encode("utf-8", "replace"))

    def ready(self) -> None:
        """Say that requests are served here, and wait to be the main process."""
        predecessor = self._predecessor
        assert predecessor is not None
        predecessor.say(READY)
        # The channel first: both are readable where the predecessor leaves at once
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
        """Forget the process before when it has left; end it if it does not."""
        predecessor = self._predecessor
        if predecessor is None:
            return None
        if predecessor.is_gone:
            predecessor.close()
            self._predecessor = None
            return None
        left = self._deadline - time.monotonic()
        if left <= 0:
            log.say(log.WARNING, "the process before has not left: it is killed")
            predecessor.kill()
        return max(1.0, left)
