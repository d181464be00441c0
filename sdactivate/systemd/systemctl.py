"""Run `systemctl show`, and read its output."""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from sdactivate.errors import Error, UsageError

Properties = dict[str, list[str]]
"""Values by property, in order: Listen= and the like come more than once."""

_PATTERN = frozenset("*?[")
_QUOTED = frozenset("\"'\\")
_SPACES = re.compile("[ \t\r\n]+")
# Units in one call: the command line has a length limit, and a call must end within 30 seconds
_AT_ONCE = 200

RUNNING = ("active", "reloading", "activating")
"""The ActiveState= of a unit that has processes, or is about to start some."""


def show(unit: str, *properties: str, own: bool = False) -> Properties:
    """Return what `systemctl show` (systemctl(1)) says of `unit`, or of the manager for "".

    `own` asks the calling user's own manager instead of the system's. Raises Error if systemd
    isn't there, or doesn't answer within 30 seconds; UsageError for a pattern, which systemctl
    would expand to every unit that matches.
    """
    if _PATTERN.intersection(unit):
        raise UsageError(f"{unit}: a pattern can match several units; name one unit")
    manager = ["--user"] if own else []
    wanted = (f"--property={name}" for name in properties)
    argv = ["systemctl", *manager, "show", "--no-pager", *wanted]
    return parse_show(ask([*argv, "--", unit] if unit else argv))


class Snapshot:
    """What systemd says of units: read for many units in one call, and cached.

    properties: the properties to read, if not all. Looking up any other then raises KeyError, since
    a property that was not read would look like an empty one.
    """

    def __init__(self, properties: Iterable[str] = ()) -> None:
        self._wanted = frozenset(properties)
        if self._wanted:
            self._wanted |= {"Id", "Names"}  # they identify the unit of an answer
        self._known: dict[str, Properties] = {}

    def prepare(self, units: Iterable[str]) -> None:
        """Read these units, unknown ones included, in a few calls rather than one call each.

        If systemd refuses a call, as it does if one of the names is invalid, its units are read one
        by one when they are looked up (`show`), so that only the invalid one fails.
        """
        names = [name for name in dict.fromkeys(units) if not _PATTERN.intersection(name)]
        names = [name for name in names if name not in self._known]
        for at in range(0, len(names), _AT_ONCE):
            with suppress(Error):
                for properties in show_all(names[at : at + _AT_ONCE], *self._wanted):
                    for name in _names(properties):
                        self._known[name] = self._kept(properties)

    def _kept(self, properties: Properties) -> Properties:
        return _Some(properties, self._wanted) if self._wanted else properties

    def get(self, unit: str) -> Properties | None:
        """Return what systemd has said of `unit`, None if it has not been asked."""
        return self._known.get(unit)

    def show(self, unit: str) -> Properties:
        """Return what systemd says of `unit`. Raises the same errors as `systemctl.show`."""
        if unit not in self._known:
            self._known[unit] = self._kept(show(unit, *self._wanted))
        return self._known[unit]

    def forget(self, unit: str) -> None:
        """Drop what is cached for `unit` under any of its names, because its state has changed."""
        kept = self._known.items()
        gone = {unit}.union(*(_names(it) for name, it in kept if unit in {name} | _names(it)))
        self._known = {name: it for name, it in kept if name not in gone and not gone & _names(it)}


class _Some(Properties):
    """Some of a unit's properties. Raises KeyError for one that was not asked for."""

    def __init__(self, properties: Properties, wanted: frozenset[str]) -> None:
        super().__init__(properties)
        self._wanted = wanted

    def get(self, name: str, default: Any = None) -> Any:
        """Return the values of a property; `default` if the unit has none."""
        if name not in self._wanted:
            raise KeyError(name)
        return super().get(name, default)


def _names(properties: Properties) -> set[str]:
    """Return the name of a unit and its aliases (systemd.unit(5))."""
    return {one(properties, "Id"), *listed(one(properties, "Names"))} - {""}


def show_all(patterns: Sequence[str], *properties: str) -> list[Properties]:
    """Return the properties from `systemctl show` of each loaded unit that matches a pattern.

    patterns: names of units, or patterns in the form of glob(7); at least one.

    Raises Error if systemd isn't there, or doesn't answer within 30 seconds.
    """
    wanted = (f"--property={name}" for name in properties)
    text = ask(["systemctl", "show", "--no-pager", *wanted, "--", *patterns])
    return [parse_show(unit) for unit in text.split("\n\n") if unit]


def ask(argv: list[str]) -> str:
    """Return what a command of systemd's prints. Raises Error with its message if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=30, check=False)  # noqa: S603
    except FileNotFoundError:
        raise Error(
            f"{argv[0]} isn't installed: there is no systemd to ask. `sdactivate who` takes a "
            "socket's path, `sdactivate doctor --offline` takes files"
        ) from None
    except subprocess.TimeoutExpired:
        raise Error(f"{' '.join(argv)}: no answer within 30 seconds") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Error(f"{' '.join(argv)}: {said or f'exit {done.returncode}'}")
    return os.fsdecode(done.stdout)  # paths are in it


def parse_show(text: str) -> Properties:
    """Return the properties of the first unit in the output of `systemctl show`."""
    properties: Properties = {}
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if not equals:
            continue
        if name in properties:
            properties[name].append(value)
        else:
            properties[name] = [value]
    return properties


def one(properties: Properties, name: str) -> str:
    """Return the last value of a property, "" if there is none."""
    return properties.get(name, [""])[-1]


def listed(value: str) -> list[str]:
    """Return the words of a property that is a list; systemctl quotes them as for a shell.

    If the quotes don't match, the value is split at spaces.
    """
    if not _QUOTED.intersection(value):
        return [word for word in _SPACES.split(value) if word]
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def since_epoch(microseconds: str) -> float:
    """Return the time of a …TimestampMonotonic= property, in seconds of the epoch."""
    return time.time() - time.monotonic() + int(microseconds or 0) / 1e6


def load_state(unit: str) -> str:
    """Return whether systemd has read a unit: loaded, or not-found, bad-setting, masked …"""
    return one(show(unit, "LoadState"), "LoadState")


def listening(socket_unit: str) -> Iterator[str]:
    """Yield the current addresses of a socket unit: /run/x.sock, @name, [::]:80.

    Raises Error if there is no such unit.
    """
    properties = show(socket_unit, "LoadState", "Listen")
    if one(properties, "LoadState") != "loaded":
        raise Error(
            f"{socket_unit}: systemd has no such unit ({one(properties, 'LoadState')}): "
            f"name another, or the path of a socket"
        )
    yield from addresses(properties)


def addresses(properties: Properties) -> Iterator[str]:
    """Yield the addresses where a socket unit accepts connections: no datagrams, no FIFOs."""
    for value in properties.get("Listen", []):
        address, _, kind = value.rpartition(" (")
        if kind in ("Stream)", "SequentialPacket)"):
            yield address
