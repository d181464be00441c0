"""What a kind returns: files, and warnings for the administrator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from sdactivate.systemd.version import host_version

if TYPE_CHECKING:
    from pathlib import Path  # takes longer to import than gen needs for most kinds


class Target:
    """What the text is written for."""

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
        """Whether the text says why."""
        self.own = own
        """Whether a user's own manager (systemctl --user) will read it, not the system's."""
        self.at = at
        """Where an absolute path of the system that will read it is from here: in an image; None:
        it is this host."""
        self.placing = placing
        """Whether the text is put in place now, and has to fit what is there now."""

    @property
    def systemd(self) -> int:
        """The version of systemd that will read it; the host's is asked for when it is needed."""
        if self._systemd is None:
            self._systemd = host_version()
        return self._systemd


class File(NamedTuple):
    """One file, complete."""

    name: str
    """Its path, relative to the directory that it belongs in."""
    text: str
    mode: int = 0o644
    instances: tuple[str, ...] = ()
    """Of a template: the instances that belong to the site, and are enabled and started with it."""
    wanted_by: str = ""
    """The unit that pulls those instances in."""
    group: str = ""
    """The group of the file; "": that of the process that writes it."""

    @property
    def units(self) -> tuple[str, ...]:
        """The names of those instances: mysite-mail@1.service."""
        return tuple(self.name.replace("@.", f"@{instance}.") for instance in self.instances)


class MissingAccount(str):
    """A warning of a user or group that a unit can't start without, and that this host lacks."""

    account: str
    command: str
    """What creates it."""

    def __new__(cls, option: str, database: str, account: str) -> MissingAccount:
        """Return what is said of `account`, of "user" or "group", which `option` names."""
        lacks = f"{option} {account}: this host has no such {database}"
        self = super().__new__(cls, f"{lacks}; the unit won't start without it")
        self.account = account
        self.command = f"{database}add --system {account}"
        return self


class Output(NamedTuple):
    """All that one kind writes for one site."""

    files: tuple[File, ...]
    warnings: Iterable[str] = ()
    """Sentences for standard error: the text is right, but this host may not fit it.

    They may look at the host as they are read, and where nobody reads them (while systemd waits
    for its generators, say) nothing is looked at.
    """
    accounts: frozenset[str] = frozenset()
    """Users and groups that the files make."""
