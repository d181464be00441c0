"""Resolve paths inside an image (--root): its absolute links stay inside."""

import errno
import os
from pathlib import Path

from sdactivate.errors import Error, UsageError

MAX_LINKS = 40
"""Symbolic links that the kernel follows on the way to one path: path_resolution(7)."""


def refuse_missing(root: Path) -> None:
    """Raise UsageError where an image's root is not a directory: a mistyped one is not made."""
    if not root.is_dir():
        raise UsageError(f"--root: {str(root)!r} is not a directory; make it first")


def inside(root: Path, path: str) -> Path:
    """Return where the absolute `path` of the image at `root` is, as this host names it.

    It is what the kernel would find with `root` as its root directory (openat2(2),
    RESOLVE_IN_ROOT), and may not be there yet. No symbolic link is left in it below `root`.

    Raises Error where there are too many links, and OSError where one can't be read.
    """
    here: list[str] = []
    pending, links = path.split("/"), 0
    while pending:
        name = pending.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            here = here[:-1]
            continue
        try:
            target = os.readlink(root.joinpath(*here, name))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                raise
            here.append(name)  # it is not a link, or not there
            continue
        if (links := links + 1) > MAX_LINKS:
            raise Error(f"{path}: too many symbolic links in its path in {root}")
        here = [] if target.startswith("/") else here
        pending = target.split("/") + pending
    return root.joinpath(*here)
