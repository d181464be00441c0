"""The interface of a server to the runtime: start, drain, stop, figures.

The runtime starts, drains and stops a server, and reads its state (`Figures`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from sdactivate.status_record import BUCKETS, Ring

if TYPE_CHECKING:
    import socket

QUIET = 0.5
"""Seconds for which an idle connection must be silent at a stop; new connections wait meanwhile."""
QUIET_BESIDE_SUCCESSOR = 2.0
"""The same if a successor already serves, so that a longer wait delays no client."""
LOOK_AT_IDLE = 0.025
"""Seconds between two checks of idle connections at a stop."""


class Figures(NamedTuple):
    """The state of a server.

    requests, errors: number served and failed since its start. busy: requests in progress. threads,
    workers: their number. oldest: age in seconds of the oldest request in progress. idle: seconds
    since a request last started or ended. backlog: connections that wait to be accepted; None if
    the kernel does not tell.
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
    """A server's recent requests.

    durations: a histogram of the durations of the latest requests, see `status_record.histogram`.
    seconds, minutes: counts of 5xx responses and failures, by the monotonic clock.
    """

    durations: tuple[int, ...] = (0,) * BUCKETS
    seconds: Ring = Ring()
    minutes: Ring = Ring()


class Server(Protocol):
    """A server, of one process or of several.

    unobserved: a reader of the figures sets it before it reads them. When a request begins that
    these figures do not show, the server clears it and wakes the reader. failed: why the server
    can't go on; None while it can. lost: the number of requests that `cut` has cut off,
    including those of which only the first byte had arrived.
    """

    unobserved: bool
    failed: str | None
    lost: int

    def start(self) -> None:
        """Start to accept; return when requests are served. Raises Error."""

    def adopt(self, sock: socket.socket) -> str:
        """Serve a connected socket, such as a socketpair's; may be called before `start`.

        Returns the protocol to speak on it: that of the first listening socket.
        """

    def announce(self) -> None:
        """Report not ready to health checks, and go on serving."""

    def drain(self, quiet: float = QUIET) -> None:
        """Stop accepting, and finish the accepted requests.

        quiet: seconds for which the peer of an idle connection must be silent before it is closed.
        """

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for draining to finish; return whether it has."""

    def cut(self) -> None:
        """Cut off all remaining requests."""

    def tick(self) -> float | None:
        """Do what is due; return the seconds to the next call, or None: after a wake-up."""

    def figures(self) -> Figures:
        """Return the current figures."""

    def durations(self) -> tuple[int, ...]:
        """Return a histogram of the latest durations: `status_record.histogram`."""

    def lately(self) -> Lately:
        """Return the recent requests; empty if the server does not record them."""

    def stalled(self, seconds: float) -> bool:
        """Whether there is work but no progress for `seconds`."""

    def stacks(self, seconds: float) -> list[str]:
        """Return the Python stacks of the requests that take longer than `seconds`."""
