"""Checks on the dependencies between a socket and its service: stops, order, names."""

import posixpath
import re
from collections.abc import Iterator

from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Hit, Lines
from sdactivate.doctor.units import requires, service_of
from sdactivate.systemd.unitfile import Entry, Unit

_IN_SOCKET = {
    "PartOf": "a stop or restart of {} stops or restarts it as well",
    "BindsTo": "it stops whenever {} does, including after a crash or an idle exit",
    "Requires": "a stop or restart of {} stops or restarts it as well",
    "Requisite": "it starts only while {} runs, and stops with it",
    "StopPropagatedFrom": "a stop of {} stops it as well",
    "Conflicts": "a start of {} stops it",
}
"""Lines that stop a socket unit with its service (systemd.unit(5)). The first four in the *service*
do the reverse: the service stops with its socket, as it should."""
_IN_SERVICE = {"PropagatesStopTo": _IN_SOCKET["StopPropagatedFrom"],
               "Conflicts": _IN_SOCKET["Conflicts"]}  # fmt: skip
_IN_INSTALL = {"RequiredBy": _IN_SOCKET["Requires"]}
_ENDS = ("ExecStop", "ExecStopPost", "ExecStartPre", "ExecStartPost", "ExecReload")
_VERBS = ("stop", "restart", "kill", "disable")


def stops_with_service(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        for socket in case.sockets:
            for entry, other, how in _ties(socket, service):
                yield Hit(
                    entry,
                    f"{how.format(service.name)}. While {socket.name} is down, clients are "
                    "refused, and connections waiting in its backlog are dropped",
                    Advice(
                        f"remove {_instance(other)} from this line (a drop-in can't do that). The "
                        f"reverse is right: set Requires={_instance(socket)} in {service.name}"
                    ),
                )
            for entry in (it for key in _ENDS for it in service.entries_of(key)):
                words = common.command(entry, service)
                if _is_systemctl(words) and _instance(socket) in words:
                    yield Hit(
                        entry,
                        f"it stops {socket.name}, where clients wait while the service is down",
                        Advice(f"remove the line: {socket.name} has to stay active"),
                    )


def _ties(socket: Unit, service: Unit) -> Iterator[tuple[Entry, Unit, str]]:
    """Yield the lines that stop the socket with its service, the unit they name, and how."""
    places = (
        (socket, service, "Unit", _IN_SOCKET),
        (service, socket, "Unit", _IN_SERVICE),
        (service, socket, "Install", _IN_INSTALL),
    )
    for unit, other, section, keys in places:
        # An empty line does not reset these: systemd.unit(5), "dependencies can't be reset".
        for entry in unit.entries:
            if entry.section == section and entry.key in keys and _names(entry, unit, other):
                yield entry, other, keys[entry.key]


def _names(entry: Entry, unit: Unit, other: Unit) -> bool:
    """Return whether a line of `unit` names `other`; for a template, the same instance of it."""
    return _instance(other) in [common.resolve(it, unit) for it in entry.value.split()]


def _instance(unit: Unit) -> str:
    return unit.name.replace("@.", "@%i.")


def _is_systemctl(words: list[str]) -> bool:
    return (
        bool(words)
        and posixpath.basename(words[0]) == "systemctl"
        and any(it in words for it in _VERBS)
    )


_BINDS = re.compile(
    r"(-b|-s|-u|-p|--bind|--socket|--http\S*|--uds|--host|--port|--listen|--unix-socket)(=.*)?"
)


def names_differ(case: Case) -> Iterator[Hit]:
    """Sockets without a service, if there is a server without a socket that is meant for them."""
    for socket in case.sockets if case.service is None else ():
        meant = [it for it in case.deployment.near if _is_meant(it, socket)]
        if len(meant) == 1 and not socket.is_on("Accept"):
            starts, serves = service_of(socket), meant[0].name
            yield Hit(
                socket.entry("Service") or socket,
                f"{socket.name} starts {starts}, which doesn't exist; {serves} gets no socket",
                Lines(socket.name, "Socket", (f"Service={serves}",)),
            )


def _is_meant(service: Unit, socket: Unit) -> bool:
    """Return whether a service runs a server that needs this socket or binds none itself."""
    if not common.server(service):
        return False
    commands = [common.command(it, service) for it in service.entries_of("ExecStart")]
    binds = any(_BINDS.fullmatch(word) for words in commands for word in words)
    return requires(service, socket.name) or not binds
