"""Connect to a socket as another user, in a child process: `who --prove`.

A child process enters the root, drops to the identity (credentials(7), capabilities(7)) and
calls connect(2). It closes the connection at once; like any other client, it starts a socket
unit's service. A file is opened for reading instead, and a directory is entered.
"""

import ctypes
import errno
import os
import socket
import struct

from sdactivate.access.permissions import Identity
from sdactivate.errors import Error

# The permissions were enough, whatever happened to the connection: nothing listens (or it is not
# a socket), the backlog is full, or it is a socket of another type.
_REACHED = (0, errno.ECONNREFUSED, errno.EAGAIN, errno.EPROTOTYPE)

_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2  # linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS = 8
_NO_ANSWER = 255


def reached(error: int) -> bool:
    """Whether a connect(2) that ended in `error` got past every permission."""
    return error in _REACHED


def prove(path: str, identity: Identity, root: str = "/", kind: str = "socket") -> int:
    """Return the errno of connecting to `path` as `identity` below `root`; 0: connected.

    `kind` is the kind of file that the path leads to: see permissions.Node. Raises Error if this
    process may not become `identity`.
    """
    reader, writer = os.pipe()
    if not (child := os.fork()):
        code = _NO_ANSWER
        try:
            os.write(writer, b"%d" % _as_somebody_else(path, identity, root, kind))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    if not answer:
        raise Error(
            f"{path}: uid {os.geteuid()} can't become uid {identity.uid}, gid {identity.gid} to "
            "test it: run as root"
        )
    return int(answer)


def _as_somebody_else(path: str, identity: Identity, root: str, kind: str) -> int:
    if root != "/":
        os.chroot(root)
    os.chdir("/")
    if os.geteuid() == 0 or identity != _ourselves():
        _become(identity)
    try:
        if kind == "file":
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
        elif kind == "directory":
            os.chdir(path)
        else:
            return _connect(path)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _connect(path: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            return client.connect_ex(path)
        except OSError:  # raised by Python itself: the path and its NUL are longer than sun_path
            return errno.ENAMETOOLONG


def _ourselves() -> Identity:
    gid = os.getegid()
    return Identity(os.geteuid(), gid, frozenset(os.getgroups()) - {gid})


def _become(identity: Identity) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # An exception here ends the child before it has answered, so none is missed.
    if libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    os.setgroups(sorted(identity.groups))
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    wanted = identity.override << _CAP_DAC_OVERRIDE | identity.search << _CAP_DAC_READ_SEARCH
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, struct.pack("=6I", wanted, wanted, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")
