"""Create the socket as root, drop root, execute the application: without systemd.

Only this package binds sockets, changes their owners and modes, or drops root permanently.
(`uninstall` also unlinks a socket that its unit has left behind.) Its modules:

    parent_directory.py      open the socket's directory, and check that it can be trusted
    sockets.py               create a socket that is never more accessible than requested
    privileges.py            become the application's user permanently, and verify it
    controlling_terminal.py  detach from root's terminal
    environment.py           which variables are kept, and which are added
    syscalls.py              system calls that Python lacks
    process.py               what the application inherits at exec
    on_demand.py             start at the first connection, and again after the application exits
    talk.py                  write to standard error, ignoring errors

`launch` works in this order: it parses and resolves everything, so that mistakes are found before
anything has changed; it creates the sockets, which needs root; it puts the descriptors in place; it
sets limits, chroot and umask; it drops root, with the session keyring and the terminal; it executes
the command. A failure at any step ends the process before the command is started.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, AF_VSOCK, VMADDR_CID_ANY, socket
from typing import NoReturn

from sdactivate.errors import Error, UsageError
from sdactivate.launch import controlling_terminal, privileges, process, sockets, syscalls
from sdactivate.launch.environment import Keep, environment
from sdactivate.launch.on_demand import Activator
from sdactivate.launch.privileges import Identity
from sdactivate.launch.sockets import Access, SocketInUse
from sdactivate.launch.talk import say
from sdactivate.systemd import pass_fds
from sdactivate.values import ListenAddress

BACKLOG = 4096  # systemd's default; the kernel's net.core.somaxconn limits it


@dataclass(frozen=True)
class Launch:
    """What to launch, with names as the user typed them.

    `listen`: the addresses, in the order of the descriptors, each with its name for LISTEN_FDNAMES,
    if it has one. `user`, `group`, `mode`: those of the unix sockets (default: the launcher's own
    IDs, 0660). `run_as`: USER or USER:GROUP that the command runs as; required for root. `umask`:
    None keeps the launcher's, but as root without write permission for group and others. `limits`,
    `env`: assignments as on the command line. `keep_env`: how much of the launcher's own
    environment to keep; None: all of it, or as root what `environment.KEPT` lists. `keep`: other
    descriptors that the command inherits; `hold`: descriptors that stay open until exec.
    `patience`: seconds to wait for another process that still uses an address. `made`: called when
    the sockets exist, before root is dropped.
    """

    listen: Sequence[ListenAddress]
    command: Sequence[str]
    run_as: str = ""
    user: str = ""
    group: str = ""
    mode: int = 0o660
    backlog: int = BACKLOG
    chroot: str = ""
    chdir: str = ""
    umask: int | None = None
    limits: Sequence[str] = ()
    env: Sequence[str] = ()
    keep_env: Keep | None = None
    keep: Sequence[int] = ()
    hold: Sequence[int] = ()
    on_demand: bool = False
    patience: float = 0.0
    made: Callable[[], object] = lambda: None


def launch(plan: Launch) -> int:
    """Carry out `plan`. Returns only for `on_demand`: the exit code, after a stop.

    Raises UsageError for values that are not valid and Error for steps that fail; see the modules.
    """
    process.open_standard_descriptors()
    was_root = os.geteuid() == 0
    who, access = _identity(plan), _access(plan)
    limits = process.limits(plan.limits)
    keep = plan.keep_env or (Keep.KNOWN if was_root else Keep.ALL)
    env, left_out = environment(os.environ, who.environment, plan.env, keep)
    if os.path.isabs(plan.chdir):  # by the name as given, since a release may be a symbolic link
        env["PWD"] = plan.chdir
    _check(plan)
    if not os.path.isdir("/proc/self/fd"):
        raise Error(
            "/proc is not mounted, and the launcher needs it to change sockets and find "
            "descriptors; run `mount -t proc proc /proc` first"
        )
    if not was_root and (obstacles := list(_needs_root(plan, who, access))):
        raise Error(f"this needs root, and nothing was done: {'; '.join(obstacles)}")
    for warning in _warnings(plan, who, access):
        say(f"warning: {warning}")
    if left_out and plan.keep_env is None:
        say(
            f"not passed on from root's environment: {', '.join(left_out)}. --env NAME passes one "
            "on, --keep-env all of them"
        )
    with _sockets(plan, access) as made:
        if who != _identity(plan):
            raise Error(
                f"--run-as {plan.run_as}: the user or its groups have just changed; try again"
            )
        plan.made()
        descriptors = process.place(made, plan.keep, plan.hold)
        terminal = None
        if was_root:
            controlling_terminal.close_standard_descriptors()
            # On demand, the launcher keeps the terminal for ^C: the command gets a session of its
            # own
            terminal = None if plan.on_demand else controlling_terminal.find()
        process.set_limits(limits)
        if plan.chroot:
            _enter_root(plan.chroot)
        if plan.umask is not None:
            os.umask(plan.umask)
        elif was_root:
            os.umask(os.umask(0o777) | 0o022)  # systemd's UMask= is 0022
        process.reset_signals()
        privileges.drop(who)
        if was_root:
            syscalls.forbid_tracing()  # the launcher's memory still has data of root
        if plan.chdir:
            with _said_of(f"--chdir {plan.chdir}, as {who.name}"):
                os.chdir(plan.chdir)
        if terminal is not None:
            controlling_terminal.leave(terminal)

    def execute() -> NoReturn:
        pass_fds.execute(plan.command, env, len(descriptors), _names(plan))

    return Activator(descriptors, execute).run() if plan.on_demand else execute()


def _check(plan: Launch) -> None:
    if not plan.command[0]:
        raise UsageError("the command is empty: give the command to execute after --")
    seen = [address._replace(name="") for address in plan.listen]
    for address in seen:
        if seen.count(address) > 1:
            raise UsageError(f"--listen {address} is given more than once")


def _identity(plan: Launch) -> Identity:
    if plan.run_as:
        return privileges.find(plan.run_as)
    if os.geteuid() == 0:
        raise UsageError("--run-as USER is missing: the user that the command runs as")
    return privileges.current()


def _enter_root(directory: str) -> None:
    """Make `directory` the process's root directory, and verify it."""
    with _said_of(f"--chroot {directory}"):
        wanted = os.stat(directory)
        os.chroot(directory)
        os.chdir("/")
    if not os.path.samestat(os.stat("/"), wanted):
        raise Error(
            f"--chroot {directory}: chroot had no effect: the root directory is still a "
            "different one"
        )


