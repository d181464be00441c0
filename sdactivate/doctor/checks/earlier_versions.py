"""Checks for units that an earlier version of the kit wrote: which of today's lines they lack."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.systemd.unitfile import Unit

_FIRST_BYTE = ("", "native", "flup", "uwsgi")  # servers that speak more than HTTP
_CGI_LIKE = ("scgi", "fastcgi", "uwsgi")


class _Mark(NamedTuple):
    """One thing that today's units have. `always`: no option of gen leaves it out."""

    line: str
    has: Callable[[Unit], bool]
    always: bool = False
    only_ours: bool = False  # only where the service runs `sdactivate serve`


def _variable(name: str) -> Callable[[Unit], bool]:
    return lambda unit: any(it.startswith(f"{name}=") for it in unit.words("Environment"))


def _directive(key: str, word: str = "") -> Callable[[Unit], bool]:
    return lambda unit: any(word in entry.value for entry in unit.entries_of(key))


_MARKS = (
    _Mark("Environment=PYTHONNOUSERSITE=1", _variable("PYTHONNOUSERSITE"), True),
    _Mark("MemoryMax=", _directive("MemoryMax"), True),
    _Mark("TasksMax=", _directive("TasksMax"), True),
    _Mark("RestartSec=100ms", lambda unit: unit.value("RestartSec", "100ms") == "100ms"),
    _Mark("SystemCallFilter=~listen", _directive("SystemCallFilter", "listen"), only_ours=True),
    _Mark("InaccessiblePaths= for the system bus", _directive("InaccessiblePaths", "/run/dbus")),
    _Mark("NoExecPaths=", _directive("NoExecPaths")),
    _Mark(
        "Environment=SDACTIVATE_BODY_BYTES= (with --max-body)",
        _variable("SDACTIVATE_BODY_BYTES"),
        only_ours=True,
    ),
)


def _missing(service: Unit) -> list[str]:
    """Return what a generated service lacks if an earlier version wrote it; else nothing."""
    if not service.is_generated or all(it.has(service) for it in _MARKS if it.always):
        return []
    ours = common.is_ours(service)
    return [it.line for it in _MARKS if not it.has(service) and (ours or not it.only_ours)]


def older_generator(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        if missing := _missing(service):
            kind = "template" if "@" in service.name else "service"
            yield Hit(
                service,
                f"an older sdactivate wrote this unit. It lacks: {', '.join(missing)}",
                Advice(
                    f"run sdactivate install {service.prefix} … with the same options as before; "
                    f"without install: sdactivate gen {service.prefix} --kind {kind} …, then "
                    f"systemctl daemon-reload && systemctl restart {service.name}"
                ),
            )


def protocol_on_tcp(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        if not common.is_ours(service) or (service.is_generated and not _missing(service)):
            continue  # in units of this version, this is intended
        if (common.setting(service, "server") or "") not in _FIRST_BYTE:
            continue
        protocol = common.setting(service, "protocol") or "auto"
        trusts = bool(common.setting(service, "trust"))
        for socket in case.sockets:
            pinned = socket.value("FileDescriptorName")
            spoken = pinned if pinned in (*_CGI_LIKE, "http") else protocol
            for address in common.addresses(socket):
                if not address.is_network:
                    continue
                if spoken == "auto":
                    yield Hit(
                        address.entry,
                        f"{address.text} uses HTTP, because {service.name} sets no protocol: a "
                        "front that uses SCGI, FastCGI or uwsgi gets 400",
                        Advice(
                            f"in [Service] of {service.name}, set "
                            "Environment=SDACTIVATE_PROTOCOL=http. For scgi, fastcgi or uwsgi, "
                            "set that value instead, and add Environment=SDACTIVATE_TRUST=THE "
                            "FRONT'S ADDRESS"
                        ),
                    )
                elif spoken in _CGI_LIKE and not trusts:
                    yield Hit(
                        address.entry,
                        f"{address.text} uses {spoken}, and {service.name} trusts no peer: it "
                        "does not accept what a front reports about its client (address, HTTPS, "
                        "user)",
                        Advice(
                            f"in [Service] of {service.name}, set Environment=SDACTIVATE_TRUST=THE "
                            "FRONT'S ADDRESS"
                        ),
                    )
