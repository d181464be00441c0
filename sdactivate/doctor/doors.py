"""The sockets of a deployment: systemd's, and those that its service creates itself.

Most deployments have no socket unit: the server creates a socket, or binds a port, when it starts.
The same reasons can keep a front from connecting; only the lines that fix them are different.

A service may also listen on sockets that are not for a front (statistics, control sockets). So its
own socket counts as a door only if the configuration of a front names it.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from sdactivate.access.processes import Process
from sdactivate.doctor import text_file
from sdactivate.doctor.host_state import HostState, InstalledFront
from sdactivate.front_config import Naming
from sdactivate.front_upstreams import Upstream, groups, targets, upstreams

T = TypeVar("T")
_LISTEN = "0A"  # TCP_LISTEN of /proc/net/tcp


class Own(NamedTuple):
    """A socket that a service created itself and listens on: a path or a TCP port."""

    path: str
    port: int
    process: Process
    number: int
    """The socket's inode number, as in `sock_diag.Listener`."""

    @property
    def address(self) -> str:
        """Its name for people."""
        return self.path or f"127.0.0.1:{self.port}"


class Asker(NamedTuple):
    """A front, and the line of its configuration that names a socket."""

    installed: InstalledFront
    upstream: Upstream


class Door(NamedTuple):
    """A unix socket that receives requests.

    unit: the socket unit; the service, if it created the socket itself (`own`).
    """

    unit: str
    path: str
    own: Own | None = None
    askers: tuple[Asker, ...] = ()
    """The fronts that name it, if it is the service's own."""


def doors(host: HostState) -> list[Door]:
    """Return the unix sockets to which fronts of a deployment connect."""
    return host.machine.once(("doors", host.deployment.name), lambda: _doors(host))


def _doors(host: HostState) -> list[Door]:
    found = [Door(unit, path) for unit, path in host.paths()]
    service = host.deployment.service
    for own in own_sockets(host) if service else ():
        askers = tuple(asking(host, own))
        if service and own.path and askers:
            found.append(Door(service.name, own.path, own, askers))
    return found


def own_sockets(host: HostState) -> list[Own]:
    """Return the sockets of a service that it listens on but did not inherit from systemd."""
    return host.machine.once(("own sockets", host.deployment.name), lambda: _own_sockets(host))


def _own_sockets(host: HostState) -> list[Own]:
    service = host.deployment.service
    if service is None:
        return []
    holders: dict[int, Process] = {}
    for process in host.processes:
        if process.unit == service.name:
            for number in _sockets_of(process):
                holders.setdefault(number, process)
    found = [
        Own(_absolute(it.name, holders[it.number]), 0, holders[it.number], it.number)
        for it in host.listeners
        if it.number in holders and it.name[:1] not in ("", "@") and not host.is_systemds(it)
    ]
    held = host.machine.held or frozenset()
    for number, port in host.machine.once("ports", listening_ports).items():
        if number in holders and number not in held:
            found.append(Own("", port, holders[number], number))
    return found


def _sockets_of(process: Process) -> set[int]:
    """Return the inode numbers of a process's sockets (proc_pid_fd(5))."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process.pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{process.pid}/fd/{name}")
                found |= {int(it) for it in re.findall(r"^socket:\[(\d+)\]$", link)}
    return found


def _absolute(name: str, process: Process) -> str:
    """Return the path of a socket whose address may be relative (gunicorn -b unix:a.sock)."""
    if name.startswith("/"):
        return os.path.normpath(name)
    try:
        return os.path.normpath(os.path.join(os.readlink(f"/proc/{process.pid}/cwd"), name))
    except OSError:
        return name


def listening_ports() -> dict[int, int]:
    """Return the listening TCP ports by the sockets' inode numbers (proc_net_tcp)."""
    return {**_ports("tcp"), **_ports("tcp6")}


def holder(host: HostState, port: int) -> Process | None:
    """Return a process that listens on a TCP port; None if nobody does, or its process is hidden.

    PID 1 is the last choice: a service shares the socket that it has inherited.
    """
    ports = host.machine.once("ports", listening_ports)
    numbers = {number for number, at in ports.items() if at == port}
    found = [it for it in host.processes if numbers and numbers & _sockets_of(it)]
    return max(found, key=lambda it: it.pid != 1, default=None)


def ipv4_ports() -> set[int]:
    """Return the TCP ports on which something listens on IPv4, and nothing on IPv6."""
    return {*_ports("tcp").values()} - {*_ports("tcp6").values()}


def _ports(name: str) -> dict[int, int]:
    try:
        lines = Path("/proc/net", name).read_text().splitlines()[1:]
    except OSError:
        return {}
    return {
        int(words[9]): int(words[1].rpartition(":")[2], 16)
        for words in map(str.split, lines)
        if words[3] == _LISTEN
    }


def asking(host: HostState, own: Own) -> list[Asker]:
    """Return the fronts whose configuration names a socket; only running ones, if there are any."""
    return [
        Asker(installed, upstream)
        for installed in [it for it in host.fronts if it.workers] or host.fronts
        for upstream in asked(host, installed)
        if is_meant(upstream, own, installed)
    ]


def is_meant(upstream: Upstream, own: Own, installed: InstalledFront) -> bool:
    """Return whether a front names a service's own socket, in its chroot or outside."""
    if upstream.port:
        return upstream.port == own.port
    seen = installed.packaging.path_inside(own.path)
    return bool(own.path) and upstream.path in (own.path, seen)


def asked(host: HostState, installed: InstalledFront) -> list[Upstream]:
    """Return what a front connects to."""
    name = installed.packaging.unit
    return host.machine.once(
        ("asked", name), lambda: upstreams(installed.front.name, texts(host, installed))
    )


def texts(host: HostState, installed: InstalledFront) -> dict[str, str]:
    """Return the files of a front's configuration.

    HAProxy's is one file, which `front_config` does not read.
    """
    files = dict(host.machine.configuration(installed).files)
    if not files:
        path = installed.packaging.config
        files = host.machine.once(("text", path), lambda: _text(path))
    return files


def naming(host: HostState, installed: InstalledFront, path: str) -> dict[str, str]:
    """Return the files of a front's configuration that name the socket at `path`."""
    index: Naming[tuple[str, str]] = host.machine.once(
        ("texts by path", installed.packaging.unit),
        lambda: Naming((it, it[1]) for it in texts(host, installed).items()),
    )
    return dict(index.of(path))


def concerning(host: HostState, installed: InstalledFront, upstream: Upstream) -> dict[str, str]:
    """Return the files of a front's configuration that may pass requests to a socket.

    These files name the socket, or nginx's upstream group of it. For a port they are all files.
    """
    found = naming(host, installed, upstream.path) if upstream.path else texts(host, installed)
    if upstream.path and installed.front.name == "nginx":
        passing = host.machine.once(
            ("files by target", installed.packaging.unit),
            lambda: by_target(texts(host, installed).items(), lambda it: it[1]),
        )
        for name in groups(found, upstream):
            found |= dict(passing.get(name, ()))
    return found


def by_target(things: Iterable[T], text: Callable[[T], str]) -> dict[str, list[T]]:
    """Return parts of nginx's configuration by the target of their requests.

    text: returns the text of a part.
    """
    found: dict[str, list[T]] = {}
    for thing in things:
        for target in targets(text(thing)):
            found.setdefault(target, []).append(thing)
    return found


def _text(path: str) -> dict[str, str]:
    text = text_file.read(path, 1 << 20)
    return {} if text is None else {path: text}
