"""Checks on the running system: the sockets, their files and backlogs."""

import contextlib
import grp
import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

from sdactivate.access import words
from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit, Lines, restart
from sdactivate.doctor.host_state import HostState
from sdactivate.doctor.units import service_of
from sdactivate.systemd.systemctl import listed, since_epoch

_SMALL = 1024
_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
_REASONS = {
    "trigger-limit-hit": "the service was started too often within the limit's interval "
    "(TriggerLimitBurst=)",
    "service-start-limit-hit": "the service was started too often within the limit's interval "
    "(StartLimitBurst=)",
    "resources": "the socket couldn't be created",
    "exit-code": "one of its commands failed (ExecStartPre=), or its owner couldn't be set",
}
_LOADS = {
    "not-found": "create {0} (sdactivate gen --kind service)",
    "masked": "systemctl unmask {0}",
    "error": "fix the line that `systemd-analyze verify {0}` shows",
}
_LISTENS = {"uvicorn": "--backlog", "hypercorn": "--backlog"}
"""Servers that call listen() on a socket that they inherit, and their option for the backlog.
Measured: uvicorn 2048, hypercorn 100."""
_UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
_ACCOUNTS: dict[str, tuple[Callable[[str], object], str]] = {
    "SocketGroup": (grp.getgrnam, "groupadd"),
    "SocketUser": (pwd.getpwnam, "useradd"),
}


def _restart(case: Case, socket: str, *, safe: bool = True) -> Command:
    return _without_service(case, socket, restart(socket, safe=safe))


def _without_service(case: Case, socket: str, command: Command) -> Command:
    """Return `command`, preceded by a stop of the service if systemd requires that.

    systemd refuses to start or restart a socket unit while its service is running. With Requires=
    it stops the service itself. Without, the service has to be stopped first; even one systemctl
    restart for both is refused (tested).
    """
    service = case.service.name if case.service else ""
    runs = service and case.running.property(service, "ActiveState") == "active"
    if not runs or socket in listed(case.running.property(service, "Requires")):
        return command
    return command._replace(first=("systemctl", "stop", service))


def without_service(case: Case) -> Iterator[Hit]:
    """A socket unit whose service systemd can't start."""
    for socket in case.sockets:
        is_there = case.running.property(socket.name, "ActiveState") != "inactive"
        if case.service is not None or socket.is_on("Accept") or not is_there:
            continue
        service = service_of(socket)
        state = case.running.property(service, "LoadState")
        correction = _LOADS.get(state, _LOADS["error"]).format(service)
        again = f"systemctl restart {socket.name}"
        masked = state == "masked"
        yield Hit(
            socket.name,
            f"{service} is {state}: the socket unit fails when the next client connects",
            Command(("systemctl", "unmask", service)) if masked else Advice(correction),
            then=f"systemctl daemon-reload && {again}" if not masked else again,
        )


