"""Open a socket's parent directory, and check that no other user can replace files in it.

A user who can write a directory can replace files in it: a socket by one of their own, or a
directory by a symbolic link to elsewhere. So the path from / to the socket is walked one name at a
time, each opened relative to its parent (openat(2) with O_NOFOLLOW), and each directory must be
trusted before the next name is looked up in it:

- it belongs to root or to the user who runs the launcher;
- nobody else can write to it. (This includes access control lists: the mode shows their mask as the
  group's bits.) A sticky directory such as /tmp is allowed, except as the last one: in it, users
  can't rename or remove files of another user.

This module itself follows symbolic links in trusted directories, such as /var/run -> /run. The last
name, the socket's own, is never followed; see sockets.py.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from sdactivate.errors import Error

_LINKS = 40  # the kernel's limit: path_resolution(7)


class UnsafeDirectory(Error):
    """`sdactivate launch`: another user could replace a directory on the way to the socket."""


@contextmanager
def holding_parent(path: str, *, writers: bool = False) -> Iterator[tuple[int, str]]:
    """Yield an O_PATH descriptor of the parent directory of `path`, and the last name.

    `path` must be absolute. Raises UnsafeDirectory if other users could replace files there, and
    Error if there is no such directory or it can't be searched.

    writers: allow directories that others can write, for a file that no other program must find
    again, such as a log. Links are still followed only if they belong to a trusted user.
    """
    directory, name = os.path.split(path)
    if not directory.startswith("/") or name in ("", ".", ".."):
        raise Error(f"{path!r} is not the absolute path of a file, such as /run/NAME.sock")
    fd = _walk(directory, writers=writers)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _walk(directory: str, *, writers: bool) -> int:
    """Return an O_PATH descriptor of `directory`, after checking every directory on its path."""
    way = [(os.open("/", os.O_PATH | os.O_DIRECTORY), "/")]
    names, links = directory.split("/")[::-1], 0
    try:
        while names:
            parent, path = way[-1]
            _check(parent, path, sticky=True, writers=writers)
            name = names.pop()
            if name == "..":
                if len(way) > 1:
                    os.close(way.pop()[0])
            elif name not in ("", "."):
                way.append(_step(parent, path, name))
                if target := _link(*way[-1]):
                    links += 1
                    if links > _LINKS:
                        raise Error(f"{directory}: too many symbolic links; see {way[-1][1]}")
                    while len(way) > 1 and (target.startswith("/") or way[-1][0] != parent):
                        os.close(way.pop()[0])
                    names += target.split("/")[::-1]
        _check(*way[-1], sticky=False, writers=writers)
        return os.dup(way[-1][0])
    finally:
        for fd, _ in way:
            os.close(fd)


def _step(parent: int, path: str, name: str) -> tuple[int, str]:
    here = os.path.join(path, name)
    try:
        return os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=parent), here
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        hint = "; create the socket's directory first" if missing else ""
        raise Error(f"{here}: {error.strerror}{hint}") from None


def _link(fd: int, path: str) -> str:
    """Return the target of the symbolic link `fd`; "" if it is a directory."""
    found = os.fstat(fd)
    if stat.S_ISDIR(found.st_mode):
        return ""
    if not stat.S_ISLNK(found.st_mode):
        raise Error(f"{path} is not a directory")
    _check_owner(found, path)
    return os.readlink("", dir_fd=fd)


def _check(fd: int, directory: str, *, sticky: bool, writers: bool) -> None:
    """Raise UnsafeDirectory unless it is trusted; `sticky`, `writers`: accept such directories."""
    found = os.fstat(fd)
    _check_owner(found, directory)
    others = [
        who
        for bit, who in ((stat.S_IWGRP, "its group"), (stat.S_IWOTH, "everybody"))
        if found.st_mode & bit
    ]
    is_sticky = bool(found.st_mode & stat.S_ISVTX)
    if others and not (writers or (sticky and is_sticky)):
        repair = "" if is_sticky else f", or fix this one: chmod go-w {directory}"  # never /tmp
        raise UnsafeDirectory(
            f"{directory} can be written by {' and '.join(others)} (mode "
            f"{stat.S_IMODE(found.st_mode):04o}), who could then replace the socket. Use a "
            f"directory that only root can write, such as /run{repair}"
        )


def _check_owner(found: os.stat_result, path: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise UnsafeDirectory(
            f"{path} belongs to user {found.st_uid}, who could then replace the socket. Use a "
            "directory that belongs to root, such as /run"
        )
