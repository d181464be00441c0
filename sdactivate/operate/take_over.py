"""Copy a build's result, owned by root: plain files, directories, and links that stay inside.

The build's user has written the tree, and code in the build may have set traps for root in it. So
no link is followed: each directory is opened relative to its parent's descriptor, and each file is
checked after it is opened and must belong to the build's user (a hard link to another user's file
does not). The copy belongs to root, is readable by all, writable only by root, and has no setuid
bits. A process that still has a source file open can change that file, but not the copy.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sdactivate.errors import Error
from sdactivate.operate.unpack import DEEPEST, MOST_BYTES, MOST_FILES, stays_inside
from sdactivate.terminal import escape

_NOT_BY_THE_KERNEL = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_INTERPRETER = re.compile(r"bin/python[0-9.]*")
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class Taken(NamedTuple):
    """How much was copied."""

    files: int
    size: int
    """Bytes."""


class _Walk:
    def __init__(self, owner: int, interpreter: str) -> None:
        self.owner = owner
        self.interpreter = interpreter
        self.files = 0
        self.size = 0
        self.links: list[tuple[str, ...]] = []

    def directory(self, source: int, target: int, parts: tuple[str, ...]) -> None:
        for name in sorted(os.listdir(source)):
            self.entry(source, target, name, (*parts, name))

    def entry(self, source: int, target: int, name: str, parts: tuple[str, ...]) -> None:
        about = os.stat(name, dir_fd=source, follow_symlinks=False)
        self.files += 1
        if self.files > MOST_FILES or len(parts) > DEEPEST:
            raise Error(f"more than {MOST_FILES} files, or directories deeper than {DEEPEST}")
        if stat.S_ISLNK(about.st_mode):
            self.link(source, target, name, parts)
        elif stat.S_ISDIR(about.st_mode):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            with _opened(os.open(name, flags, dir_fd=source)) as inside:
                self.check(os.fstat(inside), parts)
                os.mkdir(name, 0o700, dir_fd=target)
                with _opened(os.open(name, flags, dir_fd=target)) as copy:
                    self.directory(inside, copy, parts)
                    _own(copy, 0o755, os.fstat(inside))
        elif stat.S_ISREG(about.st_mode):
            # Without O_NONBLOCK, opening would block if a FIFO had replaced the file.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with _opened(os.open(name, flags, dir_fd=source)) as file:
                self.check(os.fstat(file), parts)
                self.file(file, target, name)
        else:
            kind = _KINDS.get(stat.S_IFMT(about.st_mode), "of an unknown type")
            raise Error(f"{_shown(parts)} is {kind}; a release has files, directories and links")

    def check(self, about: os.stat_result, parts: tuple[str, ...]) -> None:
        if about.st_uid != self.owner:
            raise Error(f"{_shown(parts)} does not belong to the build's user")
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
            raise Error(f"{_shown(parts)} changed its type while it was copied")

    def link(self, source: int, target: int, name: str, parts: tuple[str, ...]) -> None:
        leads = os.readlink(name, dir_fd=source)
        if not stays_inside(parts, leads):
            if not (self.interpreter and _INTERPRETER.fullmatch("/".join(parts))):
                raise Error(f"{_shown(parts)} is a link to {escape(leads)}, outside the release")
            # The build must not choose where an environment's interpreter leads.
            leads = self.interpreter
        else:
            self.links.append(parts)
        os.symlink(leads, name, dir_fd=target)

    def file(self, source: int, target: int, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with _opened(os.open(name, flags, 0o600, dir_fd=target)) as copy:
            while count := _copy_some(source, copy):
                self.size += count
                if self.size > MOST_BYTES:
                    raise Error(f"more than {MOST_BYTES >> 30} GiB")
            about = os.fstat(source)
            _own(copy, 0o755 if about.st_mode & 0o100 else 0o644, about)


def take_over(source: Path, target: Path, owner: int, interpreter: str = "") -> Taken:
    """Copy the directory `source` to `target`, which must not exist; return how much was copied.

    `owner` is the build's user; files of other users are an error. `interpreter`, for an
    environment: the new target of links bin/python* that lead out of it. Raises Error for anything
    but plain files, directories and links that stay inside, and for too many files or bytes;
    OSError for a full disk.
    """
    walk = _Walk(owner, interpreter)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    with _opened(os.open(source, flags)) as inside:
        os.mkdir(target, 0o700)
        with _opened(os.open(target, flags)) as copy:
            walk.directory(inside, copy, ())
            _own(copy, 0o755, os.fstat(inside))
    # Through other links, a link may still lead outside. The copies can't change any more: check.
    top = os.path.realpath(target)
    for parts in walk.links:
        link = os.path.join(top, *parts)
        leads = os.path.realpath(link)
        is_inside = f"{leads}/".startswith(f"{top}/")
        if not is_inside and not (interpreter and leads == os.path.realpath(interpreter)):
            raise Error(
                f"{_shown(parts)} is a link to {escape(os.readlink(link))}, outside the release"
            )
    return Taken(walk.files, walk.size)


@contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy_some(source: int, target: int) -> int:
    """Copy the next part of one open file to the other; return its bytes, 0 at the end."""
    try:
        return os.copy_file_range(source, target, 1 << 26)
    except OSError as error:
        if error.errno not in _NOT_BY_THE_KERNEL:
            raise
    data = os.read(source, 1 << 20)
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return len(data)


def _own(descriptor: int, mode: int, about: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, 0, 0)
    os.fchmod(descriptor, mode)
    os.utime(descriptor, ns=(about.st_mtime_ns, about.st_mtime_ns))


def _shown(parts: tuple[str, ...]) -> str:
    return escape("/".join(parts))
