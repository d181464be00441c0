"""List the kernel's listening unix sockets, with backlog and damage (sock_diag(7)).

/proc/net/unix gives a socket's path as it was bound, but neither the inode of its file nor its
queue: a file that another process removed and recreated looks the same there. The sock_diag
messages have device, inode and queue.
"""

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from sdactivate.errors import Error

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SHOW_NAME, _SHOW_VFS, _SHOW_RQLEN = 0x01, 0x02, 0x10
_UNIX_DIAG_NAME, _UNIX_DIAG_VFS, _UNIX_DIAG_RQLEN, _UNIX_DIAG_SHUTDOWN = 0, 1, 4, 6
_LISTEN = 10  # TCP_LISTEN

_NLMSG = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_ANSWER = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_PAIR = struct.Struct("=II")


class Listener(NamedTuple):
    """A listening unix socket of this network namespace.

    `number` is the socket's inode, which /proc/PID/fd shows as socket:[number]. `name` is as it was
    bound, with a leading @ for an abstract one. `device` and `inode` are those of its file, 0 if it
    has none. `waiting` connections, at most `backlog`, are not accepted yet. `is_shut_down`:
    shutdown(2) was called on it, and it refuses every connection though it still listens.
    """

    number: int
    name: str
    device: int
    inode: int
    waiting: int
    backlog: int
    is_shut_down: bool = False

    @property
    def damage(self) -> str:
        """What a process that held the socket has done to it, "" for nothing.

        The damage outlives that process: systemd and every later service have the same socket.
        """
        if self.is_shut_down:
            return "it was shut down (shutdown(2)): nobody can connect"
        if not self.backlog:
            return "its backlog is 0 (listen(2)): clients are refused, or wait one after another"
        return ""


def listeners() -> list[Listener]:
    """Return all listening unix sockets. Raises Error if the kernel doesn't list them."""
    body = _REQUEST.pack(
        socket.AF_UNIX, 0, 0, 1 << _LISTEN, 0, _SHOW_NAME | _SHOW_VFS | _SHOW_RQLEN, 0, 0
    )
    head = _NLMSG.pack(_NLMSG.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
    found: list[Listener] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
            link.settimeout(10)
            link.sendto(head + body, (0, 0))
            while True:
                for kind, payload in messages(link.recv(1 << 18)):
                    if kind == _NLMSG_DONE:
                        return found
                    if kind == _NLMSG_ERROR:
                        number = -int.from_bytes(payload[:4], "little", signed=True)
                        raise OSError(number, os.strerror(number))
                    found.append(parse_listener(payload))
    except (OSError, ValueError) as error:
        raise Error(f"the kernel doesn't list its unix sockets (sock_diag): {error}") from None


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of each netlink message. Raises ValueError if one is truncated."""
    while datagram:
        if len(datagram) < _NLMSG.size:
            raise ValueError("a netlink message is cut short")
        length, kind, _, _, _ = _NLMSG.unpack_from(datagram)
        if not _NLMSG.size <= length <= len(datagram):
            raise ValueError(f"a netlink message of {length} bytes in {len(datagram)}")
        yield kind, datagram[_NLMSG.size : length]
        datagram = datagram[length + 3 & ~3 :]


def parse_listener(payload: bytes) -> Listener:
    """Return the socket that an answer (struct unix_diag_msg and attributes) describes."""
    if len(payload) < _ANSWER.size:
        raise ValueError(f"a socket is described in {len(payload)} bytes")
    number = _ANSWER.unpack_from(payload)[4]
    name, device, inode, waiting, backlog, is_shut_down = "", 0, 0, 0, 0, False
    rest = payload[_ANSWER.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        if not _ATTRIBUTE.size <= length <= len(rest):
            raise ValueError(f"an attribute of {length} bytes in {len(rest)}")
        value = rest[_ATTRIBUTE.size : length]
        if kind == _UNIX_DIAG_NAME:
            name = os.fsdecode(b"@" + value[1:] if value[:1] == b"\0" else value.rstrip(b"\0"))
        elif kind == _UNIX_DIAG_VFS and len(value) == _PAIR.size:
            inode, device = _PAIR.unpack(value)
        elif kind == _UNIX_DIAG_RQLEN and len(value) == _PAIR.size:
            waiting, backlog = _PAIR.unpack(value)
        elif kind == _UNIX_DIAG_SHUTDOWN:
            is_shut_down = any(value)  # RCV_SHUTDOWN, SEND_SHUTDOWN: the kernel always sends it
        rest = rest[length + 3 & ~3 :]
    return Listener(number, name, device, inode, waiting, backlog, is_shut_down)


def behind(path: str, found: list[Listener] | None = None) -> Listener | None:
    """Return the socket that listens behind the file at `path`, or None.

    `found`: what `listeners` returned, to look up several paths with one call of it. An abstract
    address (@name) is looked up by its name.
    """
    found = listeners() if found is None else found
    if path.startswith("@"):
        return next((one for one in found if one.name == path), None)
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):  # not there, or not a valid path: it has a NUL
        return None
    try:
        status, device = os.fstat(descriptor), _device(descriptor)
    finally:
        os.close(descriptor)
    same = [one for one in found if one.inode == status.st_ino & 0xFFFFFFFF]
    if device is not None:
        return next((one for one in same if one.device == _kernels(device)), None)
    number = _kernels(status.st_dev)
    return next((one for one in same if one.device == number or one.name == path), None)


def _kernels(device: int) -> int:
    """The kernel's own 32-bit number of a device, which has 20 bits for the minor number."""
    return (os.major(device) << 20 | os.minor(device)) & 0xFFFFFFFF


def _device(descriptor: int) -> int | None:
    """Return the device of the file system that a file lies on, None if its mount isn't listed.

    On overlayfs and btrfs stat(2) shows another one. proc_pid_mountinfo(5) has the kernel's own,
    but in a chroot it does not list the mount that the root lies on.
    """
    try:
        fields = dict(line.split(":", 1) for line in _lines(f"/proc/self/fdinfo/{descriptor}"))
        mounts = (line.split() for line in _lines("/proc/self/mountinfo"))
        major, minor = next(it[2] for it in mounts if it[0] == fields["mnt_id"].strip()).split(":")
        return os.makedev(int(major), int(minor))
    except (OSError, KeyError, StopIteration):
        return None


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()
