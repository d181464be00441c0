"""Query the kernel about a unix socket's peer: SO_PEERCRED, groups, pidfd, control group.

The kernel records user, group and groups when the peer connects (SO_PEERCRED in unix(7),
SO_PEERGROUPS in socket(7)), and keeps a reference to the process: SO_PEERPIDFD (Linux 6.5) returns
a descriptor of the process that connected, which PID reuse can't affect, and PIDFD_GET_INFO (6.13)
the id of its control group. Every function raises OSError if the kernel can't tell.
"""

import os
import socket
import struct
from _socket import socket as raw_socket
from fcntl import ioctl

_SO_PEERGROUPS, _SO_PEERPIDFD = 59, 77  # asm-generic/socket.h; Python has no names for them
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_MOST_GROUPS = 1024  # bytes, Python's limit; a peer in more than 256 groups is refused
# linux/pidfd.h: struct pidfd_info begins with u64 mask, u64 cgroupid, u32 pid …
_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)
_CGROUPID = struct.Struct("=QQ48x")
_PIDFD_INFO_CGROUPID = 1 << 2
_ASKED = _CGROUPID.pack(_PIDFD_INFO_CGROUPID, 0)


def credentials(connection: raw_socket) -> tuple[int, int, int]:
    """Return the peer's PID, user and group; PID 0 means another PID namespace."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid


def groups(connection: raw_socket) -> tuple[int, ...]:
    """Return the peer's supplementary groups."""
    raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS)
    return struct.unpack(f"={len(raw) // 4}I", raw)


def pidfd(connection: raw_socket) -> int:
    """Return a new pidfd of the peer's process, for the caller to close."""
    return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)


def cgroup_id(connection: raw_socket) -> int:
    """Return the id of the peer's control group: its directory's inode in the cgroup2 mount."""
    process = pidfd(connection)
    try:
        mask, cgroup = _CGROUPID.unpack(ioctl(process, _PIDFD_GET_INFO, _ASKED))
    finally:
        os.close(process)
    if not mask & _PIDFD_INFO_CGROUPID:
        raise OSError("the kernel has no control group for the peer")
    return int(cgroup)
