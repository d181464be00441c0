"""Bind a listening socket with its owner, group and mode, closed until all of them are right.

For a unix socket the file's mode and owner decide who may connect (unix(7)), and the steps
are in the one order that leaves no gap:

1. The directory is held open and known to be in trusted hands (parents.py). Launchers that
   want the same path take turns.
2. What is at the path is looked at, without following a link. A living socket, or anything
   that is not a socket, is refused; a dead socket, which nobody listens on any more, is removed.
3. bind() with umask 0777 creates the file with mode 0000: root's or the caller's, and closed
   to everybody else. A default access control list of the directory is taken off again.
4. The file is held open by an O_PATH descriptor, so that every further step means this file
   and no other that may have come to its name.
5. listen(), then chown, then, last of all, chmod: who can connect finds somebody listening,
   and no owner ever has the rights of another's mode.
6. It is looked at once more: owner, mode, and that the name still leads to it.

TCP and vsock sockets, and abstract unix ones, have neither owner nor mode.
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

_TURN = 5.0  # seconds to wait for another launcher at the same path


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
    """Create the unix stream socket `path`, listening, for `access` and nobody else.

    Raises UnsafeDirectory (parents.py), SocketInUse, PathTaken, and Error where a step fails;
    what was made is then removed again.
    """
    try:
        return _listen_unix(path, access, backlog)
    except OSError as error:
        raise Error(f"{path}: the socket can't be made there: {error.strerror}") from None


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
                    raise PathTaken(f"{path}: something came to this path at this moment") from None
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
    """Remove the file of a socket that was made here and is closed again."""
    with holding_parent(path) as (directory, name):
        _clear_the_way(directory, name, path)


def listen_other(family: int, address: object, backlog: int, label: str) -> socket.socket:
    """Create a listening stream socket that is no file: TCP, vsock, or an abstract unix one.

    `address` is what bind() takes for `family`, `label` what the user calls it.

    Raises SocketInUse, or Error for an address that can't be had.
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
            wider = ", maybe for all addresses ([::] takes IPv4's, too)" if internet else ""
            raise SocketInUse(
                f"{label}: somebody listens there already{wider}; stop it first"
            ) from None
        raise Error(f"{label}: can't listen there: {error.strerror}") from None
    return sock


@contextmanager
def _turn(directory: int, name: str, path: str) -> Iterator[None]:
    """Let one launcher at a time work on `name`, so that none removes what another has just made.

    The lock is a file only we can open (strangers could hold a lock on the directory itself
    for ever), and it is removed at the end by the one who holds it.
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
                    f"{path}: another launcher has been at work there for {_TURN:g} s"
                ) from None
            time.sleep(0.05)
        os.close(fd)
    try:
        yield
    finally:
        os.unlink(lock, dir_fd=directory)
        os.close(fd)


def _clear_the_way(directory: int, name: str, path: str) -> None:
    """Remove a dead socket; refuse everything else."""
    try:
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISSOCK(os.fstat(node).st_mode):
            raise PathTaken(
                f"{path} exists and is not a socket; nothing was changed. Listen elsewhere, or "
                "remove it if you know what it is"
            )
        if _lives(node, path):
            raise SocketInUse(
                f"{path}: a process listens there already; nothing was changed. Stop it first: "
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
    """Unlink `name` if it still is the file held as `node`."""
    with suppress(FileNotFoundError):
        if _same(os.fstat(node), os.stat(name, dir_fd=directory, follow_symlinks=False)):
            os.unlink(name, dir_fd=directory)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _hold(directory: int, name: str, path: str) -> int:
    """Return an O_PATH descriptor of the socket file just made, sure that it is that."""
    try:
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        raise Error(
            f"{path}: the directory was exchanged for another while the socket was made"
        ) from None
    found = os.fstat(node)
    if (found.st_mode, found.st_uid) != (stat.S_IFSOCK, os.geteuid()):
        os.close(node)
        raise Error(f"{path}: something else came to this path while the socket was made")
    return node


def _open_up(node: int, access: Access) -> None:
    """Give the socket file its owner and then its mode. /proc/self/fd leads to this very file."""
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
            f"{access.mode:04o}: the file system does not keep owners and modes"
        )
    if not _same(found, os.stat(name, dir_fd=directory, follow_symlinks=False)):
        raise Error(f"{path}: something else came to this path while the socket was made")
