"""Take the listening sockets that a supervisor passed: sd_listen_fds(3) and other ways.

The protocol is sd_listen_fds(3): the supervisor binds and listens, passes the descriptors
from 3 upwards, and announces them in the environment: LISTEN_PID (the receiver), LISTEN_FDS (how
many), LISTEN_FDNAMES (their names) and, from systemd 258, LISTEN_PIDFDID (the receiver again, in
a form that a reused PID can't match).

Three rules make it safe:

- The variables are read once and removed, from `os.environ` as well as from the C library's
  environment, so that no child takes descriptors that were not meant for it.
- Every descriptor is checked before it is used. Nothing about it is changed except FD_CLOEXEC:
  the supervisor sets its address, owner and mode.
- It fails closed. A socket that can't be served, and sockets meant for another process, are
  errors. No socket is bound as a fallback.
"""

import os
import socket
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sdactivate.systemd.descriptors import ActivationError, listening_socket
from sdactivate.systemd.sd_daemon import daemon

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class NoSockets(ActivationError):
    """No socket was passed, or the sockets were taken already."""


class WrongProcess(ActivationError):
    """The sockets were passed to another process, usually a wrapper that forked."""


class MalformedEnvironment(ActivationError):
    """A variable that announces sockets can't be parsed, such as LISTEN_FDS=x."""


class InheritedSocket(NamedTuple):
    """A listening stream socket, and the name that the supervisor gave it."""

    name: str
    """FileDescriptorName= of the socket unit (systemd.socket(5)); by default the unit's own name,
    mysite.socket. "unknown" if the supervisor gives none."""
    sock: socket.socket
    """The socket. The only change made to it is that children do not inherit it."""


class Ambiguous(ActivationError):
    """Sockets were passed in more than one way: two supervisors, or one's leftover variables."""


class Source(NamedTuple):
    """One way in which supervisors pass listening sockets."""

    name: str
    variables: tuple[str, ...]
    """The variables they set. Any of them means that there are sockets; all are removed."""
    find: Callable[[Mapping[str, str]], Mapping[int, str]]
    """Returns the descriptors and their names; raises ActivationError, or ValueError."""


def inherited_sockets(fd: Sequence[int] = ()) -> list[InheritedSocket]:
    """Return the listening sockets that were passed to this process, in the order of descriptors.

    `serve` calls it. A server of your own calls it once, before it starts threads or children:

        import sdactivate

        for name, sock in sdactivate.inherited_sockets():
            print(name, sock.getsockname())

    It removes the variables that announce sockets (LISTEN_FDS and the like), and replaces a socket
    that came as standard input with /dev/null. If several socket units pass sockets to one service,
    their order is undefined: use the names.

    fd: numbers of descriptors that were passed without an announcement (the setting `fd`).

    Raises (all are ActivationError, and say what to change):
        NoSockets: nothing was passed, or it was taken already.
        WrongProcess: the sockets were announced to another process.
        MalformedEnvironment: a variable can't be parsed.
        Ambiguous: sockets were passed in more than one way.
        BadDescriptor, NotASocket, NotAStream, NotListening, ShutDown, WrongFamily: a descriptor
            can't be served; every descriptor that was passed is left as it is.

    Follows sd_listen_fds(3).
    """
    environ = dict(os.environ)
    try:
        found = {
            source.name: _found(source, environ)
            for source in SOURCES
            if any(variable in environ for variable in source.variables)
        }
    finally:
        for variable in (variable for source in SOURCES for variable in source.variables):
            os.environ.pop(variable, None)
    if fd:
        found["--fd"] = {number: f"fd{number}" for number in fd}
    if (stdin := _listening_stdin()) and not any(_includes(fds, stdin) for fds in found.values()):
        found["standard input"] = {0: "stdin"}
    if len(found) > 1:
        raise Ambiguous(
            f"sockets were passed in more than one way: {' and '.join(found)}. One of them is "
            "left over from another program's start; serve from a clean environment"
        )
    if not found:
        raise NoSockets(_HOW_TO_START)
    (names,) = found.values()
    sockets = [InheritedSocket(name, listening_socket(fd, name)) for fd, name in names.items()]
    return [_moved_from_stdin(each) for each in sockets]


def _found(source: Source, environ: Mapping[str, str]) -> Mapping[int, str]:
    try:
        if not (found := source.find(environ)):
            raise NoSockets(_HOW_TO_START)
        return found
    except ValueError:
        shown = " ".join(f"{n}={environ[n]!r}" for n in source.variables if n in environ)
        raise MalformedEnvironment(
            f"{shown} is not what {source.name} passes; serve from a clean environment"
        ) from None


