"""Resolve paths inside an image (--root): absolute links lead to paths inside it."""

import errno
import os
from pathlib import Path

from sdactivate.errors import Error, UsageError

MAX_LINKS = 40
"""Symbolic links that the kernel follows on the way to one path: path_resolution(7)."""


def refuse_missing(root: Path) -> None:
    """Raise UsageError if an image's root is not a directory: a mistyped one is not created."""
    if not root.is_dir():
        raise UsageError(f"--root: {str(root)!r} is not a directory; create it first")


def inside(root: Path, path: str) -> Path:
    """Return the path on this host for the absolute `path` of the image at `root`.

    It is what the kernel would find with `root` as its root directory (openat2(2),
    RESOLVE_IN_ROOT), and need not exist yet. It contains no symbolic link below `root`.

    Raises Error if there are too many links, and OSError if one can't be read.
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
            here.append(name)  # not a link, or it does not exist
            continue
        if (links := links + 1) > MAX_LINKS:
            raise Error(f"{path}: too many symbolic links in its path in {root}")
        here = [] if target.startswith("/") else here
        pending = target.split("/") + pending
    return root.joinpath(*here)
