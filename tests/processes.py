"""What the kernel tells of another process: its state, what it has open; see proc(5)."""

import os
from pathlib import Path


def open_files(pid: int) -> list[str]:
    """What the descriptors of the process lead to, as the kernel names it."""
    found = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(fd))
        except OSError:
            continue
    return found


def state(pid: int) -> str:
    """Its state as one letter (S asleep, T stopped, Z not reaped); "" where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


def has_ended(pid: int) -> bool:
    """Whether it has ended. An orphan may stay a zombie: not every PID 1 reaps (containers)."""
    return state(pid) in ("", "Z", "X")
