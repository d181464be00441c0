"""Wait until a front that was reloaded or restarted serves its new configuration, and only that.

nginx, Apache and HAProxy are reloaded by a signal, so `systemctl reload` returns before anything
has happened. Then processes with the new configuration start beside those with the old one, and
for about a tenth of a second both accept: a request may still be answered by the old one. The old
processes serve the connections that they have to their end, but they close the listening sockets
first. And lighttpd is restarted, with Type=simple: `systemctl restart` returns before it listens.
"""

import os
import time
from collections.abc import Collection
from contextlib import suppress

from sdactivate.systemd import cgroup
from sdactivate.systemd.systemctl import one, show

# Files below /proc/PID/net (proc(5)): the column and the value that say "listens" (TCP_LISTEN,
# SO_ACCEPTCON), and the column of the inode number
_TABLES = {"tcp": (3, "0A", 9), "tcp6": (3, "0A", 9), "unix": (3, "00010000", 6)}
_BETWEEN = 0.02  # seconds between two looks


def listening(unit: str) -> set[int]:
    """Return the PIDs of the processes of a unit that have a listening socket."""
    return that_listen(cgroup.processes(one(show(unit, "ControlGroup"), "ControlGroup")))


def is_over(unit: str, old: set[int], patience: float = 5.0) -> bool:
    """Wait until a process of `unit` listens, and none of `old` except the main process.

    old: the processes that listened before. If there were none, there is nothing to wait for.
    Return False if that is not so after `patience` seconds.
    """
    if not old:  # or control groups of version 1, which are not read
        return True
    old = old - {int(one(show(unit, "MainPID"), "MainPID") or 0)}
    deadline = time.monotonic() + patience
    while that_listen(old) or not listening(unit):
        if time.monotonic() > deadline:
            return False
        time.sleep(_BETWEEN)
    return True


def that_listen(pids: Collection[int]) -> set[int]:
    """Return those of `pids` that have a listening socket, TCP or unix.

    They are the processes of one unit, which share a network namespace.
    """
    sockets: set[str] = set()
    for pid in pids:
        with suppress(OSError):  # it has exited: another one's will do
            sockets = _listening_in(pid)
            break
    return {pid for pid in pids if _has_one_of(sockets, pid)}


def _listening_in(pid: int) -> set[str]:
    """Return the listening sockets in a process's network namespace, as links in fd/ name them."""
    found: set[str] = set()
    for table, (column, value, inode) in _TABLES.items():
        with open(f"/proc/{pid}/net/{table}") as stream:
            rows = (line.split() for line in stream)
            found |= {f"socket:[{row[inode]}]" for row in rows if row[column] == value}
    return found


def _has_one_of(sockets: set[str], pid: int) -> bool:
    with suppress(OSError):  # it has exited
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{name}") in sockets:
                    return True
    return False
