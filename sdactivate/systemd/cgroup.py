"""Which unit a control group belongs to, and which processes it has (cgroups(7)).

systemd keeps the processes of each unit in a control group below those of the unit's slices:
/system.slice/nginx.service. So the unit is the first part of the path that is not a slice, if it
has the form of a unit's name. What lies below a unit belongs to the unit's user, who may give
directories there any name: user@1000.service, a container's init. A directory that is neither a
slice nor a unit, such as /docker, is not managed by systemd, and nothing below it is.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress

ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where the unified hierarchy is mounted: alone, or beside those of version 1."""

# Not compiled here: a serving process without --allow-peer imports this module but never uses them
_SLICE = r"[A-Za-z0-9:_.\\@-]+\.slice"
_UNIT = r"[A-Za-z0-9:_.\\@-]+\.(service|scope|socket|mount|swap)"


def root() -> str:
    """Return where the unified hierarchy is mounted, "" if it is not."""
    return next((it for it in ROOTS if os.path.exists(f"{it}/cgroup.controllers")), "")


def path_of(text: str) -> str:
    """Return the control group of a process from the text of its /proc/PID/cgroup.

    It is that of the unified hierarchy, or of systemd's own one if the unified one is not in use
    (its path is "/") or not listed; "/" if neither is listed. Lines of another form are ignored.
    """
    paths = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers or number == "0":
            paths[controllers] = path.removesuffix(" (deleted)")
    unified = paths.get("", "/")
    return unified if unified != "/" else paths.get("name=systemd", "/")


def unit_at(path: str) -> str:
    """Return the unit that the control group at `path` (/system.slice/x.service/y) belongs to.

    `path` begins at the root of the hierarchy. Returns "" for none.
    """
    for part in path.split("/"):
        if part and not re.fullmatch(_SLICE, name := _unescaped(part)):
            return name if re.fullmatch(_UNIT, name) else ""
    return ""


def unit_of(text: str) -> str:
    """Return the unit in the text of /proc/PID/cgroup: a unit of the system manager.

    Returns "" for none.
    """
    return unit_at(path_of(text))


def _unescaped(part: str) -> str:
    """systemd prefixes _ to names that could clash with the kernel's own files."""
    return part.removeprefix("_")


def places(directory: str, unit: str) -> Iterator[str]:
    """Yield the directories of the control group of `unit` below `directory`; search only slices.

    `directory` is the root of the hierarchy as it is mounted, or a slice in it. `unit_at` returns
    `unit` for each of them.
    """
    try:
        entries = [it for it in os.scandir(directory) if it.is_dir(follow_symlinks=False)]
    except OSError:  # it was removed in the meantime
        return
    for entry in entries:
        name = _unescaped(entry.name)
        if re.fullmatch(_SLICE, name):
            yield from places(entry.path, unit)
        elif name == unit and re.fullmatch(_UNIT, unit):
            yield entry.path


def processes(group: str, most: int = 4096) -> list[int]:
    """Return the PIDs in the control group `group` and in those below it, `most` at most.

    group: what systemd says by ControlGroup=; "" for none, and none for the root of the hierarchy.
    """
    found: list[int] = []
    if not group.startswith("/") or group == "/" or not (top := root()):
        return found
    for directory, _, files in os.walk(top + group):
        if "cgroup.procs" in files:
            with suppress(OSError), open(f"{directory}/cgroup.procs") as stream:  # removed since
                found += map(int, stream.read().split())
        if len(found) >= most:
            break
    return found[:most]


def unit_with(number: int) -> str:
    """Return the unit whose control group, or one inside it, has this id (its inode number).

    Raises LookupError if there is none.
    """
    if top := root():
        for directory, _, _ in os.walk(top):
            try:
                found = os.stat(directory).st_ino == number
            except OSError:  # it was removed in the meantime
                continue
            if found and (unit := unit_at(directory.removeprefix(top))):
                return unit
    raise LookupError(f"no unit has control group {number}")
