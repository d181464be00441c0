"""Inherit the listening sockets that a supervisor has passed to this process.

The protocol is sd_listen_fds(3): the supervisor binds and listens, passes the descriptors
from 3 upwards, and says so in the environment: LISTEN_PID (for whom), LISTEN_FDS (how many),
LISTEN_FDNAMES (what each is called) and, from systemd 258, LISTEN_PIDFDID (for whom, immune
to the reuse of process numbers).

Three habits make it safe:

- The variables are read once and removed, from `os.environ` as well as from the C library's
  environment, so that no child takes descriptors that were not meant for it.
- Every descriptor is looked at before it is used. Nothing is changed about it but
  FD_CLOEXEC: its address, owner and mode are the supervisor's affair.
- It fails closed. A socket that can't be served, and sockets meant for another process, are
  errors. There is no address of our own to fall back to.
"""

import os
import socket
import stat
from collections.abc import Mapping
from typing import NamedTuple

from systemd import daemon

from sdactivate.errors import Error

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
FAMILIES = {
    socket.AF_UNIX: "AF_UNIX",
    socket.AF_INET: "AF_INET",
    socket.AF_INET6: "AF_INET6",
    socket.AF_VSOCK: "AF_VSOCK",
}


class ActivationError(Error):
    """The supervisor passed no socket that can be served."""


class NoSockets(ActivationError):
    """No socket was passed at all."""


class WrongProcess(ActivationError):
    """The sockets were passed to another process, as a rule to a wrapper that forked."""


class MalformedEnvironment(ActivationError):
    """A LISTEN_ variable is not what sd_listen_fds(3) says."""


class BadDescriptor(ActivationError):
    """A descriptor that was announced is not open."""


class NotASocket(ActivationError):
    """A descriptor is a file, a pipe, a terminal."""


class NotAStream(ActivationError):
    """A socket is of type datagram or sequential packet."""


class NotListening(ActivationError):
    """A stream socket is not listening: it is a connection."""


class WrongFamily(ActivationError):
    """A socket of an address family that can't carry web requests."""


class InheritedSocket(NamedTuple):
    """A listening stream socket and the name the supervisor gave it.

    `name` is the FileDescriptorName= of the socket unit (systemd.socket(5)); by default the
    unit's own name, `mysite.socket`, and "unknown" where the supervisor gives none.
    """

    name: str
    sock: socket.socket


def inherited_sockets() -> list[InheritedSocket]:
    """Take the sockets that were passed to this process, in the order of their descriptors.

    The order is undefined where several socket units feed one service: use the names. Call
    it once, early, before threads or children are started: it removes the LISTEN_ variables.

    Raises (all are ActivationError, and say what to change):
        NoSockets: nothing was passed, or it was taken already.
        WrongProcess: LISTEN_PID or LISTEN_PIDFDID names another process.
        MalformedEnvironment: a LISTEN_ variable can't be read.
        BadDescriptor, NotASocket, NotAStream, NotListening, WrongFamily: a descriptor can't
            be served; every descriptor that was passed is left as it is.

    Follows sd_listen_fds(3).
    """
    announced = {name: os.environ.get(name) for name in VARIABLES}
    try:
        _check_recipient(announced)
        try:
            names: dict[int, str] = daemon.listen_fds_with_names(unset_environment=True)
        except OSError as error:
            raise MalformedEnvironment(
                f"the supervisor's LISTEN_FDS={announced['LISTEN_FDS']} can't be followed "
                f"({error.strerror}): each descriptor from 3 on must be open, and "
                "LISTEN_FDNAMES must have a name for each"
            ) from None
        if not names:
            raise NoSockets(_HOW_TO_START)
    finally:
        for name in VARIABLES:
            # systemd-python unsets the C library's copy only
            os.environ.pop(name, None)
    return [InheritedSocket(name, listening_socket(fd, name)) for fd, name in names.items()]


_HOW_TO_START = (
    "no socket was passed to this process (LISTEN_FDS is not set), so there is nothing to "
    "serve. Start it through its socket unit (`systemctl start mysite.socket`, written by "
    "`sdactivate gen mysite`), or try it by hand with `systemd-socket-activate -l "
    "/tmp/mysite.sock sdactivate serve mysite.wsgi:application`"
)


def _check_recipient(announced: Mapping[str, str | None]) -> None:
    """Make sure that the announcement is there, legible, and meant for this process."""
    pid, fds, pidfdid = (announced[n] for n in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_PIDFDID"))
    if pid is None or fds is None:
        raise NoSockets(_HOW_TO_START)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_PIDFDID"):
        value = announced[name]
        if value is not None and not (value.isascii() and value.isdigit()):
            raise MalformedEnvironment(f"{name}={value!r} is not a number; see sd_listen_fds(3)")
    if int(pid) != os.getpid() or (pidfdid is not None and not _is_own_pidfd(int(pidfdid))):
        raise WrongProcess(
            f"the sockets were passed to process {pid}, but this is process {os.getpid()}: "
            "something between the supervisor and this program forked instead of exec'ing "
            "(`uv run`, `poetry run`, `sh -c 'a; b'`). Let ExecStart= name the interpreter "
            "itself, or let the wrapper `exec` the program"
        )


def _is_own_pidfd(inode: int) -> bool:
    """Whether `inode` is this process's own in pidfs (Linux 6.9); true where that can't be told."""
    try:
        pidfd = os.pidfd_open(os.getpid())
    except (AttributeError, OSError):
        return True
    try:
        found = os.fstat(pidfd)
    finally:
        os.close(pidfd)
    # Before pidfs, every pidfd shared one anonymous inode with no type bits
    return not stat.S_ISREG(found.st_mode) or found.st_ino == inode


def listening_socket(fd: int, name: str) -> socket.socket:
    """Return descriptor `fd`, called `name`, as a socket, having made sure it can be served.

    Raises BadDescriptor, NotASocket, NotAStream, NotListening or WrongFamily; the descriptor
    then stays open and unchanged.
    """
    label = f"descriptor {fd} ({name})"
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        raise BadDescriptor(
            f"{label} is not open: it was announced in LISTEN_FDS, then closed on the way here"
        ) from None
    if not stat.S_ISSOCK(mode):
        raise NotASocket(
            f"{label} is not a socket but {_kind(mode)}. In the socket unit use ListenStream=; "
            "ListenFIFO=, ListenSpecial= and the like can't carry web requests"
        )
    sock = socket.socket(fileno=fd)
    try:
        if (kind := sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)) != socket.SOCK_STREAM:
            datagram = kind == socket.SOCK_DGRAM
            setting = "ListenDatagram=" if datagram else "ListenSequentialPacket="
            raise NotAStream(
                f"{label} is not a stream socket: in the socket unit write ListenStream= "
                f"instead of {setting}"
            )
        if sock.family not in FAMILIES:
            raise WrongFamily(
                f"{label} is of address family {int(sock.family)}; it must be one of "
                f"{', '.join(FAMILIES.values())}: give ListenStream= a path or an address"
            )
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise NotListening(
                f"{label} is a connection, not a listening socket: in the socket unit write "
                "Accept=no (one service for all connections)"
            )
    except ActivationError:
        sock.detach()
        raise
    return sock


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a pipe or FIFO"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    )
    return next((text for test, text in kinds if test(mode)), "something else")