def not_listening(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        if case.running.property(socket.name, "ActiveState") != "inactive":
            continue
        start = Command(("systemctl", "enable", "--now", socket.name), True)
        because, fix = "the socket unit is not active: nothing listens", None
        if case.service is None and not socket.is_on("Accept"):
            service = service_of(socket)
            state = case.running.property(service, "LoadState")
            because = (
                f"systemd starts a socket only if it can load its service, and {service} is {state}"
            )
            fix = Advice(f"{_LOADS.get(state, _LOADS['error']).format(service)}, then {start}")
        yield Hit(socket, because, fix or _without_service(case, socket.name, start))


def file_lost(case: Case) -> Iterator[Hit]:
    host = case.running
    for unit, path in host.paths():
        listener = host.listener(path)
        if listener and host.is_systemds(listener):
            continue
        if listener:
            how = "is another process's socket: clients connect to that one"
        elif os.path.lexists(path):
            how = "is not the file that it created: no client can connect"
        else:
            how = "is gone: no client can connect"
        because = f"{unit} is active, but {path} {how}"
        yield Hit(unit, because, _restart(case, unit), path=path)


def socket_failed(case: Case) -> Iterator[Hit]:
    host = case.running
    for socket in case.sockets:
        if host.property(socket.name, "ActiveState") != "failed":
            continue
        result = host.property(socket.name, "Result")
        said = host.complaint(socket.name)
        because = _REASONS.get(result, result) + (f"; its last log line: {said}" if said else "")
        again = _restart(case, socket.name, safe=False)
        made = _unknown_owner(case, socket.name)
        yield Hit(socket.name, because, made or again, then=str(again) if made else "")


def _unknown_owner(case: Case, socket: str) -> Fix | None:
    """Return the fix that creates the missing owner or group of the socket, None if both exist.

    An account with the name of a dynamic user would make the service fail (status=217/USER).
    """
    host = case.running
    dynamic = [common.user(it) for it in common.services(case.service) if common.is_dynamic(it)]
    for key, (known, makes) in _ACCOUNTS.items():
        name = host.property(socket, key)
        try:
            known(name or "root")
        except KeyError:
            if name in dynamic:
                owner = common.front_group(case) if key == "SocketGroup" else "root"
                return Lines(socket, "Socket", (f"{key}={owner}",))
            return None if name.isdigit() else Command((makes, "--system", name))
    return None


def differs(case: Case) -> Iterator[Hit]:
    host = case.running
    names = [unit.name for unit in case.deployment.units if "@." not in unit.name]
    unread = [name for name in names if host.property(name, "NeedDaemonReload") == "yes"]
    for unit in unread:
        # Whether a socket needs a restart shows only after systemd has read its unit.
        runs = unit.endswith(".service") and host.property(unit, "ActiveState") == "active"
        yield Hit(
            unit,
            f"{unit} was changed on disk, but systemd has not reloaded it",
            Command(("systemctl", "daemon-reload"), True),
            then=str(restart(unit)) if runs else "",
        )
    yield from (hit for hit in _changed_by_hand(case) if hit.at not in unread)


def _changed_by_hand(case: Case) -> Iterator[Hit]:
    host = case.running
    for unit, path in host.paths():
        node, listener = host.way(path).end, host.listener(path)
        if node is None or listener is None:
            continue
        mode = host.property(unit, "SocketMode")
        owner = host.property(unit, "SocketUser") or "root"
        group = host.property(unit, "SocketGroup")
        have = {
            # With an ACL, the mode's group bits are the mask and can't be compared.
            "mode": (f"{node.mode & 0o777:04o}", "" if node.acl else mode.zfill(4)),
            "owner": (words.user(node.uid), owner if not owner.isdigit() else ""),
            "group": (words.group(node.gid), group if not group.isdigit() else ""),
        }
        wrong = [
            f"{what} {found} instead of {wanted}"
            for what, (found, wanted) in have.items()
            if wanted and found != wanted
        ]
        way = path if wrong else ""
        asked = min(_backlog(host, unit), _most())
        # `damaged` reports 0, and `short_queue` a backlog that the server set.
        if listener.backlog not in (0, asked) and not _service_listens(case, unit):
            wrong.append(f"a backlog of {listener.backlog} instead of {asked}")
        if wrong:
            yield Hit(
                unit,
                f"{path} has {', '.join(wrong)}: it was changed by hand, or its unit was changed "
                "and the socket was not restarted",
                _restart(case, unit),
                path=way,
            )


def _service_listens(case: Case, socket: str) -> bool:
    """Return whether the service itself called listen() on its socket, with its own backlog.

    Only a process that has the socket can do that. So it was the service, if it has run since the
    socket was created, and either its server is known to do that or the unit has not changed since.
    """
    host, service = case.running, case.service
    if service is None:
        return False
    made = host.began(socket)
    started = since_epoch(host.property(service.name, "ExecMainStartTimestampMonotonic"))
    if started < made:
        return False
    return common.server(service) in _LISTENS or not _changed_since(case, socket, made)


def _changed_since(case: Case, socket: str, moment: float) -> bool:
    """Return whether a file or a drop-in directory of a socket unit is newer than `moment`."""
    unit = next(it for it in case.sockets if it.name == socket)
    directories = [f"{place}/{socket}.d" for place in _UNIT_DIRECTORIES]
    for name in (*unit.files, *directories, *(os.path.dirname(it) for it in unit.files)):
        with contextlib.suppress(OSError):
            if os.stat(name).st_mtime > moment and name not in _UNIT_DIRECTORIES:
                return True
    return False


def short_queue(case: Case) -> Iterator[Hit]:
    host = case.running
    for unit, path in host.paths():
        listener = host.listener(path)
        asked = min(_backlog(host, unit), _most())
        if not listener or not 0 < listener.backlog < min(asked, _SMALL):
            continue
        if case.service is not None and _service_listens(case, unit):
            server = common.server(case.service)
            option = _LISTENS.get(server, "")
            more = f"set {option} 4096 in ExecStart= of {case.service.name}"
            yield Hit(
                case.service.name,
                f"{server or case.service.name} calls listen() on {path} itself, with a backlog "
                f"of {listener.backlog} instead of the {asked} that {unit} sets",
                Advice(
                    more if option else f"make the server call listen() with {asked}, or not at all"
                ),
                unit,
                path=path,
            )


def damaged(case: Case) -> Iterator[Hit]:
    host = case.running
    for unit, path in host.paths():
        listener = host.listener(path)
        # Backlog=0 in the unit is intended.
        meant = listener and not listener.is_shut_down and not _backlog(host, unit)
        if listener and listener.damage and not meant:
            yield Hit(
                unit,
                f"{path}: {listener.damage}. A process that inherited the socket did this. The "
                "damage lasts after that process has ended",
                _restart(case, unit),
            )


def backlog_full(case: Case) -> Iterator[Hit]:
    host = case.running
    for unit, path in host.paths():
        listener = host.listener(path)
        if listener and listener.backlog and listener.waiting * 2 > listener.backlog:
            yield Hit(
                unit,
                f"{listener.waiting} of at most {listener.backlog} connections are waiting at "
                f"{path}",
                Advice("use more --threads or --workers, or find out what the requests wait for"),
            )


def somaxconn(case: Case) -> Iterator[Hit]:
    host = case.running
    for unit, path in host.paths():
        listener = host.listener(path)
        if listener and _most() < min(_backlog(host, unit), _SMALL):
            yield Hit(
                unit,
                f"{path} has a backlog of {listener.backlog}: net.core.somaxconn allows no more",
                Command(("sysctl", "-w", "net.core.somaxconn=4096")),
                then=str(_restart(case, unit)),
            )


def _backlog(host: HostState, unit: str) -> int:
    """Return the backlog that a socket unit sets."""
    asked = host.property(unit, "Backlog")
    return int(asked) if asked.isdecimal() else 0


def _most() -> int:
    """Return the kernel's limit of the backlog."""
    return int(_SOMAXCONN.read_text())
