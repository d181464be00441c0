"""Who is calling: the runtime's own check of the peer, behind the socket's mode.

The mode and group of the socket decide who can connect. That is enough until somebody opens it
by mistake, or runs PHP as the front's own user. The rules of --allow-peer then hold the door:
a connection is served if its peer matches one of them, and closed otherwise.

- `user:` and `group:` compare what the kernel noted when the peer connected: SO_PEERCRED and
  SO_PEERGROUPS, unix(7) and socket(7). In a user namespace of our own (PrivateUsers=yes) every
  foreign id is 65534.
- `unit:` compares control groups, for systemd keeps each unit's processes in one (cgroups(7)).
  From Linux 6.13 the kernel itself says which: SO_PEERPIDFD is a descriptor of the very process
  that connected, immune to the reuse of its number, and PIDFD_GET_INFO gives the id of its
  control group, the inode of the directory under /sys/fs/cgroup. Before, /proc/PID/cgroup is
  read, which ProtectProc= hides; with SO_PEERPIDFD (6.5) the process is held while reading,
  without it a peer that exits at once could have its number taken by another (a race).

A unit that restarts gets a new control group, so one that doesn't match is looked up again
before it is refused. Only slices are searched: below a service, in user@1000.service say, the
directories belong to somebody who may call them as he likes.

Whether the check can work is found out once, at the start, on a socket pair of our own. What
can't be checked is an error then; it is never an open door.
"""

import contextlib
import errno
import grp
import os
import pwd
import select
import socket
import struct
import time
from _socket import socket as raw_socket
from collections.abc import Callable, Iterable, Iterator
from fcntl import ioctl

from sdactivate.errors import Error
from sdactivate.peer_rules import PeerRule, parse_rule
from sdactivate.runtime import log

_SO_PEERGROUPS, _SO_PEERPIDFD = 59, 77  # asm-generic/socket.h; Python has no names for them
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_MOST_GROUPS = 1024  # bytes, all that Python's getsockopt takes; a peer in more than 256 is refused
# linux/pidfd.h: struct pidfd_info begins with u64 mask, u64 cgroupid, u32 pid …
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)
_CGROUPID = struct.Struct("=QQ48x")
_PIDFD_INFO_CGROUPID = 1 << 2
_ASKED = _CGROUPID.pack(_PIDFD_INFO_CGROUPID, 0)

_CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_SECONDS_BETWEEN_LINES = 60

Check = Callable[[raw_socket], bool]


class Gate:
    """Lets the peers in that the rules allow.

    Args:
        rules: those of --allow-peer; a peer that matches any of them is let in, and every peer
            where there is none.
        sockets: the listening sockets that the connections come from.

    Raises UsageError for a rule that means nothing, Error where a rule can't be checked: an
    unknown user or group, a socket that isn't AF_UNIX, a sandbox or kernel that hides the peer.
    """

    def __init__(self, rules: Iterable[str], sockets: Iterable[socket.socket] = ()) -> None:
        self.rules = tuple(parse_rule(text) for text in rules)
        if self.rules:
            for listening in sockets:
                if listening.family != socket.AF_UNIX:
                    raise Error(
                        f"allow-peer: {listening.getsockname()} is no unix socket, and only "
                        f"those tell who has connected: give it an AF_UNIX path instead"
                    )
        self._checks = tuple(_checks(self.rules))
        self._refused = 0
        self._said = -float(_SECONDS_BETWEEN_LINES)

    def admits(self, fd: int) -> bool:
        """Whether the peer of the accepted connection `fd` may be served; `fd` stays open.

        A refusal is logged, at most once a minute. Never raises: a peer that has gone, or can't
        be told, is refused.
        """
        if not self._checks:
            return True
        # The C class itself, with everything given: it asks the kernel nothing.
        connection = raw_socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        try:
            for check in self._checks:
                try:
                    if check(connection):
                        return True
                except (OSError, ValueError):  # it has gone, or what is known of it is nonsense
                    continue
            self._refuse(connection)
            return False
        finally:
            connection.detach()

    def _refuse(self, connection: raw_socket) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        count, self._refused, self._said = self._refused, 0, now
        more = f", and {count - 1} more since the last such line" if count > 1 else ""
        log.say(
            log.WARNING,
            f"refused a connection from {_describe(connection)}{more}: "
            f"allow-peer has {' '.join(map(str, self.rules))}",
        )


