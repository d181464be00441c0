"""Check that an inherited descriptor is a listening stream socket before it is served.

The check changes nothing about it. A listening stream socket of a family that carries web requests
passes. Everything else is an error that names the descriptor, says what it is, and which
setting of the socket unit (systemd.socket(5)) to correct.
"""

import os
import select
import socket
import stat

from sdactivate.errors import Error

FAMILIES = {
    socket.AF_UNIX: "AF_UNIX",
    socket.AF_INET: "AF_INET",
    socket.AF_INET6: "AF_INET6",
    socket.AF_VSOCK: "AF_VSOCK",
}


class ActivationError(Error):
    """No socket was passed that can be served: the base of the errors of `inherited_sockets`.

    In a program of your own that can't run without its sockets:

        import sdactivate

        try:
            sockets = sdactivate.inherited_sockets()
        except sdactivate.ActivationError as error:
            raise SystemExit(f"mysite: {error}") from None
    """


class BadDescriptor(ActivationError):
    """An announced descriptor is not open."""


class NotASocket(ActivationError):
    """A descriptor is not a socket but a file, a pipe or a terminal."""


class NotAStream(ActivationError):
    """A socket is of type datagram or sequential packet."""


class NotListening(ActivationError):
    """A stream socket is not listening: it is a connection, or only bound."""


class ShutDown(ActivationError):
    """A listening socket was shut down by a process that held it: nobody can connect."""


class WrongFamily(ActivationError):
    """A socket's family is none of AF_UNIX, AF_INET, AF_INET6 and AF_VSOCK."""


def listening_socket(fd: int, name: str) -> socket.socket:
    """Check that descriptor `fd`, called `name`, can be served, and return it as a socket.

    Raises BadDescriptor, NotASocket, NotAStream, NotListening, ShutDown or WrongFamily; the
    descriptor then stays open and unchanged.
    """
    label = f"descriptor {fd} ({name})"
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        raise BadDescriptor(
            f"{label} is not open: it was not passed, or a process in between closed it"
        ) from None
    if not stat.S_ISSOCK(mode):
        raise NotASocket(
            f"{label} is not a socket but {_kind(mode)}. In a socket unit use ListenStream=; "
            "ListenFIFO=, ListenSpecial= and the like can't carry web requests"
        )
    sock = socket.socket(fileno=fd)
    try:
        if (kind := sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)) != socket.SOCK_STREAM:
            datagram = kind == socket.SOCK_DGRAM
            setting = "ListenDatagram=" if datagram else "ListenSequentialPacket="
            raise NotAStream(
                f"{label} is not a stream socket: in a socket unit write ListenStream= "
                f"instead of {setting}"
            )
        if sock.family not in FAMILIES:
            raise WrongFamily(
                f"{label} is of address family {int(sock.family)}; it must be one of "
                f"{', '.join(FAMILIES.values())}: give ListenStream= a path or an address"
            )
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise NotListening(
                f"{label} is not a listening socket: it is a connection, or only bound. In a "
                "socket unit write Accept=no (one service for all connections). If it already "
                f"says so, a process has shut the socket down: {_make_anew(name)}"
            )
        if _is_shut_down(sock):
            raise ShutDown(
                f"{label} was shut down by a process that held it, and refuses every connection "
                f"until it is recreated: {_make_anew(name)}"
            )
    except ActivationError:
        sock.detach()
        raise
    return sock


def _is_shut_down(sock: socket.socket) -> bool:
    """Whether shutdown(2) was called on a listening unix socket, which keeps listening.

    A TCP socket stops listening. poll(2) reports it like a peer that has stopped sending.
    """
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _make_anew(name: str) -> str:
    return (
        f"`systemctl stop {name}.service && systemctl restart {name}.socket` under systemd, if "
        f"the units have this name; another supervisor recreates it when it is restarted"
    )


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a pipe or FIFO"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((text for test, text in kinds if test(mode)), "something else")
