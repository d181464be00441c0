"""What the runtime asks of a server: start, drain, stop, figures.

A server is told to start, drain and stop, and says how it is doing (`Figures`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from sdactivate.status_record import BUCKETS, Ring

if TYPE_CHECKING:
    import socket

QUIET = 0.5
"""Seconds that an idle connection must have been silent at a stop: new ones wait meanwhile."""
QUIET_BESIDE_SUCCESSOR = 2.0
"""The same where a successor serves already, and a longer wait costs nobody anything."""
LOOK_AT_IDLE = 0.025
"""Seconds between two looks at idle connections at a stop."""


class Figures(NamedTuple):
    """How a server is doing.

    requests, errors: served and failed since its start. busy: requests being served. threads,
    workers: how many there are. oldest: seconds that the request under way for longest has
    taken. idle: seconds since a request last began or ended. backlog: connections that wait to
    be accepted, None where the kernel does not tell.
    """

    requests: int = 0
    errors: int = 0
    busy: int = 0
    threads: int = 0
    workers: int = 1
    oldest: float = 0.0
    idle: float = 0.0
    backlog: int | None = None


class Lately(NamedTuple):
    """What a server did lately.

    durations: how many of its latest requests took how long, as `status_record.histogram` says.
    seconds, minutes: when it answered 5xx or failed, by the monotonic clock.
    """

    durations: tuple[int, ...] = (0,) * BUCKETS
    seconds: Ring = Ring()
    minutes: Ring = Ring()


class Server(Protocol):
    """A server, of one process or of several.

    unobserved: set by the reader of the figures, to be poked at the next request that these do
    not show: so before it looks. The server asks after a request has begun to show.
    failed: why it can't go on, None while it can.
    lost: requests that `cut` has cut off: those that had begun, if only by their first byte.
    """

    unobserved: bool
    failed: str | None
    lost: int

    def start(self) -> None:
        """Begin to accept; returns when requests are served. Raises Error."""

    def adopt(self, sock: socket.socket) -> str:
        """Serve a connected socket that nobody has accepted; may be called before `start`.

        Returns the protocol that is to be spoken on it: that of the first listening socket.
        """

    def announce(self) -> None:
        """Say to those who ask that it is ready no more, and serve on."""

    def drain(self, quiet: float = QUIET) -> None:
        """Accept no more, and finish what was accepted.

        quiet: seconds that the peer of an idle connection must have been silent before it is shut.
        """

    def join(self, seconds: float) -> bool:
        """Wait so long for the draining to end; whether it has."""

    def cut(self) -> None:
        """End what is left, whatever it is doing."""

    def tick(self) -> float | None:
        """Do what is due; seconds to the next time, None: when poked."""

    def figures(self) -> Figures:
        """Return how it is doing."""

    def durations(self) -> tuple[int, ...]:
        """Return how many of the latest requests took how long: `status_record.histogram`."""

    def lately(self) -> Lately:
        """Return what it did lately; nothing where it does not take notes."""

    def stalled(self, seconds: float) -> bool:
        """Whether no progress has been made for so long, though there is work."""

    def stacks(self, seconds: float) -> list[str]:
        """Return the Python stacks of the requests that have taken longer than `seconds`."""
