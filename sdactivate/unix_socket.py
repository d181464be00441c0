"""Ask the kernel whether the file of a unix socket still has its socket: unix(7)."""

import errno
import os
import socket


def is_bound(path: str) -> bool:
    """Return whether a process has the socket whose file is at `path` bound.

    A datagram socket asks, and the kernel tells it that a stream socket is of another type: so
    nobody is woken, and a socket that is bound but does not listen yet is seen as well.

    What is not a socket counts as not bound, as connect(2) has it: look at its type first. Raises
    OSError where the kernel does not tell.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        code = probe.connect_ex(path)
    if code == errno.ECONNREFUSED:
        return False
    if code in (0, errno.EPROTOTYPE, errno.EPERM):
        return True
    raise OSError(code, os.strerror(code), path)
