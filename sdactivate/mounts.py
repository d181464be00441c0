"""Find network and FUSE file systems, and test with a time limit whether each answers.

A process that examines a path on such a file system waits for a server or another process: forever
if that is gone, and often in a state that no signal interrupts. So a child process, which may be
left behind, tests each mount once before anything else uses it.

A mount that has answered may still stop answering later, or hang at single files. That is not
detected.
"""

import contextlib
import ctypes
import os
import re
import select
import signal
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from sdactivate.errors import Error

SECONDS = 3.0
"""How long the mounts of one test may take to answer, all together."""
_NETWORK = frozenset(
    {"9p", "afs", "autofs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs", "virtiofs"}
)
# In proc_pid_mountinfo(5) a space, a tab, a newline and a backslash are written in octal
_OCTAL = re.compile(r"\\([0-7]{3})")
_CLONE_NEWNS = 0x00020000  # sched.h
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18  # sys/mount.h
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


class Mount(NamedTuple):
    """A mounted file system: its device number, mount point, type, and source."""

    device: str
    point: str
    kind: str
    source: str

    def __str__(self) -> str:
        return f"{self.point} ({self.kind}, {self.source})"


def may_hang(kind: str) -> bool:
    """Return whether a file system of this type depends on another process or another host."""
    return kind in _NETWORK or (kind.startswith("fuse") and kind != "fusectl")


def parse(text: str) -> list[Mount]:
    """Return the mounts in the text of a /proc/PID/mountinfo that may hang, in its order."""
    found = []
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if dash and len(left) >= 6 and len(right) >= 2 and may_hang(right[0]):
            found.append(Mount(left[2], _plain(left[4]), right[0], _plain(right[1])))
    return found


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda it: chr(int(it[1], 8)), text)


@lru_cache(maxsize=256)
def seen_from(root: str = "/") -> Mapping[str, Mount]:
    """Return the mounts that may hang, by their path as seen from `root`.

    root: "/", or another process's: /proc/PID/root. Empty if that process has exited.
    """
    directory = "/proc/self" if root == "/" else os.path.dirname(root)
    try:
        with open(f"{directory}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return {it.point: it for it in parse(file.read())}
    except OSError:
        return {}


_answered: dict[str, bool] = {}  # by device: one file system may be mounted in many places


def answers(mount: Mount, root: str = "/") -> bool:
    """Return whether a mount, seen from `root`, answers in time. Each is tested once."""
    if mount.device not in _answered:
        real = root.rstrip("/") + mount.point
        _answered[mount.device] = not without_answer([real])
    return _answered[mount.device]


def silent() -> list[Mount]:
    """Return the mounts of this process that don't answer.

    Those of autofs are not tested: that would mount the file systems that they stand for.
    """
    mounts = [it for it in seen_from().values() if it.kind != "autofs"]
    unknown = {it.point: it for it in mounts if it.device not in _answered}
    late = without_answer(unknown)
    for point, mount in unknown.items():
        _answered[mount.device] = point not in late
    return [it for it in mounts if not _answered[it.device]]


def forget() -> None:
    """Forget the mounts and the results, so that they are read and tested again."""
    seen_from.cache_clear()
    _answered.clear()


def without_answer(paths: Iterable[str], seconds: float = SECONDS) -> set[str]:
    """Return those of `paths` at which stat(2) and statfs(2) have not returned in time.

    An error is an answer. A child process that no signal can interrupt is left behind.
    """
    asked = {_ask(path): path for path in paths}
    poll = select.poll()
    for reader, _ in asked:
        poll.register(reader, select.POLLIN)
    late = dict(asked)
    until = time.monotonic() + seconds
    while late and (left := until - time.monotonic()) > 0:
        for reader, _ in poll.poll(left * 1000):
            poll.unregister(reader)
            late = {it: path for it, path in late.items() if it[0] != reader}
    for reader, child in asked:
        os.close(reader)
        if (reader, child) in late:
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG if (reader, child) in late else 0)
    return set(late.values())


def _ask(path: str) -> tuple[int, int]:
    """Start a child process that examines `path`.

    Return a descriptor that is readable once it has finished, and its PID.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return reader, child
    try:
        # If this process hangs, nothing must wait for descriptors that it keeps open
        os.dup2(writer, 0)
        os.closerange(1, os.sysconf("SC_OPEN_MAX"))
        with contextlib.suppress(OSError, ValueError):
            os.stat(path)
            os.statvfs(path)
    finally:
        os._exit(0)


_left_out: set[str] = set()
_before: dict[str, str] = {}  # the mount namespace of this process before `leave_out`


def namespace(directory: str) -> str:
    """Return an identifier of the mount namespace of the process at /proc/PID.

    For this process it is that of the namespace it had before `leave_out`, whose files it still
    sees. Raises OSError as readlink(2) does.
    """
    if _before and os.path.basename(directory) in ("self", str(os.getpid())):
        return _before["mnt"]
    return os.readlink(f"{directory}/ns/mnt")


def leave_out(mounts: Iterable[Mount]) -> None:
    """Unmount `mounts` for this process and its children only.

    They then see the directory below the mount instead, which is usually empty. Raises Error if
    this process can't have a mount namespace of its own: it would hang at these mounts.
    """
    new = {it.point for it in mounts} - _left_out
    points = sorted(new, key=len, reverse=True)
    if not points:
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def call(failed: int) -> None:
        if failed:
            why = os.strerror(ctypes.get_errno())
            raise Error(
                f"{', '.join(points)}: the file system there does not answer, and can't be left "
                f"out of what is examined ({why})"
            )

    _before.setdefault("mnt", namespace("/proc/self"))
    call(libc.unshare(_CLONE_NEWNS))
    # This first: an unmount in a shared mount would affect every process
    call(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    for point in points:
        call(libc.umount2(os.fsencode(point), _MNT_DETACH | _UMOUNT_NOFOLLOW))
        _left_out.add(point)
