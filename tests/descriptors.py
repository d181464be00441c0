"""What another process has open; see proc_pid_fd(5)."""

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
