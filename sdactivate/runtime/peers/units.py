"""Match a peer's control group against the units of --allow-peer unit:NAME.

From Linux 6.13 on, the kernel tells the peer's control group, and its id is compared with those of
the units' directories under /sys/fs/cgroup. On older kernels /proc/PID/cgroup is read, which
ProtectProc= hides. With SO_PEERPIDFD (6.5) a pidfd detects that the process has exited; without it,
the PID of a peer that exits at once could be reused (a race).

A unit that restarts gets a new control group, so if none matches, the units are looked up again
before the peer is refused. `systemd.cgroup` decides which unit a control group belongs to, for the
doctor as well.
"""

import errno
import os
import select
import socket
from _socket import socket as raw_socket
from collections.abc import Callable

from sdactivate.errors import Error
from sdactivate.runtime.peers import peercred
from sdactivate.systemd import cgroup

Check = Callable[[raw_socket], bool]


def unit_check(units: list[str]) -> Check:
    """Return the best check for `units` that works here. Raises Error if none does."""
    kernel = ByCgroupId(units)
    reason = kernel.unfit()
    if reason is None:
        return kernel
    proc = ByProc(units)
    if not proc.works():
        raise Error(
            f"allow-peer unit:{units[0]}: can't find out the peer's unit here: {reason}, and "
            "/proc/PID/cgroup of other processes is hidden. Set ProtectProc=default in the "
            "service unit"
        )
    return proc


class ByCgroupId:
    """Compares the peer's control group, from the kernel, with those of the units."""

    def __init__(self, units: list[str]) -> None:
        self.units = units
        self.root = cgroup.root()
        self.known: dict[str, str] = {}  # by unit: where its control group was found
        self.ids = self.look() if self.root else frozenset()

    def __call__(self, connection: raw_socket) -> bool:
        number = peercred.cgroup_id(connection)
        if number in self.ids:
            return True
        self.ids = self.look()
        return number in self.ids

    def unfit(self) -> str | None:
        """Return why this check does not work here; None if it does."""
        if not self.root:
            return "no cgroup2 file system is mounted at /sys/fs/cgroup"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                number = peercred.cgroup_id(ours)
            except OSError as error:
                return f"this kernel doesn't report it (Linux 6.13 does): {error.strerror}"
        try:
            if number == os.stat(self.root + _own_cgroup()).st_ino:
                return None
        except OSError:
            pass
        return f"this process's own control group isn't found below {self.root}"

    def look(self) -> frozenset[int]:
        """Return the ids of the units' control groups and of the groups inside them."""
        found: set[int] = set()
        for unit in self.units:
            top = self.known.get(unit)
            if top is None or not os.path.isdir(top):
                top = next(cgroup.places(self.root, unit), None)
            if top is not None:
                self.known[unit] = top
                for directory, _, _ in os.walk(top):
                    try:
                        found.add(os.stat(directory).st_ino)
                    except OSError:  # it has been removed meanwhile
                        continue
        return frozenset(found)


def _own_cgroup() -> str:
    with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        return cgroup.path_of(file.read())


class ByProc:
    """Reads the unit from /proc/PID/cgroup, for older kernels."""

    def __init__(self, units: list[str]) -> None:
        self.units = frozenset(units)

    def __call__(self, connection: raw_socket) -> bool:
        pid = peercred.credentials(connection)[0]
        try:
            pidfd = peercred.pidfd(connection)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:  # the process has exited
                raise
            return cgroup.unit_of(_cgroup_text(pid)) in self.units
        try:
            unit = cgroup.unit_of(_cgroup_text(pid))
            _make_sure_it_lives(pidfd)  # it still exists, so the PID was not reused while we read
        finally:
            os.close(pidfd)
        return unit in self.units

    def works(self) -> bool:
        """Whether other users' processes are visible: under systemd PID 1 is another user's."""
        try:
            _cgroup_text(1 if os.getpid() != 1 else 0)
        except OSError:
            return False
        return True


def _cgroup_text(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        return file.read()


def _make_sure_it_lives(pidfd: int) -> None:
    """Raise OSError if the process of `pidfd` has exited; then it is readable (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0):
        raise ProcessLookupError
