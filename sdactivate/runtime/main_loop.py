"""The main thread's loop: signals, watched descriptors, periodic tasks.

It serves no requests itself. It sleeps until a signal arrives, a watched descriptor is readable, a
chore is due, or another thread wakes it. A chore is a function that does what is due and returns
the number of seconds until its next call, or None to be called only after a wake-up. So an idle
process makes no system calls.
"""

from __future__ import annotations

import math
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable

Chore = Callable[[], "float | None"]

_NEVER = float("inf")


class MainLoop:
    """The loop of a serving process's main thread, which serves no requests."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        self._due: dict[Chore, float] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()  # not select(2), which is limited to descriptors up to 1023
        self._poll.register(self._inside, select.POLLIN)
        self._actions: dict[int, Callable[[], None]] = {}
        self._caught: list[int] = []

    def on_signal(self, number: int, action: Callable[[], None]) -> None:
        """Have the loop call `action` after signal `number` has arrived."""
        signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        self._actions[number] = action
        signal.signal(number, lambda caught, frame: self._caught.append(caught))

    @property
    def signals(self) -> Iterable[int]:
        """The signals that have an action."""
        return self._actions.keys()

    def signalled(self, *numbers: int) -> bool:
        """Whether one of these signals has arrived and its action has not run yet."""
        return not set(numbers).isdisjoint(self._caught)

    def watch(self, fd: int, action: Callable[[], None]) -> None:
        """Have the loop call `action` whenever `fd` is readable or at end of file."""
        self._watched[fd] = action
        self._poll.register(fd, select.POLLIN)

    def forget(self, fd: int) -> None:
        """Stop watching `fd`."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def poke(self) -> None:
        """Have the loop call every chore soon. Safe to call from any thread."""
        try:
            self._outside.send(b"\0")
        except BlockingIOError:
            pass  # the loop is already being woken

    def add(self, chore: Chore) -> None:
        """Call `chore` soon, and then after the seconds that it returns."""
        self._due[chore] = 0.0

    def turn(self, longest: float | None = None) -> None:
        """Handle signals if some have arrived; else run due chores and sleep until the next event.

        longest: the longest sleep, in seconds.
        """
        if self._caught:
            while self._caught:
                self._actions[self._caught.pop(0)]()
            return  # return to the caller, since the actions may have changed its state
        now = time.monotonic()
        for chore, due in list(self._due.items()):
            if due <= now:
                wanted = chore()
                self._due[chore] = _NEVER if wanted is None else now + wanted
        earliest = min(self._due.values(), default=_NEVER)
        timeout = None if earliest == _NEVER else max(0.0, earliest - time.monotonic())
        if longest is not None:
            timeout = longest if timeout is None else min(timeout, longest)
        if self._caught:
            timeout = 0.0
        inside = self._inside.fileno()
        # In milliseconds, rounded up: a chore is not called before it is due
        ready = self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        for found, _ in ready:
            if found == inside:
                # A signal's byte is its number; a zero byte is a wake-up
                if b"\0" in self._inside.recv(4096):
                    self._due = dict.fromkeys(self._due, 0.0)
            elif found in self._watched:
                self._watched[found]()

    def reset(self) -> None:
        """In a forked child: forget the parent's signals, descriptors and chores."""
        signal.set_wakeup_fd(-1)
        for number in self._actions:
            signal.signal(number, signal.SIG_DFL)
        self._inside.close()
        self._outside.close()


def is_readable(fd: int, seconds: float = 0.0) -> bool:
    """Wait up to `seconds` for `fd` to be readable or at end of file; return whether it is."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