@contextmanager
def _said_of(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Error(f"{what}: {error.strerror}") from None


def _access(plan: Launch) -> Access:
    return Access(
        privileges.user_id(plan.user, "--user") if plan.user else os.geteuid(),
        privileges.group_id(plan.group, "--group") if plan.group else os.getegid(),
        plan.mode,
    )


def _names(plan: Launch) -> list[str]:
    """The sockets' names for LISTEN_FDNAMES; empty if none has a name."""
    names = [address.name for address in plan.listen]
    return [name or "unknown" for name in names] if any(names) else []


def _needs_root(plan: Launch, who: Identity, access: Access) -> Iterator[str]:
    """Yield the parts of `plan` that only root can carry out."""
    own_groups = privileges.held_groups()
    if who.uid != os.getuid() or who.gid != os.getgid():
        yield f"--run-as {plan.run_as} is not the user who runs this"
    elif sorted({who.gid, *who.groups}) != own_groups:
        yield (
            f"--run-as {plan.run_as}: its groups differ from those of this process; leave "
            "--run-as out"
        )
    if access.uid != os.geteuid():
        yield f"--user {plan.user}: only root can give a socket to another user"
    if access.gid not in own_groups:
        yield f"--group {plan.group}: a user who is not in the group can't give it a socket"
    if plan.chroot:
        yield "--chroot needs root"
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if syscalls.binds_low_ports():
        lowest = 0
    for address in plan.listen:
        if address.family in ("inet", "inet6") and address.port < lowest:
            yield f"--listen {address}: only root can listen on ports below {lowest}"


def _warnings(plan: Launch, who: Identity, access: Access) -> Iterator[str]:
    if any(address.path for address in plan.listen):
        if access.mode & stat.S_IWOTH:
            yield f"--mode {access.mode:04o} lets every user of this machine connect"
        if access.uid == who.uid and os.geteuid() == 0:
            yield (
                f"--user {plan.user} is the user that the application runs as, which could then "
                "change who may connect. Leave --user out, so that root owns the socket"
            )
    for address in plan.listen:
        if address.family == "abstract":
            yield f"--listen {address} has no owner or mode: every local user can connect"


@contextmanager
def _sockets(plan: Launch, access: Access) -> Iterator[list[socket]]:
    """Create the sockets; if a later step fails, remove them again as far as still permitted."""
    made: list[tuple[ListenAddress, socket]] = []
    try:
        for address in plan.listen:
            made.append((address, _listen_at_last(address, access, plan)))
        yield [sock for _, sock in made]
    except BaseException:
        for _, sock in made:
            sock.close()
        # At their numbers from `place`
        os.closerange(pass_fds.FIRST, pass_fds.targets(len(made)).stop)
        for address, _ in made:
            if address.path:
                with suppress(OSError, Error):
                    sockets.remove_unix(address.path)
        raise


def _listen_at_last(address: ListenAddress, access: Access, plan: Launch) -> socket:
    """Create the socket; while another process uses the address, retry for `patience` seconds."""
    deadline = time.monotonic() + plan.patience
    while True:
        try:
            return _listen(address, access, plan.backlog)
        except SocketInUse:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.1)


def _listen(address: ListenAddress, access: Access, backlog: int) -> socket:
    match address.family:
        case "unix":
            return sockets.listen_unix(address.path, access, backlog)
        case "abstract":
            return sockets.listen_other(AF_UNIX, f"\0{address.host}", backlog, str(address))
        case "inet":
            return sockets.listen_other(
                AF_INET, (address.host, address.port), backlog, str(address)
            )
        case "inet6":
            where = (address.host, address.port)
            return sockets.listen_other(AF_INET6, where, backlog, str(address))
        case "vsock":
            cid = int(address.host or VMADDR_CID_ANY)
            return sockets.listen_other(AF_VSOCK, (cid, address.port), backlog, str(address))
