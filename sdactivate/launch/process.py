"""What a launched process inherits at exec: descriptors, resource limits, umask, signals.

The listening sockets are descriptors 3, 4, … in the order of --listen, as sd_listen_fds(3)
requires. 0, 1 and 2 stay open. Every other descriptor is closed, unless --keep-fd names it.
"""

import os
import re
import resource
import signal
import socket
from collections.abc import Sequence
from typing import NamedTuple

from sdactivate.errors import Error, UsageError
from sdactivate.systemd import pass_fds

LIMITS = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}


def open_standard_descriptors() -> None:
    """Make sure that 0, 1 and 2 are open for the command, so that no socket gets their numbers.

    One with close-on-exec was not inherited: it was closed, and this process has opened a file
    since (libffi 3.5 keeps its library open).
    """
    for fd in range(pass_fds.FIRST):
        try:
            given = os.get_inheritable(fd)
        except OSError:
            given = False
        if not given:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def place(sockets: Sequence[socket.socket], keep: Sequence[int], hold: Sequence[int] = ()) -> range:
    """Put `sockets` on the descriptors from 3 on, inheritable, and close all others but `keep`.

    Those of `hold` stay open until exec and are not inherited. The socket objects are detached.
    Returns the descriptors. Raises UsageError if a descriptor of `keep` has the number of a socket
    or is not open.
    """
    placed = pass_fds.targets(len(sockets))
    for fd in keep:
        if fd in placed:
            raise UsageError(
                f"--keep-fd {fd}: the sockets use descriptors {placed.start} to "
                f"{placed.stop - 1}; use a higher number"
            )
        try:
            os.set_inheritable(fd, True)
        except OSError:
            raise UsageError(f"--keep-fd {fd}: descriptor {fd} is not open") from None
    placed = pass_fds.place([sock.detach() for sock in sockets], (*keep, *hold))
    pass_fds.close_others((*placed, *keep, *hold))
    return placed


def reset_signals() -> None:
    """Unblock all signals and reset SIGCHLD, since both would be inherited from the caller.

    With SIGTERM blocked the site could not be stopped, and with SIGCHLD ignored it could not wait
    for its children. Other ignored signals stay ignored, as the user of nohup(1) expects.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def parse_umask(text: str) -> int:
    """Parse a umask, 0 to 777 in octal. Raises UsageError."""
    if re.fullmatch("0?[0-7]{1,3}", text):
        return int(text, 8)
    raise UsageError(f"{text!r} is not an octal umask from 000 to 777")


class Limit(NamedTuple):
    """A limit of setrlimit(2), as typed and as parsed."""

    text: str
    resource: int
    values: tuple[int, int]
    """The soft and the hard limit."""


def limits(assignments: Sequence[str]) -> list[Limit]:
    """Parse NAME=VALUE or NAME=SOFT:HARD, with the names of setrlimit(2).

    Raises UsageError for a name or value that is not valid.
    """
    found = []
    for text in assignments:
        name, _, value = text.partition("=")
        soft, _, hard = value.partition(":")
        try:
            number = LIMITS[name.lower().removeprefix("rlimit_")]
            found.append(Limit(text, number, (_limit(soft), _limit(hard or soft))))
        except (KeyError, ValueError):
            raise UsageError(
                f"--limit {text}: write NAME=NUMBER, NAME=SOFT:HARD or NAME=infinity, with NAME "
                f"one of {', '.join(sorted(LIMITS))}"
            ) from None
    return found


def _limit(text: str) -> int:
    if text in ("infinity", "unlimited"):
        return resource.RLIM_INFINITY
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def set_limits(wanted: Sequence[Limit]) -> None:
    """Set the limits that `limits` has parsed. Raises Error if the kernel refuses one."""
    for limit in wanted:
        try:
            resource.setrlimit(limit.resource, limit.values)
            if resource.getrlimit(limit.resource) != limit.values:
                raise ValueError("the kernel reports another value")
        except (OSError, ValueError, OverflowError) as error:
            raise Error(f"--limit {limit.text}: the kernel refused it ({error})") from None
