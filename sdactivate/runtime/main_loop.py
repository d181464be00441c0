"""The main thread's loop: signals, watched descriptors, periodic tasks.

It serves nothing itself. It sleeps until a signal arrives, a descriptor it watches is
readable, a chore is due, or another thread pokes it. A chore is a function that does what is
due and returns in how many seconds it wants to be called again; None: when somebody pokes. So a
quiet process makes no system call at all.
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
    """What the main thread of a serving process does: nothing of it serves requests."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        self._due: dict[Chore, float] = {}
        self._watched: dict[int, Callable[[], None]] = {}
        self._poll = select.poll()  # not select(2), which ends at descriptor 1023
        self._poll.register(self._inside, select.POLLIN)
        self._actions: dict[int, Callable[[], None]] = {}
        self._caught: list[int] = []

    def on_signal(self, number: int, action: Callable[[], None]) -> None:
        """Call `action`, in the loop, after signal `number` has come."""
        signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        self._actions[number] = action
        signal.signal(number, lambda caught, frame: self._caught.append(caught))

    @property
    def signals(self) -> Iterable[int]:
        """The signals that have an action."""
        return self._actions.keys()

    def signalled(self, *numbers: int) -> bool:
        """Whether one of these signals has come and waits for its action."""
        return not set(numbers).isdisjoint(self._caught)

    def watch(self, fd: int, action: Callable[[], None]) -> None:
        """Call `action`, in the loop, whenever `fd` is readable or at its end."""
        self._watched[fd] = action
        self._poll.register(fd, select.POLLIN)

    def forget(self, fd: int) -> None:
        """Watch `fd` no longer."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def poke(self) -> None:
        """Call every chore soon. May be called by any thread."""
        try:
            self._outside.send(b"\0")
        except BlockingIOError:
            pass  # it is being woken already

    def add(self, chore: Chore) -> None:
        """Call `chore` soon, and then as it says."""
        self._due[chore] = 0.0

    def turn(self, longest: float | None = None) -> None:
        """Act on signals if some have come; else do what is due and sleep until something is.

        longest: sleep no longer than so many seconds.
        """
        if self._caught:
            while self._caught:
                self._actions[self._caught.pop(0)]()
            return  # to the caller, whose life they may have changed
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
        # In milliseconds, and rather late than early: a chore that is not due is not done
        ready = self._poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        for found, _ in ready:
            if found == inside:
                # A signal's own byte is its number: only a zero is a poke
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
    """Wait so long for `fd` to be readable, or at its end; whether it is."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
