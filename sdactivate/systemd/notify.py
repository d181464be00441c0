"""Tell the supervisor how the service is doing: sd_notify(3).

s6 wants less, and wants it otherwise: one line on a descriptor, once, when the service is ready
(s6's notification-fd). `write_ready_to` says which descriptor; READY=1 then goes there as well.
"""

import os
import time

from systemd import daemon

from sdactivate.errors import UsageError

_ready_descriptors: list[int] = []


def write_ready_to(fd: int) -> None:
    """Let the next READY=1 also be a line on descriptor `fd`, which is then closed.

    Raises UsageError where `fd` is not open for writing.
    """
    try:
        os.write(fd, b"")
        os.set_inheritable(fd, False)
    except OSError as error:
        raise UsageError(
            f"notify_fd={fd}: {error.strerror}. It is the number in s6's file notification-fd, "
            "and must come through what starts this process (sdactivate launch --keep-fd)"
        ) from None
    _ready_descriptors.append(fd)


def notify(**fields: object) -> bool:
    """Send one message to the supervisor, for example `notify(READY=1, STATUS="serving")`.

    Each field is one assignment of sd_notify(3); a line break in a value would begin another
    assignment and is sent as a space. Returns whether there is a supervisor that listens
    (NOTIFY_SOCKET is set); raises OSError where it is set and can't be reached.
    """
    if "READY" in fields:
        while _ready_descriptors:
            fd = _ready_descriptors.pop()
            try:
                os.write(fd, b"\n")
            finally:
                os.close(fd)
    lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
    return bool(daemon.notify("\n".join(lines)))


def watchdog_seconds() -> float:
    """Return the interval of WatchdogSec= for this process, 0: none; see sd_watchdog_enabled(3)."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID")
    if not usec.isdigit() or pid not in (None, str(os.getpid())):
        return 0.0
    return int(usec) / 1e6


def reloading(**fields: object) -> bool:
    """Say that a reload has begun, in the form that Type=notify-reload wants as well."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return notify(RELOADING=1, MONOTONIC_USEC=now, **fields)
