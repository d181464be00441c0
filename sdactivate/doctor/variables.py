"""The environment variables that a unit gives its service, as systemd puts them together.

The last assignment of a variable counts, an empty Environment= or EnvironmentFile= removes those
before it, and EnvironmentFile= outranks Environment=: systemd.exec(5).
"""

import glob
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from sdactivate.doctor import text_file
from sdactivate.doctor.specifiers import resolve
from sdactivate.systemd import environment_file
from sdactivate.systemd.unitfile import Entry, Unit, split


class Variable(NamedTuple):
    """A variable's value, and the line that sets it or names the file that does."""

    value: str
    entry: Entry
    file: str = ""
    """The file of EnvironmentFile= that sets it; "" if the unit does."""


@lru_cache(maxsize=4096)  # units don't change once they are read
def of(service: Unit) -> Mapping[str, Variable]:
    """Return the variables that a service's unit and its files set, by name.

    Files that can't be read are left out. Values may be secret: show only those of known variables.
    """
    found: dict[str, Variable] = {}
    for entry in service.entries_of("Environment"):
        for word in split(resolve(entry.value, service)):
            name, equals, value = word.partition("=")
            if equals:
                found[name] = Variable(value, entry)
    for entry in service.entries_of("EnvironmentFile"):
        for path in _files(entry, service):
            for name, value in environment_file.parse(text_file.read(path) or "").items():
                found[name] = Variable(value, entry, path)
    for word in service.words("UnsetEnvironment"):
        name, equals, value = word.partition("=")
        if name in found and (not equals or found[name].value == value):
            del found[name]
    return found


def value(service: Unit, name: str) -> str:
    """Return the value of the variable `name`; "" if the unit does not set it."""
    held = of(service).get(name)
    return held.value if held else ""


def words(service: Unit) -> list[str]:
    """Return the variables as NAME=VALUE."""
    return [f"{name}={it.value}" for name, it in of(service).items()]


def are_all_known(service: Unit) -> bool:
    """Return whether every file of EnvironmentFile= that exists can be read."""
    return all(
        os.access(path, os.R_OK)
        for entry in service.entries_of("EnvironmentFile")
        for path in _files(entry, service)
    )


def _files(entry: Entry, service: Unit) -> Iterator[str]:
    pattern = resolve(entry.value.removeprefix("-"), service)
    if pattern.startswith("/"):
        yield from sorted(glob.glob(pattern))
