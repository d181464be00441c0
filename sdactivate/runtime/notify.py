"""Tell the supervisor how the service is doing: sd_notify(3)."""

import time

from systemd import daemon


def notify(**fields: object) -> bool:
    """Send one message to the supervisor, for example `notify(READY=1, STATUS="serving")`.

    Each field is one assignment of sd_notify(3); a line break in a value would begin another
    assignment and is sent as a space. Returns whether there is a supervisor that listens
    (NOTIFY_SOCKET is set); raises OSError where it is set and can't be reached.
    """
    lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
    return bool(daemon.notify("\n".join(lines)))


def reloading(**fields: object) -> bool:
    """Say that a reload has begun, in the form that Type=notify-reload wants as well."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    return notify(RELOADING=1, MONOTONIC_USEC=now, **fields)
