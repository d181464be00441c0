"""Checks on the text of a socket unit."""

import posixpath
from collections.abc import Iterator

from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Hit, Lines
from sdactivate.systemd.unitfile import Unit
from sdactivate.values import PATH_MAX

_SMALL_BACKLOG = 128  # what the kernel itself allowed before Linux 5.4
_USUAL_TRIGGERS, _USUAL_INTERVAL = 20, 2.0  # systemd.socket(5), with Accept=no
_WRITE_OF_OTHERS, _SEARCH_OF_OTHERS = 0o002, 0o001


def mode_unset(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        if common.paths(socket) and socket.entry("SocketMode") is None:
            yield Hit(
                socket,
                "SocketMode= is not set, so it is 0666: every user of this host can connect",
                _mode(case, socket),
            )


def open_to_others(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        entry = socket.entry("SocketMode")
        if entry and common.paths(socket) and common.mode(socket) & _WRITE_OF_OTHERS:
            yield Hit(
                entry,
                f"with mode {entry.value} others have write permission, which is all that "
                "connect() needs: every user of this host can connect",
                _mode(case, socket),
            )


def _mode(case: Case, socket: Unit) -> Lines:
    lines = ["SocketMode=0660"]
    if socket.entry("SocketGroup") is None:
        lines.append(f"SocketGroup={common.front_group(case)}")
    return Lines(socket.name, "Socket", tuple(lines))


def group_by_default(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        owner = socket.entry("SocketUser")
        if owner and socket.entry("SocketGroup") is None and common.paths(socket):
            yield Hit(
                owner,
                f"without SocketGroup= the socket gets {owner.value}'s default group",
                Lines(socket.name, "Socket", (f"SocketGroup={common.front_group(case)}",)),
            )


def path_too_long(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        for address in common.addresses(socket):
            length = len(address.text.encode())
            if not address.is_network and length > PATH_MAX:
                yield Hit(
                    address.entry,
                    f"the address has {length} bytes, but a unix socket's address holds at most "
                    f"{PATH_MAX}: systemd can't bind it",
                    Advice(f"ListenStream={common.usual_path(socket)}"),
                )


def abstract(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        for address in common.addresses(socket):
            if address.is_abstract:
                yield Hit(
                    address.entry,
                    f"{address.text} has no file, and so no owner and no mode: every process in "
                    "the network namespace can connect",
                    Advice(
                        f"ListenStream={common.usual_path(socket)}, SocketMode=0660 and "
                        f"SocketGroup={common.front_group(case)}"
                    ),
                )


def loopback(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        for address in common.addresses(socket):
            if address.is_network and address.is_loopback:
                yield Hit(
                    address.entry,
                    "every local user, including PHP and shell accounts, can connect to "
                    f"{address.text} and bypass the front",
                    Advice(
                        f"ListenStream={common.usual_path(socket)}, SocketMode=0660 and "
                        f"SocketGroup={common.front_group(case)}"
                    ),
                )


def temporary_directory(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        for address in common.paths(socket):
            if not common.under(address.text, "/tmp", "/var/tmp"):  # noqa: S108
                continue
            private = case.service is not None and common.has_private_tmp(case.service)
            whose = f"{case.service.name} has" if private and case.service else "some fronts have"
            yield Hit(
                address.entry,
                f"{whose} a private /tmp (PrivateTmp=; Apache and Caddy as packaged). This socket "
                "doesn't exist there. In the shared directory, any user can create a file of "
                "this name first",
                Advice(f"ListenStream={common.usual_path(socket)}"),
            )


def closed_directory(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        entry = socket.entry("DirectoryMode")
        if entry is None:
            continue
        for address in common.paths(socket):
            parent = posixpath.dirname(address.text)
            if parent not in ("/", "/run") and not int(entry.value, 8) & _SEARCH_OF_OTHERS:
                yield Hit(
                    entry,
                    f"if systemd creates {parent}, it belongs to root:root and has mode "
                    f"{entry.value}: no front can search it, whatever the socket's mode is",
                    Lines(socket.name, "Socket", ("DirectoryMode=0755",), True),
                    path=parent,
                )


def accept(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        entry = socket.entry("Accept")
        if entry and socket.is_on("Accept"):
            yield Hit(
                entry,
                "systemd starts a new process for every connection: the application is imported "
                "for each request",
                Advice(
                    f"set Accept=no in {socket.name}; its service is then {socket.prefix}.service, "
                    "which is not a template and accepts the connections itself"
                ),
            )


def limits_without_effect(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        for key in ("MaxConnections", "MaxConnectionsPerSource"):
            entry = socket.entry(key)
            if entry and not socket.is_on("Accept"):
                yield Hit(
                    entry,
                    f"{key}= counts the processes that Accept=yes starts. With Accept=no it has "
                    "no effect",
                    Advice(
                        "remove the line; limit connections in the server (sdactivate serve "
                        "--connections) or the front"
                    ),
                )


def flush_pending(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        entry = socket.entry("FlushPending")
        if entry and socket.is_on("FlushPending"):
            yield Hit(
                entry,
                "connections that wait while the service restarts are dropped. The socket is "
                "there to prevent that",
                Lines(socket.name, "Socket", ("FlushPending=no",), True),
            )


def remove_on_stop(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        entry = socket.entry("RemoveOnStop")
        if entry and socket.is_on("RemoveOnStop"):
            yield Hit(
                entry,
                "clients that connect while the socket unit restarts find no file. With "
                "RemoveOnStop=no the file stays until it is replaced",
                Lines(socket.name, "Socket", ("RemoveOnStop=no",), True),
            )


def low_trigger_limit(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        burst = socket.entry("TriggerLimitBurst")
        span = socket.entry("TriggerLimitIntervalSec")
        count = int(burst.value) if burst else _USUAL_TRIGGERS
        seconds = common.seconds(span.value) if span else _USUAL_INTERVAL
        if socket.is_on("Accept") or not count or not seconds:
            continue  # per connection, or no limit at all
        entry = burst or span
        if entry and count / seconds < _USUAL_TRIGGERS / _USUAL_INTERVAL:
            yield Hit(
                entry,
                f"if the service fails {count} times in {seconds:g} s, its socket unit fails too. "
                "Every client is then refused until the socket unit is restarted by hand",
                Lines(
                    socket.name,
                    "Socket",
                    (
                        f"TriggerLimitBurst={_USUAL_TRIGGERS}",
                        f"TriggerLimitIntervalSec={_USUAL_INTERVAL:g}s",
                    ),
                    True,
                ),
            )


def small_backlog(case: Case) -> Iterator[Hit]:
    for socket in case.sockets:
        entry = socket.entry("Backlog")
        if entry and int(entry.value) < _SMALL_BACKLOG:
            yield Hit(
                entry,
                f"with {entry.value} connections waiting, nginx and Caddy answer 502 at once; so "
                "many can arrive while the service starts",
                Lines(socket.name, "Socket", ("Backlog=4096",), True),
            )


def unnamed(case: Case) -> Iterator[Hit]:
    if len(case.sockets) < 2:
        return
    for socket in case.sockets:
        if socket.entry("FileDescriptorName") is None:
            yield Hit(
                socket,
                f"{len(case.sockets)} sockets are passed in an undefined order, and the only name "
                "of this one is its unit's name",
                Lines(socket.name, "Socket", (f"FileDescriptorName={socket.prefix}",)),
            )
