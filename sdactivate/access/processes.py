"""Running processes: their identity, unit, and view of the file system.

A running process has the groups it got when it started, not those in /etc/group: a later
usermod(8) takes effect after a restart. So "can nginx connect" is answered for nginx's
processes, not only for its account.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from sdactivate import mounts
from sdactivate.access.permissions import Identity, Range
from sdactivate.systemd.cgroup import unit_of

_OVERRIDE, _SEARCH = 1 << 1, 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: capabilities(7)


class Process(NamedTuple):
    """One process. `root` is a path to its root directory: "/" if it is the same as ours.

    `view` is equal for two processes that see the same files. None: it can't be examined.
    """

    pid: int
    name: str
    unit: str
    identity: Identity
    root: str
    view: tuple[object, ...] | None


def parse_status(text: str) -> tuple[str, Identity]:
    """Return the name and the identity in the text of /proc/PID/status (proc_pid_status(5)).

    The ids are the file-system ids (the fourth), which the kernel checks access with.
    Raises ValueError if a required line is missing or not a number.
    """
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        capabilities = int(fields["CapEff"], 16)
        identity = Identity(
            int(fields["Uid"].split()[3]),
            int(fields["Gid"].split()[3]),
            frozenset(map(int, fields["Groups"].split())),
            bool(capabilities & _OVERRIDE),
            bool(capabilities & _SEARCH),
        )
        return fields["Name"].strip(), identity
    except (KeyError, IndexError) as error:
        raise ValueError(f"a process's status has no {error}") from None


def parse_ranges(text: str) -> tuple[Range, ...] | None:
    """Return the ids mapped in the text of /proc/PID/uid_map; None: all (user_namespaces(7))."""
    rows = [tuple(map(int, line.split())) for line in text.splitlines()]
    ranges = tuple(Range(outside, count) for _, outside, count in rows)
    return None if ranges == (Range(0, 0xFFFFFFFF),) else ranges


def running(proc: str = "/proc") -> Iterator[Process]:
    """Yield every process except kernel threads and those that exit in the meantime."""
    known: dict[tuple[str, str], bool] = {}
    ours = _view(f"{proc}/self", known)
    for entry in sorted(filter(str.isdigit, os.listdir(proc)), key=int):
        directory = f"{proc}/{entry}"
        try:
            status = _read(f"{directory}/status")
            if "\nVmSize:" not in status:  # a kernel thread, or a zombie
                continue
            name, identity = parse_status(status)
            unit = unit_of(_read(f"{directory}/cgroup"))
            identity = identity._replace(
                uids=parse_ranges(_read(f"{directory}/uid_map")),
                gids=parse_ranges(_read(f"{directory}/gid_map")),
            )
        except (OSError, ValueError):  # it has exited, or is hidden (proc(5), hidepid)
            continue
        view = _view(directory, known)
        root = "/" if view == ours else f"{directory}/root"
        yield Process(int(entry), name, unit, identity, root, view)


def _view(directory: str, known: dict[tuple[str, str], bool]) -> tuple[object, ...] | None:
    """Return a key that identifies the root of a process; None if it can't be examined.

    known: whether a root answers, by mount namespace and by its path there.
    """
    try:
        namespace, path = mounts.namespace(directory), os.readlink(f"{directory}/root")
        if (namespace, path) not in known:
            known[namespace, path] = _answers(f"{directory}/root")
        root = os.stat(f"{directory}/root/.") if known[namespace, path] else None
        return (namespace, root.st_dev, root.st_ino) if root else None
    except OSError:
        return None


def _answers(root: str) -> bool:
    mount = mounts.seen_from(root).get("/")
    return mount is None or mounts.answers(mount, root)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
