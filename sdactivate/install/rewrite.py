"""Change a file that root trusts, atomically, and only in a directory that others can't write.

The directory is opened once, and everything happens through its descriptor. If someone replaces
the directory or the file by a link in the meantime, nothing outside it is written to.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from sdactivate.access.only_root import changed_by, refuse_unfit
from sdactivate.access.path_walk import read_node
from sdactivate.errors import Error

_IN = os.O_NOFOLLOW | os.O_CLOEXEC


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace the text `old` of the file `path` by `new`, and keep its owner and mode.

    old: "" if there is no file; then it is created with mode 0644.

    A reader sees either the old or the new text, and the new text is synced to disk before the
    rename. Raises Error if users other than root and the caller can change the file or its path, or
    write to its directory, and if its text is not `old`. Raises OSError.
    """
    path = path.absolute()
    real = path.resolve()
    folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | _IN)
    try:
        # Open first, then check: if nobody else can change the path, it still leads here
        refuse_unfit(path)
        if not os.path.samestat(os.fstat(folder), os.stat(path.resolve().parent)):
            raise Error(f"{path}: its directory was moved meanwhile; nothing was written")
        node = read_node(f"/proc/self/fd/{folder}/.", str(real.parent))
        if why := changed_by(node, sticky=False):
            raise Error(f"{path}: users other than root can write to {real.parent} ({why})")
        about = _refuse_changed(path, folder, real.name, old)
        _put(folder, real.name, new, about)
    finally:
        os.close(folder)


def _refuse_changed(path: Path, folder: int, name: str, old: str) -> os.stat_result | None:
    """Return the file's status, None if there is none. Raises Error if its text is not `old`."""
    about, has = None, b""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _IN, dir_fd=folder)
    except FileNotFoundError:
        pass
    else:
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Error(f"{path}: not a regular file")
            has = file.read()
    if has != old.encode(errors="surrogateescape"):
        raise Error(f"{path} was changed meanwhile; nothing was written")
    return about


def _put(folder: int, name: str, text: str, about: os.stat_result | None) -> None:
    draft = f".{name[:64]}.{secrets.token_hex(8)}.sdactivate-draft"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _IN
    try:
        with open(os.open(draft, flags, 0o600, dir_fd=folder), "wb") as file:
            file.write(text.encode(errors="surrogateescape"))
            file.flush()
            if about:
                os.fchown(file.fileno(), about.st_uid, about.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(about.st_mode) if about else 0o644)
            os.fsync(file.fileno())
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise
    os.fsync(folder)
