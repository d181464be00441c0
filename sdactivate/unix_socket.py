"""Ask the kernel whether a unix socket's file still has a bound socket: unix(7)."""

import errno
import os
import socket


def is_bound(path: str) -> bool:
    """Return whether a process has the socket whose file is at `path` bound.

    It connects a datagram socket, which the kernel refuses with an error that says the bound socket
    has another type. So no process is woken, and a socket that is bound but not listening yet is
    found, too.

    A file that is not a socket counts as not bound, as for connect(2): check its type first. Raises
    OSError if the kernel's answer does not tell.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        code = probe.connect_ex(path)
    if code == errno.ECONNREFUSED:
        return False
    if code in (0, errno.EPROTOTYPE, errno.EPERM):
        return True
    raise OSError(code, os.strerror(code), path)
