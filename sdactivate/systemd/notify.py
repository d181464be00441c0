"""Tell the supervisor of readiness, status, watchdog and main process: sd_notify(3).

s6 expects one line on a descriptor, once, when the service is ready (s6's notification-fd).
`write_ready_to` sets the descriptor; READY=1 is then written there as well.
"""

import os
import socket
import time
from collections.abc import Mapping

from sdactivate.errors import UsageError
from sdactivate.systemd.sd_daemon import daemon
from sdactivate.terminal import escape

# These change the state of the service for the supervisor, so sending waits up to _PATIENCE
# seconds. The others are sent again later anyway.
_AWAITED = frozenset({"READY", "RELOADING", "STOPPING", "MAINPID"})
_PATIENCE = 5.0

_ready_descriptors: list[int] = []


def write_ready_to(fd: int) -> None:
    """Make the next READY=1 also write a line to descriptor `fd`, which is then closed.

    Raises UsageError if `fd` is not open for writing.
    """
    try:
        os.write(fd, b"")
        os.set_inheritable(fd, False)
    except OSError as error:
        raise UsageError(
            f"notify_fd={fd}: {error.strerror}. Give the number in s6's file notification-fd; "
            "the program that starts this one must pass it on (sdactivate launch --keep-fd)"
        ) from None
    _ready_descriptors.append(fd)


class Supervisor:
    """The supervisor that receives notifications, as the environment names it at the start.

    is_there: whether there is one (NOTIFY_SOCKET). watchdog: the interval of WatchdogSec= for this
    process in seconds, 0: none; see sd_watchdog_enabled(3).

    Create it before the application is imported, which may change the environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.is_there = bool(self._address)
        usec = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        self.watchdog = int(usec) / 1e6 if usec.isdigit() and is_ours else 0.0

    def tell(self, **fields: object) -> bool:
        """Send one message; see `notify`, also for which fields wait and how long.

        Raises OSError if it can't be sent, BlockingIOError if the supervisor's queue is full.
        """
        if "READY" in fields:
            _say_ready()
        if not self.is_there:
            return False
        # Escaped, because systemctl status writes it unchanged to an administrator's terminal
        text = "\n".join(
            f"{name}={escape(' '.join(str(value).splitlines()))}" for name, value in fields.items()
        )
        if self._address[0] not in "/@":
            return bool(daemon.notify(text))  # vsock, for one
        address = self._address
        if address[0] == "@":  # an abstract one (unix(7))
            address = "\0" + address[1:]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.0 if _AWAITED.isdisjoint(fields) else _PATIENCE)
            sock.sendto(text.encode("utf-8", "backslashreplace"), address)
        return True

    def reloading(self, **fields: object) -> bool:
        """Say that a reload has begun, in the form that Type=notify-reload also accepts."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self.tell(RELOADING=1, MONOTONIC_USEC=now, **fields)


def _say_ready() -> None:
    while _ready_descriptors:
        fd = _ready_descriptors.pop()
        try:
            os.write(fd, b"\n")
        finally:
            os.close(fd)


def notify(**fields: object) -> bool:
    """Send one message to the supervisor; return whether there is one (NOTIFY_SOCKET is set).

    `serve` sends READY=1 and the rest itself. A program of your own, under Type=notify:

        import sdactivate

        if not sdactivate.notify(READY=1, STATUS="3 jobs are waiting"):
            print("started by hand: no supervisor listens")

    fields: the assignments of sd_notify(3), such as READY=1, STATUS="...", WATCHDOG=1. A line break
    in a value would begin another assignment: it is sent as a space, other control characters are
    sent as escapes.

    READY, RELOADING, STOPPING and MAINPID wait up to 5 seconds for a supervisor that does not read;
    other fields do not wait.

    Raises OSError if NOTIFY_SOCKET is set and can't be reached, or nobody reads from it
    (TimeoutError after the 5 seconds, BlockingIOError for fields that do not wait).
    """
    return Supervisor(os.environ).tell(**fields)