def _checks(rules: tuple[PeerRule, ...]) -> Iterator[Check]:
    """Yield one check for each kind of rule, having made sure that it works here."""
    names = {
        kind: [rule.name for rule in rules if rule.kind == kind]
        for kind in ("unit", "user", "group")
    }
    if names["unit"]:
        yield _unit_check(names["unit"])
    if names["user"]:
        uids = frozenset(_seen(rule, "uid_map") for rule in rules if rule.kind == "user")
        yield lambda connection: _credentials(connection)[1] in uids
    if names["group"]:
        gids = frozenset(_seen(rule, "gid_map") for rule in rules if rule.kind == "group")
        yield (
            lambda connection: (
                _credentials(connection)[2] in gids or not gids.isdisjoint(_groups(connection))
            )
        )


# Users and groups


def _credentials(connection: raw_socket) -> tuple[int, int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


def _groups(connection: raw_socket) -> tuple[int, ...]:
    raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS)
    return struct.unpack(f"={len(raw) // 4}I", raw)


def _seen(rule: PeerRule, mapping: str) -> int:
    """Return the id that `rule` names, having made sure that a peer's shows as that id here."""
    number = _id(rule)
    with open(f"/proc/self/{mapping}", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    if not any(
        inside == outside and inside <= number < inside + size for inside, outside, size in ranges
    ):
        raise Error(
            f"allow-peer {rule}: in this sandbox every other {rule.kind} shows as nobody. "
            f"Set PrivateUsers=no in the service unit, or allow a unit: instead"
        )
    return number


def _id(rule: PeerRule) -> int:
    try:
        if rule.name.isdigit():
            return int(rule.name)
        if rule.kind == "user":
            return pwd.getpwnam(rule.name).pw_uid
        return grp.getgrnam(rule.name).gr_gid
    except KeyError:
        raise Error(
            f"allow-peer {rule}: there is no such {rule.kind} on this host; "
            f"make it first, or give its number"
        ) from None


# Units, by the kernel


def _unit_check(units: list[str]) -> Check:
    kernel = _ByCgroupId(units)
    reason = kernel.unfit()
    if reason is None:
        return kernel
    proc = _ByProc(units)
    if not proc.works():
        raise Error(
            f"allow-peer unit:{units[0]}: the peer's unit can't be told here: {reason}, and "
            f"/proc/PID/cgroup of other processes is hidden. Set ProtectProc=default in the "
            f"service unit"
        )
    return proc


class _ByCgroupId:
    """Compares the control group that the kernel gives with those of the units."""

    def __init__(self, units: list[str]) -> None:
        self.units = units
        self.root = next(
            (root for root in _CGROUP_ROOTS if os.path.exists(f"{root}/cgroup.controllers")), ""
        )
        self.known: dict[str, str] = {}  # unit: where it was found
        self.ids = self.look() if self.root else frozenset()

    def __call__(self, connection: raw_socket) -> bool:
        cgroup = _cgroup_id(connection)
        if cgroup in self.ids:
            return True
        self.ids = self.look()
        return cgroup in self.ids

    def unfit(self) -> str | None:
        """Return why this way can't be gone here, None where it can."""
        if not self.root:
            return "no cgroup2 file system is mounted at /sys/fs/cgroup"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                cgroup = _cgroup_id(ours)
            except OSError as error:
                return f"the kernel doesn't say it (Linux 6.13 does): {error.strerror}"
        try:
            if cgroup == os.stat(self.root + _own_cgroup()).st_ino:
                return None
        except OSError:
            pass
        return f"our own control group isn't where {self.root} should have it"

    def look(self) -> frozenset[int]:
        """Return the ids of the control groups of the units, those inside them included."""
        found: set[int] = set()
        for unit in self.units:
            top = self.known.get(unit)
            if top is None or not os.path.isdir(top):
                top = next(_places(self.root, unit), None)
            if top is not None:
                self.known[unit] = top
                for directory, _, _ in os.walk(top):
                    try:
                        found.add(os.stat(directory).st_ino)
                    except OSError:  # it has ended meanwhile
                        continue
        return frozenset(found)


def _cgroup_id(connection: raw_socket) -> int:
    pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    try:
        mask, cgroup = _CGROUPID.unpack(ioctl(pidfd, _PIDFD_GET_INFO, _ASKED))
    finally:
        os.close(pidfd)
    if not mask & _PIDFD_INFO_CGROUPID:
        raise OSError("the kernel has no control group for the peer")
    return int(cgroup)


def _own_cgroup() -> str:
    with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        return _unified(file.read())


def _unified(text: str) -> str:
    """Return the path in /proc/PID/cgroup of the unified hierarchy, or systemd's own before it."""
    paths = {name: path for _, name, path in (line.split(":", 2) for line in text.splitlines())}
    unified = paths.get("", "/")
    return unified if unified != "/" else paths.get("name=systemd", "/")


def _places(directory: str, unit: str) -> Iterator[str]:
    """Yield where the control group of `unit` lies, looking only into slices."""
    try:
        entries = [entry for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in entries:
        # systemd puts _ before names that the kernel could take for files of its own
        if entry.name in (unit, f"_{unit}"):
            yield entry.path
    for entry in entries:
        if entry.name.endswith(".slice"):
            yield from _places(entry.path, unit)


# Units, by /proc


class _ByProc:
    """Reads the unit from /proc/PID/cgroup, for kernels that don't tell it otherwise."""

    def __init__(self, units: list[str]) -> None:
        self.units = frozenset(units)

    def __call__(self, connection: raw_socket) -> bool:
        pid = _credentials(connection)[0]
        try:
            pidfd = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:  # it has ended
                raise
            return unit_of(_cgroup_text(pid)) in self.units
        try:
            unit = unit_of(_cgroup_text(pid))
            _make_sure_it_lives(pidfd)  # then the number was its own while we read
        finally:
            os.close(pidfd)
        return unit in self.units

    def works(self) -> bool:
        """Whether others' processes can be seen; where there are units, PID 1 is never ours."""
        try:
            _cgroup_text(1 if os.getpid() != 1 else 0)
        except OSError:
            return False
        return True


def _cgroup_text(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
        return file.read()


def _make_sure_it_lives(pidfd: int) -> None:
    """Raise OSError if the process of `pidfd` has ended: then it is readable (pidfd_open(2))."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0):
        raise ProcessLookupError


def unit_of(text: str) -> str:
    """Return the system unit in the text of /proc/PID/cgroup: the first part that is no slice."""
    for part in _unified(text).split("/"):
        if part and not part.endswith(".slice"):
            return part.removeprefix("_")
    return ""


# What the log says of a stranger


def _describe(connection: raw_socket) -> str:
    words = []
    try:
        pid, uid, gid = _credentials(connection)
        words += [f"process {pid}" if pid else "a process of another namespace"]
        words += [f"uid {uid}, gid {gid}"]
    except OSError:
        words.append("a process that can't be told")
    with contextlib.suppress(OSError, LookupError):
        words.append(f"unit {_unit_named(_cgroup_id(connection))}")
    return ", ".join(words)


def _unit_named(cgroup: int) -> str:
    root = next(root for root in _CGROUP_ROOTS if os.path.exists(f"{root}/cgroup.controllers"))
    for directory, _, _ in os.walk(root):
        if os.stat(directory).st_ino == cgroup:
            return unit_of(f"0::{directory.removeprefix(root)}")
    raise LookupError
