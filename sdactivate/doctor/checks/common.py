"""Facts about a unit that several checks use: its addresses, user, command."""

import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from sdactivate.backends import BACKENDS
from sdactivate.doctor import variables
from sdactivate.doctor.finding import Case
from sdactivate.doctor.specifiers import resolve as resolve
from sdactivate.systemd.unitfile import Entry, Unit, split

_LISTENS = ("ListenStream", "ListenSequentialPacket")
_OURS = re.compile(r"(^|[\s/])sdactivate\s+serve\b")
_LOOPBACK = re.compile(r"(127\.|\[::1\]|localhost:)")


class Address(NamedTuple):
    """One address that a socket unit listens on, and the line that says so."""

    entry: Entry
    text: str

    @property
    def is_path(self) -> bool:
        """A socket with a file."""
        return self.text.startswith("/")

    @property
    def is_abstract(self) -> bool:
        """A unix socket without a file."""
        return self.text.startswith("@")

    @property
    def is_network(self) -> bool:
        """A port, an IP address and port, or vsock."""
        return not self.is_path and not self.is_abstract

    @property
    def is_loopback(self) -> bool:
        """An address that only this host reaches."""
        return _LOOPBACK.match(self.text) is not None


def addresses(socket: Unit) -> list[Address]:
    """Return the addresses of a socket unit for connections (systemd.socket(5)).

    Datagram sockets and FIFOs are left out. An empty line of any kind resets all lines before it.
    """
    held: list[Address] = []
    for entry in socket.entries:
        if entry.section != "Socket" or not entry.key.startswith("Listen"):
            continue
        if not entry.value:
            held.clear()
        elif entry.key in _LISTENS:
            held.append(Address(entry, run_path(resolve(entry.value, socket))))
    return held


def times(number: int) -> str:
    """Return how often something has happened, in words; number: 1 or more."""
    return "once" if number == 1 else f"{number} times"


def run_path(path: str) -> str:
    """Return `path` with /run for its old name /var/run, as systemd does."""
    return re.sub("^/var/run/", "/run/", path)


def paths(socket: Unit) -> list[Address]:
    """Return only the addresses with a file."""
    return [address for address in addresses(socket) if address.is_path]


def mode(socket: Unit) -> int:
    """Return the mode that a socket unit gives its files: SocketMode=, 0666 where unset."""
    return int(socket.value("SocketMode", "0666"), 8)


def command(entry: Entry, service: Unit) -> list[str]:
    """Return the words of ExecStart= and the like, without systemd's prefixes of the program.

    See systemd.service(5), "Command lines".
    """
    return split(resolve(entry.value, service).lstrip("@-:+!|"))


def words(service: Unit) -> list[str]:
    """Return the words of all commands of ExecStart=."""
    return [word for it in service.entries_of("ExecStart") for word in command(it, service)]


def is_ours(service: Unit) -> bool:
    """Return whether a service runs `sdactivate serve`. Only that uses our settings."""
    return any(_OURS.search(entry.value) for entry in service.entries_of("ExecStart"))


@lru_cache(maxsize=4096)  # units don't change once they are read
def server(service: Unit) -> str:
    """Return the name of the server that a service runs (backends.BACKENDS), "" for another.

    `sdactivate serve` counts as "native" unless a setting selects another server.
    """
    if is_ours(service):
        return setting(service, "server") or "native"
    named = (server_in(command(it, service)) for it in service.entries_of("ExecStart"))
    return next(filter(None, named), "")


def server_in(words: list[str]) -> str:
    """Return the name of the server that a command starts (backends.BACKENDS), "" for another."""
    names = (posixpath.basename(word).removesuffix("-serve") for word in words)  # waitress-serve
    return next((name for name in names if name in BACKENDS), "")


@lru_cache(maxsize=4096)
def setting(service: Unit, name: str) -> str | None:
    """Return the value of the setting `name` (trust_headers) in a service of sdactivate, or None.

    An option of ExecStart= outranks a variable.
    """
    option = f"--{name.replace('_', '-')}"
    held = variables.of(service).get(f"SDACTIVATE_{name.upper()}")
    found = [held.value] if held else []
    for entry in service.entries_of("ExecStart"):
        words = command(entry, service)
        found += [value for word, value in pairwise(words) if word == option]
        found += [it.removeprefix(f"{option}=") for it in words if it.startswith(f"{option}=")]
    return found[-1] if found else None


def user(service: Unit) -> str:
    """Return the user that a service runs as: root if none is set (systemd.exec(5))."""
    named = service.value("User")
    if named:
        return resolve(named, service)
    return service.prefix if is_dynamic(service) else "root"


def is_root(service: Unit) -> bool:
    """Return whether a service runs as root, explicitly or by default."""
    return user(service) in ("root", "0")


def is_dynamic(service: Unit) -> bool:
    """Return whether the user exists only while the service runs."""
    return service.is_on("DynamicUser")


def has_private_tmp(service: Unit) -> bool:
    """Return whether it has a private /tmp; DynamicUser= implies it."""
    value = service.value("PrivateTmp")
    return value == "disconnected" or service.is_on("PrivateTmp") or is_dynamic(service)


def runtime_directories(service: Unit) -> list[str]:
    """Return the directories of RuntimeDirectory=, below /run."""
    named = (resolve(it, service).partition(":")[0] for it in service.words("RuntimeDirectory"))
    return [posixpath.normpath(f"/run/{it}") for it in named]


def usual_path(unit: Unit) -> str:
    """Return the usual path of a site's socket. For an instance it has the instance's name."""
    prefix, at, instance = unit.name.rpartition(".")[0].partition("@")
    return f"/run/{prefix}-{instance or '%i'}.sock" if at else f"/run/{prefix}.sock"


def front_group(case: Case) -> str:
    """Return the value of SocketGroup= for a fix: the running front's group if it is known."""
    fronts = case.host.fronts if case.host else []
    return next((it.group for it in fronts if it.workers), "THE FRONT'S GROUP")


def under(path: str, *directories: str) -> bool:
    """Return whether `path` is one of `directories` or is in one."""
    path = posixpath.normpath(path)
    return any(path == it or path.startswith(it.rstrip("/") + "/") for it in directories)


def seconds(value: str) -> float | None:
    """Return a time span of systemd.time(7) in seconds, None if it is not one."""
    from sdactivate.settings import seconds as parse

    try:
        return parse(value)
    except ValueError:
        return None


def services(case_service: Unit | None) -> Iterator[Unit]:
    """Yield the service if there is one, so that a check can be a loop."""
    if case_service is not None:
        yield case_service
