"""Open a socket's parent directory, and check that nobody else can replace what is in it.

Anyone who can write a directory can replace what is in it: a socket by one of his own, or a
directory on the way by a symbolic link to elsewhere. So the way from / to the socket is
walked one name at a time, each opened relative to the directory before it (openat(2) with
O_NOFOLLOW), and each directory must be in trusted hands before the next name is read from it:

- it belongs to root or to the user who runs the launcher;
- nobody else can write it. (An access control list shows here too: its mask stands where
  the group's bits are.) On the way, not at its end, a sticky directory such as /tmp is good
  enough: there nobody can rename or remove what another user owns.

Symbolic links in trusted directories are followed, by hand: /var/run -> /run is one. The
last name, the socket's own, is never followed; see sockets.py.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from sdactivate.errors import Error

_LINKS = 40  # as many as the kernel follows: path_resolution(7)


class UnsafeDirectory(Error):
    """`sdactivate launch`: another user could replace a directory on the way to the socket."""


@contextmanager
def holding_parent(path: str, *, writers: bool = False) -> Iterator[tuple[int, str]]:
    """Yield an O_PATH descriptor of the directory that `path` is in, and the last name.

    `path` must be absolute. Raises UnsafeDirectory where others could replace what we make
    there, and Error where there is no such directory or it can't be searched.

    writers: others may write the directories. That is for a file which nobody has to find
    again, such as a log: what leads there is still in trusted hands, for no link is theirs.
    """
    directory, name = os.path.split(path)
    if not directory.startswith("/") or name in ("", ".", ".."):
        raise Error(
            f"{path!r} is not the absolute path of a file: write for example /run/NAME.sock"
        )
    fd = _walk(directory, writers=writers)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _walk(directory: str, *, writers: bool) -> int:
    """Return an O_PATH descriptor of `directory`, every step of the way having been trusted."""
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
        hint = "; a socket's directory must be there already" if missing else ""
        raise Error(f"{here}: {error.strerror}{hint}") from None


def _link(fd: int, path: str) -> str:
    """Return what the symbolic link `fd` points to; "" where it is a directory."""
    found = os.fstat(fd)
    if stat.S_ISDIR(found.st_mode):
        return ""
    if not stat.S_ISLNK(found.st_mode):
        raise Error(f"{path} is not a directory, so no socket can be in it")
    _check_owner(found, path)
    return os.readlink("", dir_fd=fd)


def _check(fd: int, directory: str, *, sticky: bool, writers: bool) -> None:
    """Raise UnsafeDirectory unless it is in trusted hands; `sticky`, `writers`: that will do."""
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
            f"{directory} can be written by {' and '.join(others)} "
            f"(mode {stat.S_IMODE(found.st_mode):04o}), who could then put something of their own "
            f"in its place. Use a directory that only root can write, such as /run{repair}"
        )


def _check_owner(found: os.stat_result, path: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise UnsafeDirectory(
            f"{path} belongs to user {found.st_uid}, who could then put something of their own "
            "in its place. Use a directory that belongs to root, such as /run"
        )
