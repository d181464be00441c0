"""Create a listening socket with its owner, group and mode, inaccessible until all are set.

For a unix socket, the file's mode and owner decide who may connect (unix(7)). Only this order of
steps leaves no moment in which others could connect:

1. The directory is held open, after a check that nobody else can write it (parent_directory.py).
   Launchers for the same path take turns.
2. The file at the path is examined without following a link. A socket in use, or anything that is
   not a socket, is refused; a stale socket, which no process listens on, is removed.
3. bind() with umask 0777 creates the file with mode 0000, owned by root or the caller and
   inaccessible to others. An access control list inherited from the directory is removed.
4. The file is held open by an O_PATH descriptor, so that every further step is about this file,
   even if another one gets its name.
5. listen(), then chown, and last chmod: a client that can connect finds a listening process, and
   the mode never applies to the wrong owner.
6. Owner, mode, and that the name still leads to the file are verified.

TCP, vsock and abstract unix sockets have neither owner nor mode.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sdactivate.errors import Error
from sdactivate.launch.parent_directory import holding_parent
from sdactivate.unix_socket import is_bound

_TURN = 5.0  # seconds to wait for another launcher of the same path


class SocketInUse(Error):
    """`sdactivate launch`: another process listens at the address already."""


class PathTaken(Error):
    """`sdactivate launch`: the path has a file that is not a socket left behind."""


@dataclass(frozen=True)
class Access:
    """Who may connect to a unix socket: the file's owner, group and mode."""

    uid: int
    gid: int
    mode: int


def listen_unix(path: str, access: Access, backlog: int) -> socket.socket:
    """Create the unix stream socket `path`, listening, accessible only to `access`.

    Raises UnsafeDirectory (parent_directory.py), SocketInUse, PathTaken, and Error if a step fails;
    the socket's file is then removed.
    """
    try:
        return _listen_unix(path, access, backlog)
    except OSError as error:
        raise Error(f"{path}: can't create the socket there: {error.strerror}") from None


def _listen_unix(path: str, access: Access, backlog: int) -> socket.socket:
    with holding_parent(path) as (directory, name), _turn(directory, name, path):
        _clear_the_way(directory, name, path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            umask = os.umask(0o777)
            try:
                sock.bind(path)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PathTaken(
                        f"{path}: another process has just created this path; try again"
                    ) from None
                raise
            finally:
                os.umask(umask)
            node = _hold(directory, name, path)
        except BaseException:
            sock.close()
            raise
        try:
            sock.listen(backlog)
            _open_up(node, access)
            _check(node, directory, name, path, access)
        except BaseException:
            _remove(directory, name, node)
            sock.close()
            raise
        finally:
            os.close(node)
        return sock


def remove_unix(path: str) -> None:
    """Remove the file of a socket that was created here and has been closed."""
    with holding_parent(path) as (directory, name):
        _clear_the_way(directory, name, path)


def listen_other(family: int, address: object, backlog: int, label: str) -> socket.socket:
    """Create a listening stream socket without a file: TCP, vsock, or an abstract unix one.

    `address` is the argument of bind() for `family`; `label` is the address as the user typed it.

    Raises SocketInUse, or Error if the address can't be used.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            internet = family in (socket.AF_INET, socket.AF_INET6)
            wider = ", maybe on all addresses ([::] includes IPv4)" if internet else ""
            raise SocketInUse(
                f"{label}: a process already listens there{wider}; stop it first"
            ) from None
        raise Error(f"{label}: can't listen there: {error.strerror}") from None
    return sock


@contextmanager
def _turn(directory: int, name: str, path: str) -> Iterator[None]:
    """Lock `name` for one launcher at a time, so that none removes a socket that another just made.

    The lock is a file that only this user can open (other users could hold a lock on the directory
    itself forever). The process that holds it removes it at the end.
    """
    lock = f".{name}.lock"
    deadline = time.monotonic() + _TURN
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        fd = os.open(lock, flags, 0o600, dir_fd=directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(fd)
                raise Error(
                    f"{path}: another launcher has held the lock there for {_TURN:g} s; try again"
                ) from None
            time.sleep(0.05)
        os.close(fd)
    try:
        yield
    finally:
        os.unlink(lock, dir_fd=directory)
        os.close(fd)


def _clear_the_way(directory: int, name: str, path: str) -> None:
    """Remove a stale socket; refuse everything else."""
    try:
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISSOCK(os.fstat(node).st_mode):
            raise PathTaken(
                f"{path} exists and is not a socket; nothing was changed. Use another path, or "
                "remove the file if it is not needed"
            )
        if _lives(node, path):
            raise SocketInUse(
                f"{path}: a process already listens there; nothing was changed. Stop it first: "
                f"`ss -lxp src {path}` shows which it is"
            )
        _remove(directory, name, node)
    finally:
        os.close(node)


def _lives(node: int, path: str) -> bool:
    """Whether a process has the socket file `node` bound."""
    try:
        return is_bound(f"/proc/self/fd/{node}")
    except OSError as error:
        raise Error(
            f"{path}: can't tell whether a process listens there: {error.strerror}"
        ) from None


def _remove(directory: int, name: str, node: int) -> None:
    """Unlink `name` if it is still the file of the descriptor `node`."""
    with suppress(FileNotFoundError):
        if _same(os.fstat(node), os.stat(name, dir_fd=directory, follow_symlinks=False)):
            os.unlink(name, dir_fd=directory)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _hold(directory: int, name: str, path: str) -> int:
    """Return an O_PATH descriptor of the new socket's file, and verify that it is this file."""
    try:
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        raise Error(f"{path}: the directory was replaced while the socket was created") from None
    found = os.fstat(node)
    if (found.st_mode, found.st_uid) != (stat.S_IFSOCK, os.geteuid()):
        os.close(node)
        raise Error(f"{path}: another file took this path while the socket was created")
    return node


def _open_up(node: int, access: Access) -> None:
    """Set the owner and then the mode of the socket's file, through /proc/self/fd."""
    file = f"/proc/self/fd/{node}"
    try:
        os.removexattr(file, "system.posix_acl_access")
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
    os.chown(file, access.uid, access.gid)
    os.chmod(file, access.mode)


def _check(node: int, directory: int, name: str, path: str, access: Access) -> None:
    found = os.fstat(node)
    got = Access(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))
    if got != access:
        raise Error(
            f"{path} became {got.uid}:{got.gid} {got.mode:04o}, not {access.uid}:{access.gid} "
            f"{access.mode:04o}: the file system does not support owners and modes"
        )
    if not _same(found, os.stat(name, dir_fd=directory, follow_symlinks=False)):
        raise Error(f"{path}: another file took this path while the socket was created")
