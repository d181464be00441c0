"""A serving process from its start to its end: signals, chores, and what the supervisor is told.

The main thread is the steward. It serves nothing itself; it sleeps until a signal, a thread or
a chore wants it. A chore is a function that does what is due and returns in how many seconds it
wants to be called again (None: when somebody pokes). So a quiet process makes no system call at
all.
"""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sdactivate.runtime import log
from sdactivate.runtime.notify import notify

if TYPE_CHECKING:
    from sdactivate.settings import Settings

Chore = Callable[[], "float | None"]


class Serving(Protocol):
    """What the lifecycle needs of a server."""

    errors: int
    unobserved: bool

    def start(self) -> None: ...
    def drain(self) -> None: ...
    def join(self, deadline: float) -> bool: ...
    def cut(self) -> None: ...
    def tick(self) -> float | None: ...
    @property
    def requests(self) -> int: ...
    @property
    def busy(self) -> int: ...
    @property
    def last_activity(self) -> float: ...


class Steward:
    """The main thread's loop: signals in, chores out."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        self._due: dict[Chore, float] = {}
        self.caught: list[int] = []

    def catch(self, *signals: int) -> None:
        """Let these signals wake the loop and be kept in `caught`."""
        signal.set_wakeup_fd(self._outside.fileno(), warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, lambda caught, frame: self.caught.append(caught))

    def poke(self) -> None:
        """Call every chore soon. May be called by any thread."""
        try:
            self._outside.send(b"\0")
        except BlockingIOError:
            pass  # it is being woken already

    def add(self, chore: Chore) -> None:
        """Call `chore` now, and then as it says."""
        self._due[chore] = 0.0

    def rest(self) -> None:
        """Do what is due, then sleep until something is, or a signal or a poke comes."""
        now = time.monotonic()
        for chore, due in self._due.items():
            if due <= now:
                wanted = chore()
                self._due[chore] = float("inf") if wanted is None else now + wanted
        if self.caught:
            return
        earliest = min(self._due.values(), default=float("inf"))
        timeout = None if earliest == float("inf") else max(0.0, earliest - time.monotonic())
        ready, _, _ = select.select([self._inside], [], [], timeout)
        if ready and b"\0" in self._inside.recv(4096):
            for chore in self._due:
                self._due[chore] = 0.0


def run(make: Callable[[Callable[[], None]], Serving], settings: Settings) -> int:
    """Serve until told to stop; returns the exit code.

    make: builds the server, given the function that wakes the steward.
    """
    steward = Steward()
    # Requests are served by other threads; these leave every signal to the main one
    steward.catch(signal.SIGTERM, signal.SIGINT)
    for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    server = make(steward.poke)
    server.start()
    status = _Status(server)
    steward.add(server.tick)
    steward.add(status.chore)
    notify(READY=1, STATUS=status.line())
    while not steward.caught:
        steward.rest()
    steward.caught.clear()
    notify(STOPPING=1, STATUS="stopping: finishing the requests that were accepted")
    server.drain()
    deadline = time.monotonic() + settings.graceful_timeout
    while not server.join(min(deadline, time.monotonic() + 0.05)):
        server.tick()
        if steward.caught or time.monotonic() >= deadline:
            log.say(log.WARNING, f"cut off {server.busy} requests that had not ended")
            server.cut()
            break
    return 0


class _Status:
    """What `systemctl status` shows, told at most once a second and only when it changes."""

    def __init__(self, server: Serving) -> None:
        self._server = server
        self._requests = 0
        self._at = time.monotonic()
        self._rate = 0.0

    def line(self) -> str:
        server = self._server
        return (
            f"ready: {server.busy} busy, {self._rate:.0f} requests/s, "
            f"{server.requests} served, {server.errors} failed"
        )

    def chore(self) -> float | None:
        now, requests = time.monotonic(), self._server.requests
        elapsed = now - self._at
        if elapsed < 1.0:
            return 1.0 - elapsed
        rate = (requests - self._requests) / elapsed
        changed = requests != self._requests or rate != self._rate
        self._at, self._requests, self._rate = now, requests, rate
        if not changed:
            self._server.unobserved = True
            return None
        notify(STATUS=self.line())
        return 1.0
