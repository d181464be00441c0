"""The result of a kind: files, and warnings for the administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from sdactivate.systemd.version import host_version

if TYPE_CHECKING:
    from pathlib import Path  # imported late: it takes longer than gen needs for most kinds


class Target:
    """The system that the files are written for."""

    def __init__(
        self,
        systemd: int | None = None,
        comments: bool = True,
        own: bool = False,
        at: Callable[[str], Path] | None = None,
        placing: bool = False,
    ) -> None:
        self._systemd = systemd
        self.comments = comments
        """Whether the files have explanatory comments."""
        self.own = own
        """Whether a user's own manager (systemctl --user) will read it, not the system's."""
        self.at = at
        """Maps an absolute path of the target system to a path here, for an image; None: it is this
        host."""
        self.placing = placing
        """Whether the files are put in place now and must fit the current state of the system."""

    @property
    def systemd(self) -> int:
        """The version of systemd that will read the files; this host's is queried lazily."""
        if self._systemd is None:
            self._systemd = host_version()
        return self._systemd


class File(NamedTuple):
    """One file, complete."""

    name: str
    """Its path, relative to the directory that it goes into."""
    text: str
    mode: int = 0o644
    instances: tuple[str, ...] = ()
    """For a template: the instances of the site, which are enabled and started with it."""
    wanted_by: str = ""
    """The unit that wants those instances."""
    group: str = ""
    """The group of the file; "": that of the process that writes it."""

    @property
    def units(self) -> tuple[str, ...]:
        """The names of those instances: mysite-mail@1.service."""
        return tuple(self.name.replace("@.", f"@{instance}.") for instance in self.instances)


class MissingAccount(str):
    """A warning about a missing user or group without which a unit can't start."""

    account: str
    command: str
    """The command that creates it."""

    def __new__(cls, option: str, database: str, account: str) -> MissingAccount:
        """Return the warning that the `database`, user or group, has no `account`."""
        lacks = f"{option} {account}: this host has no such {database}"
        self = super().__new__(cls, f"{lacks}; the unit won't start without it")
        self.account = account
        self.command = f"{database}add --system {account}"
        return self


class Output(NamedTuple):
    """The files that one kind writes for one site."""

    files: tuple[File, ...]
    warnings: Iterable[str] = ()
    """Sentences for standard error, about this host not fitting the files.

    They are generated lazily and may examine the host when they are read. So if they are not read,
    for example while systemd waits for its generators, nothing is examined.
    """
    accounts: frozenset[str] = frozenset()
    """Users and groups that the files create."""
