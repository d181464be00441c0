"""Install the front's file: place it, let the front check and read it, or undo that.

The distribution decides where the file belongs (`fronts.Packaging`). Before anything is changed,
the install is refused if the front could not serve the site with the file.
"""

import grp
import os
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sdactivate import fronts
from sdactivate.errors import Error
from sdactivate.front_config import include_line, read
from sdactivate.fronts import DISTRIBUTIONS, Front, Packaging
from sdactivate.generate.output import File
from sdactivate.install import atomic_write, front_reload
from sdactivate.install.manager import Manager
from sdactivate.install.transaction import Say
from sdactivate.systemd.systemctl import one, show

INSTEAD = "or give --units-only and leave the front to you"


class Place(NamedTuple):
    """The place of one site's file, for one front of one distribution."""

    front: Front
    distribution: str
    name: str
    """The text for NAME in the names of files: see `fronts.file_name`."""

    @property
    def packaging(self) -> Packaging:
        """How the distribution runs the front. Raises UsageError if it does not package it."""
        return fronts.packaging(self.front, self.distribution)

    @property
    def path(self) -> str:
        """The path of the file."""
        return self.packaging.config.replace("NAME", self.name)

    @property
    def link(self) -> str:
        """The symbolic link that enables it; "" if none is needed."""
        return self.packaging.link.replace("NAME", self.name)

    def file(self, manager: Manager) -> Path:
        """Return the file's path on this host, with symbolic links resolved."""
        return _at(manager, self.path)