def _by_systemd(environ: Mapping[str, str]) -> Mapping[int, str]:
    """sd_listen_fds(3)."""
    _check_recipient({name: environ.get(name) for name in VARIABLES})
    try:
        names: dict[int, str] = daemon.listen_fds_with_names(unset_environment=True)
    except OSError as error:
        raise MalformedEnvironment(
            f"the sockets of LISTEN_FDS={environ['LISTEN_FDS']} can't be taken "
            f"({error.strerror}): each descriptor from 3 on must be open, and "
            "LISTEN_FDNAMES must have a name for each"
        ) from None
    return names


def _by_server_starter(environ: Mapping[str, str]) -> Mapping[int, str]:
    """Server::Starter(3pm): "127.0.0.1:80=3;/run/x.sock=4", each address with its descriptor."""
    pairs = [pair.rpartition("=") for pair in environ["SERVER_STARTER_PORT"].split(";")]
    if not all(address for address, _, _ in pairs):
        raise ValueError
    return {_number(fd): address for address, _, fd in pairs}


def _by_einhorn(environ: Mapping[str, str]) -> Mapping[int, str]:
    """Einhorn's README: EINHORN_FD_COUNT and EINHORN_FD_0 ..., before that EINHORN_FDS="3 4"."""
    if (master := environ.get("EINHORN_MASTER_PID")) and _number(master) != os.getppid():
        raise WrongProcess(
            f"einhorn is process {master}, but this process was started by {os.getppid()}: the "
            "sockets are for a worker that einhorn starts itself. Let it exec this program"
        )
    if "EINHORN_FD_COUNT" in environ:
        count = range(_number(environ["EINHORN_FD_COUNT"]))
        words = [environ.get(f"EINHORN_FD_{index}", "") for index in count]
    else:
        words = environ.get("EINHORN_FDS", "").split()
    return {_number(word): f"fd{word}" for word in words}


def _number(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise ValueError
    return int(word)


SOURCES = (
    Source("systemd", VARIABLES, _by_systemd),
    Source("Server::Starter", ("SERVER_STARTER_PORT",), _by_server_starter),
    Source(
        "einhorn",
        ("EINHORN_FD_COUNT", "EINHORN_FDS", "EINHORN_MASTER_PID"),
        _by_einhorn,
    ),
)
"""Which supervisors announce sockets, and in which variables.

Two kinds come without variables: standard input, if it is a listening socket (spawn-fcgi,
lighttpd's bin-path, mod_fcgid, supervisord's fcgi-program, s6-fdholder-retrieve); and the
descriptors that --fd names (circus's $(circus.sockets.NAME), a shell's 3</…)."""


def _listening_stdin() -> tuple[int, int] | None:
    """The device and inode of standard input if it is a listening socket."""
    try:
        listening_socket(0, "stdin").detach()
    except ActivationError:
        return None
    return _identity(0)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _includes(descriptors: Iterable[int], wanted: tuple[int, int]) -> bool:
    return any(_identity(fd) == wanted for fd in descriptors)


def _moved_from_stdin(inherited: InheritedSocket) -> InheritedSocket:
    """Make the socket not inheritable, and move it away if it is standard input."""
    name, sock = inherited
    if sock.fileno() != 0:
        os.set_inheritable(sock.fileno(), False)
        return inherited
    moved = sock.dup()  # not inheritable
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), sock.detach())
    return InheritedSocket(name, moved)


_HOW_TO_START = (
    "no socket was passed to this process (LISTEN_FDS is not set), so there is nothing to "
    "serve. Start it through its socket unit (`systemctl start mysite.socket`, written by "
    "`sdactivate gen mysite`), without systemd by `sdactivate launch --listen /run/mysite.sock "
    "--run-as USER -- sdactivate serve mysite.wsgi:application`, or try it by hand with "
    "`systemd-socket-activate -l /tmp/mysite.sock sdactivate serve mysite.wsgi:application`"
)


def _check_recipient(announced: Mapping[str, str | None]) -> None:
    """Check that the announcement is there, can be parsed, and is meant for this process."""
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
            "(`uv run`, `pdm run`, `sh -c 'a; b'`). Let ExecStart= name the interpreter "
            "itself, or let the wrapper `exec` the program"
        )


def _is_own_pidfd(inode: int) -> bool:
    """Whether `inode` is this process's own in pidfs (Linux 6.9); true if that can't be checked."""
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