class Placement:
    """The file of one place, before and after the install.

    file: the new content; None: remove the file and its link.
    """

    def __init__(self, manager: Manager, place: Place, file: File | None, say: Say) -> None:
        self.manager, self.place, self.file, self.say = manager, place, file, say
        self.path = place.file(manager)
        self.link = _at(manager, place.link) if place.link else None
        self.before = _kept(self.path)
        self.was_linked = self._is_linked()
        if file and file.mode & 0o007 == 0:  # for a front that reads it as its own user
            self.file = file._replace(group=place.packaging.group if manager.runs else "")

    def _is_linked(self) -> bool:
        """Whether the link exists and leads to the file's path."""
        if self.link is None or not self.link.is_symlink():
            return False
        leads_to = self.manager.at(self.place.link) if not self.manager.runs else self.link
        return os.path.realpath(leads_to) == os.path.realpath(self.path)

    @property
    def _is_installed(self) -> bool:
        return one(show(self.place.packaging.unit, "LoadState"), "LoadState") == "loaded"

    @property
    def is_done(self) -> bool:
        """Whether the file and its link are up to date, even if the front has not read them."""
        now = _kept(self.path)
        if self.file is None:
            return now is None and not self._is_linked()
        return (
            now is not None and now.text == self.file.text and self._is_linked() == bool(self.link)
        )

    @property
    def name(self) -> str:
        """The description of the step."""
        verb = f"place {self.path}" if self.file else f"remove {self.path}"
        if not self.manager.runs:
            return verb
        return f"{verb}, let {self.place.front.title} check its configuration and read it"

    def refuse(self, socket: str) -> None:
        """Raise Error if the front could not serve the site with this file.

        That is so if it isn't installed, if its only file belongs to the administrator, if its main
        file does not include this one, if another file already passes requests to the site's
        `socket`, or if it lacks modules.
        """
        front, packaging = self.place.front, self.place.packaging
        option = f"--front {front.name}"
        if "NAME" not in packaging.config:
            system = DISTRIBUTIONS[self.place.distribution]
            raise Error(
                f"{option}: {front.title} reads one file on {system}, {packaging.config}, which is "
                "yours: give --units-only, and add to it what "
                f"`sdactivate gen {self.place.name} --kind {front.name}` prints"
            )
        if self.manager.runs and not self._is_installed:
            raise Error(
                f"{option}: {front.title} is not installed: there is no {packaging.unit}; install "
                f"it first, {INSTEAD}"
            )
        if self.link and os.path.lexists(self.link) and not self.was_linked:
            raise Error(f"{self.link} exists and does not lead to {self.path}; move it away")
        path = self.place.link or self.place.path
        text = self.file.text if self.file else ""
        configuration = read(front, packaging, self.manager.at, {path: text})
        if configuration.missed:
            line = include_line(front, packaging, self.place.name)
            where = " in its http block" if front.name == "nginx" else ""
            raise Error(
                f"{option}: {packaging.main} does not include {path}: add the line `{line}` to "
                f"it{where}, {INSTEAD}"
            )
        seen = packaging.path_inside(socket) or socket
        if others := [it for it in configuration.naming(seen) if it != path]:
            raise Error(
                f"{option}: {others[0]} already passes requests to {socket}: move it away, "
                f"{INSTEAD}"
            )
        self._refuse_missing_modules(text)

    def examine(self) -> None:
        """Have the front check its current configuration. Raises Error if that fails."""
        try:
            self._check()
        except Error as error:
            title = self.place.front.title
            raise Error(
                f"{title} refuses its configuration even without the site: {error}"
            ) from None

    def _refuse_missing_modules(self, text: str) -> None:
        """Raise Error for missing modules: Apache itself reports them only when a request fails."""
        enabled = self.manager.at("/etc/apache2/mods-enabled")
        if self.place.front.name != "apache" or not enabled.is_dir():
            return
        _, _, rest = text.partition("# Modules: ")
        needed = rest.partition("\n")[0].split()
        if missing := [it for it in needed if not (enabled / f"{it}.load").exists()]:
            raise Error(
                f"--front apache: Apache lacks modules: `a2enmod {' '.join(missing)}`, {INSTEAD}"
            )

    def do(self, tell: bool = True) -> None:
        """Write or remove the file and its link, and have the front check and read it.

        tell: whether there is anything new for the front. Raises Error, with the front's message,
        if it refuses.
        """
        self._put(self.file, linked=self.file is not None)
        if tell and not self._tell() and self.file:
            unit = self.place.packaging.unit
            self.say(f"{unit} is not running: systemctl enable --now {unit}")

    def undo(self) -> None:
        """Restore the old files and have the front read them, if anything was changed."""
        if self._is_as_before():
            return
        self._put(self.before, linked=self.was_linked)
        self._tell()

    def _is_as_before(self) -> bool:
        return _kept(self.path) == self.before and self._is_linked() == self.was_linked

    def _put(self, file: File | None, *, linked: bool) -> None:
        # A dangling link is an error to nginx: the file is written before it and removed after it.
        if self.link and not linked:
            atomic_write.remove(self.link)
        if file is None:
            atomic_write.remove(self.path)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write.replace(self.path, file, sync=True)
        if self.link and linked:
            target = os.path.relpath(self.place.path, os.path.dirname(self.place.link))
            atomic_write.link(self.link, target)

    def _tell(self) -> bool:
        """Have the front check and read its configuration. Return False if it is not running."""
        if not self.manager.runs:
            return True
        if not self._is_installed:  # any more, so it need not read anything
            return False
        self._check()
        unit, front = self.place.packaging.unit, self.place.front
        if self.manager.state_of(unit)[0] not in ("active", "reloading"):
            return False
        old = front_reload.listening(unit)
        self.manager.bring(front.renew, [unit])
        if not front_reload.is_over(unit, old):
            self.say(f"{unit} does not serve its new configuration yet: see its log")
        return True

    def _check(self) -> None:
        packaging, front = self.place.packaging, self.place.front
        argv = shlex.split(packaging.tested or front.check)
        if front.checks_as_itself:
            home = f"HOME=/var/lib/{packaging.user}"
            argv = ["runuser", "-u", packaging.user, "--", "env", home, *argv]
        self.manager.run(*argv)


def withdraw(manager: Manager, place: Place, say: Say) -> Iterator[Path]:
    """Remove a site's file and its link, yield the removed paths, and have the front reload.

    The file is removed even if the front refuses the rest or can't be reloaded; that is reported.
    """
    placement = Placement(manager, place, None, say)
    there = [placement.link] if placement.link and placement.was_linked else []
    there += [placement.path] if placement.before else []
    try:
        placement.do(tell=bool(there))
    except Error as error:
        say(f"{place.front.title} was not reloaded: {error}")
    yield from there


def _at(manager: Manager, path: str) -> Path:
    """Return a file's path with symbolic links resolved."""
    folder, name = os.path.split(path)
    return manager.at(folder) / name


def _kept(path: Path) -> File | None:
    """The file as it exists, with its mode and group; None if there is none."""
    data = atomic_write.read(path)
    if data is None:
        return None
    status = path.stat()
    group = ""
    if status.st_gid:
        with suppress(KeyError):
            group = grp.getgrgid(status.st_gid).gr_name
    return File(
        path.name, data.decode(errors="surrogateescape"), status.st_mode & 0o777, group=group
    )
