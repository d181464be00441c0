"""Install and uninstall a site: units in place, verified, started; undone where a step fails.

The work is a list of steps, each of which can be undone. If one fails, it and those before it are
undone in reverse order, and the machine is as it was. Should the process be killed outright, each
file is still whole, old or new, and the record of what was (to be) written is on the disk before
the first of them: a second `install` finishes the work, `uninstall` removes it.

Sockets are not reloadable (systemd.socket(5)). Where a socket unit has changed, the service stops
(what it has accepted is answered), the socket is made anew, the service starts: only connections
that wait in the old socket's backlog are lost. Where only the service has changed, it is restarted
behind its socket, and nothing is lost.
"""

import difflib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sdactivate.errors import Error
from sdactivate.generate.output import File
from sdactivate.install import atomic_write
from sdactivate.install.background import Background
from sdactivate.install.bytecode import compile_tree
from sdactivate.install.dropped import dropped, warning
from sdactivate.install.front import Place, Placement, withdraw
from sdactivate.install.manager import Manager, unlink_dead
from sdactivate.install.manifest import PLACING, Record, digest, of_others, refuse_changed
from sdactivate.install.transaction import Say, Step
from sdactivate.site import Site
from sdactivate.systemd.systemctl import RUNNING
from sdactivate.terminal import escape

_PREPARED = ("sysusers.d", "tmpfiles.d")
"""Directories below /etc whose files are for the step that makes accounts and directories."""


class Installation:
    """What is to be done for one site: `files` of the site, and the removal of older ones.

    front: where the front's file belongs, and the file. units_only: what the front has of the site
    is left as it is.

    Raises Error for what lies in their places and is not to be overwritten: another site's file, a
    symbolic link and the like, and, unless `force`, what sdactivate did not write or was changed
    since; and where the record can't be understood, or systemd can't be asked.
    """

    def __init__(
        self,
        manager: Manager,
        site: Site,
        files: Iterable[File],
        force: bool,
        say: Say,
        front: tuple[Place, File] | None = None,
        units_only: bool = False,
    ):
        self.manager, self.site, self.say = manager, site, say
        self.record = Record.load(manager, site.name)
        self.new = {manager.place(file.name): file for file in files}
        recorded = {Path(path): known for path, known in self.record.files.items()}
        self.placements: list[Placement] = []
        self.places = self.record.places if units_only else ()
        kept = {place.file(manager) for place in self.places}
        self.kept = {str(path): recorded.pop(path) for path in kept & recorded.keys()}
        if not units_only:
            gone = (it for it in self.record.places if front is None or it != front[0])
            self.placements = [Placement(manager, place, None, say) for place in gone]
        if front:
            self.places = front[:1]
            self.placements.append(Placement(manager, *front, say))
            self.new[self.placements[-1].path] = front[1]
        self.of_fronts = {placement.path for placement in self.placements}
        self.old = {path: atomic_write.read(path) for path in {*self.new, *recorded}}
        """What lies there now."""
        self.modes = {path: path.stat().st_mode & 0o777 for path, data in self.old.items() if data}
        for path, owner in of_others(manager, site.name).items():
            if path in self.new:
                raise Error(f"{path} is the site {owner}'s; give one of the two another name")
        for placement in self.placements:
            if placement.file:
                placement.refuse(site.path)
        if not force:
            for path, data in self.old.items():
                if path in self.new and data == self.new[path].text.encode():
                    continue
                keep = "leave it as it is with --units-only" if path in self.of_fronts else ""
                refuse_changed(path, data, recorded.get(path), keep)
        self.changed = [
            path for path, file in self.new.items() if self.old[path] != file.text.encode()
        ]
        self.gone = [
            path for path in recorded if path not in self.new and self.old[path] is not None
        ]
        self.units = {path.name: manager.state_of(path.name) for path in self._units(self.old)}
        self.background = Background(manager, self.new, self.old, say)

    def _but_of_fronts(self, paths: Iterable[Path]) -> list[Path]:
        return [path for path in paths if path not in self.of_fronts]

    def _units(self, paths: Iterable[Path]) -> list[Path]:
        return [path for path in paths if path.parent == self.manager.units]

    def _named(self, suffix: str, paths: Iterable[Path]) -> list[str]:
        return [path.name for path in self._units(paths) if path.name.endswith(suffix)]

    def diff(self) -> Iterator[str]:
        """Yield what would change, as a unified diff."""
        for path in (*self.changed, *self.gone):
            before = (self.old[path] or b"").decode(errors="replace").splitlines(keepends=True)
            after = self.new[path].text.splitlines(keepends=True) if path in self.new else []
            old_name = str(path) if self.old[path] is not None else "/dev/null"
            new_name = str(path) if path in self.new else "/dev/null"
            yield from difflib.unified_diff(before, after, old_name, new_name)

    def losses(self) -> Iterator[str]:
        """Yield a sentence for each file that loses lines, or goes: an option was not given."""
        for path in self.changed:
            before = (self.old[path] or b"").decode(errors="replace")
            if path.parent == self.manager.units and (
                lines := dropped(before, self.new[path].text)
            ):
                yield warning(path, lines)
        for path in self.gone:
            yield f"warning: {path} is removed: the options that it came from are not given again"

    def steps(self, start: bool = True) -> Iterator[Step]:
        """Yield what there is to do. What systemd is told is left out for an image.

        Without `start` a service that does not run is left to its first connection.
        """
        nothing = Step("", lambda: None, lambda: None)
        if self.manager.runs:
            yield nothing._replace(name="let systemd check the units", do=self._verify)
            for placement in self.placements:
                if placement.file and placement.before is None:
                    name = f"let {placement.place.front.title} check its configuration as it is"
                    yield nothing._replace(name=name, do=placement.examine)
        changed = self._but_of_fronts(self.changed)
        files = ", ".join(map(str, changed)) or "nothing, all files are there"
        yield Step(f"write {files}", self._write, self._restore)
        if self.site.chdir:
            yield nothing._replace(name=f"compile {self.site.chdir}", do=self._compile)
        if self.manager.runs:
            if any(path.parent.name in _PREPARED for path in self.new):
                yield nothing._replace(name="make accounts and directories", do=self._prepare)
            yield Step(self._order(), self._start, self._stop)
            if self.background.needed:
                yield self.background.step()
            if services := [
                unit
                for unit in self._named(".service", self.new)
                if start and unit == f"{self.site.name}.service"
            ]:
                yield Step(
                    "start the service once, to see that it can",
                    lambda: self.manager.bring("start", services),
                    lambda: self._leave(services),
                )
        else:
            yield Step("enable the units", self._enable, self._disable)

    def front_steps(self) -> Iterator[Step]:
        """Yield what there is to do to the front, for the time when the site serves.

        Nothing where all is there, and the front is known to have read it.
        """
        for placement in (waiting := self._waiting()):
            do = placement.do if placement is not waiting[-1] else self._finish_fronts
            yield Step(placement.name, do, placement.undo)

    def _waiting(self) -> list[Placement]:
        known = self.record.files
        return [
            it
            for it in self.placements
            if not it.is_done
            or (it.file and known.get(str(it.path)) != self._digests[str(it.path)])
        ]

    def _finish_fronts(self) -> None:
        self._waiting()[-1].do()
        self._settled.save()

    @property
    def _digests(self) -> dict[str, str]:
        return {str(path): digest(file.text.encode()) for path, file in self.new.items()}

    @property
    def _settled(self) -> Record:
        """The record once all is done."""
        return self.record._replace(files={**self._digests, **self.kept}, places=self.places)

    def _verify(self) -> None:
        with tempfile.TemporaryDirectory(prefix="sdactivate-") as directory:
            names = []
            for path in self._units(self.new):
                (Path(directory) / path.name).write_text(self.new[path].text)
                names.append(f"{directory}/{path.name}")
            whose = ["--user"] if self.manager.own else []
            self.manager.run("systemd-analyze", *whose, "verify", "--man=no", *names)
        own = {path.name for path in self.old}
        listening = self.manager.listening()
        for address in map(str, self.site.addresses):
            if (other := listening.get(address)) and other not in own:
                raise Error(f"--listen {address}: {other} listens there; stop it, or take another")

    def _write(self) -> None:
        # What is there now stays in the record until it is gone: a kill in between loses nothing.
        known, waiting = self.record.files, {str(it.path) for it in self._waiting()}
        written = {
            path: PLACING + value if path in waiting else value
            for path, value in self._settled.files.items()
        }
        places = self.record.places
        places += tuple(place for place in self.places if place not in places)
        self.record._replace(files={**known, **written}, places=places).save()
        for path in self._but_of_fronts(self.changed):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write.replace(path, self.new[path], sync=True)
        for path in self._but_of_fronts(self.gone):
            self._forget(path)
        if waiting:
            files = {path: known[path] for path in waiting & known.keys()} | written
            self.record._replace(files=files, places=places).save()
        else:
            self._settled.save()

    def _forget(self, path: Path) -> None:
        if "@." in path.name:
            self.background.remove(path.name)
        if path.parent == self.manager.units and self.manager.runs and self.units[path.name][1]:
            with suppress(Error):  # it may be of a type that can't be enabled
                self.manager.systemctl("disable", "--now", "--", path.name)
        atomic_write.remove(path)

    def _restore(self) -> None:
        for path in self._but_of_fronts((*self.changed, *self.gone)):
            data = self.old[path]
            if data is None:
                atomic_write.remove(path)
            elif atomic_write.read(path) != data:
                mode = self.modes.get(path, 0o644)
                atomic_write.replace(path, File(path.name, data.decode(), mode), sync=True)
        self.record.save()
        if self.manager.runs:
            self._reload()
            self._revive()

    def _revive(self) -> None:
        """After the old files are back: what ran before runs again."""
        for kind in (".socket", ".service", ".timer"):
            for unit in self._named(kind, self.old):
                was, enabled = self.units[unit]
                if enabled == "enabled":
                    self.manager.enable([unit])
                if was in RUNNING:
                    self.manager.systemctl("start", "--", unit)
        self.background.revive()

    def _compile(self) -> None:
        directory = self.manager.at(self.site.chdir)
        python = self.site.python
        if not directory.is_dir() or not python:
            self.say(f"{directory} can't be compiled from here: each cold start will take longer")
            return
        try:
            invalid, failed = compile_tree(directory, self.site.chdir, python)
        except (Error, OSError) as error:
            invalid, failed = [], {f"{directory}": str(error)}
        reasons = [f"{escape(source)}: {why}" for source, why in failed.items()]  # a full disk
        reasons += [f"{escape(source)}: not valid in this Python" for source in invalid]
        if reasons:
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            self.say(f"not all was compiled, each cold start will take longer: {reasons[0]}{more}")

    def _prepare(self) -> None:
        for folder, command in (
            ("sysusers.d", ("systemd-sysusers",)),
            ("tmpfiles.d", ("systemd-tmpfiles", "--create")),
        ):
            for path in self.new:
                if path.parent.name == folder:
                    self.manager.run(*command, str(path))

    @property
    def _sockets(self) -> list[str]:
        return self._named(".socket", self.new)

    @property
    def _starting(self) -> list[str]:
        return [
            unit for unit in (*self._sockets, *self._named(".timer", self.new)) if "@." not in unit
        ]

    def _running(self, units: Iterable[str]) -> list[str]:
        return [unit for unit in units if self.units[unit][0] in ("active", "activating")]

    def _order(self) -> str:
        renewed = self._running(self._named(".socket", self.changed))
        if renewed:
            return (
                f"stop {self.site.name}.service, restart {', '.join(renewed)}, start the service "
                f"if it ran: what waits in the old backlog is lost, what was accepted is not"
            )
        if self._running(self._named(".service", self.changed)):
            return "restart the service behind its socket: no connection is lost"
        if not self._starting:  # a template: which instances there are is not ours to say
            unit = next(iter(self._sockets), "NAME@.socket").replace("@.", "@INSTANCE.")
            return f"reload systemd; an instance comes by: systemctl enable --now {unit}"
        return f"enable and start {', '.join(self._starting)}"

    def _reload(self) -> None:
        self.manager.reload(unit for unit in self.units if "@." not in unit)

    def _start(self) -> None:
        systemctl = self.manager.systemctl
        self._reload()
        services = self._running(self._named(".service", self.new))
        sockets = self._running(self._named(".socket", self.changed))
        if sockets:
            if services:
                systemctl("stop", "--", *services)
            self.manager.bring("restart", sockets)
            if services:
                self.manager.bring("start", services)
        elif again := self._running(self._named(".service", self.changed)):
            self.manager.bring("restart", again)
        if self._starting:
            self.manager.bring("enable --now", self._starting)

    def _leave(self, services: list[str]) -> None:
        """Undo: what did not run before has no reason to, nor to be tried again and again."""
        if idle := set(services) - set(self._running(services)):
            self.manager.systemctl("stop", "--", *idle)

    def _stop(self) -> None:
        """Undo: what did not run before is stopped; what did is started by `_revive`."""
        for unit in self._starting:
            active, enabled = self.units[unit]
            if enabled != "enabled":
                self.manager.disable(unit)
            if active != "active" or self.manager.place(unit) in self.changed:
                service = f"{self.site.name}.service"
                self.manager.systemctl(
                    "stop", "--", unit, *([service] if unit in self._sockets else [])
                )

    def _enable(self) -> None:
        if self._starting:
            self.manager.enable(self._starting)
        self.background.enable_in_image()

    def _disable(self) -> None:
        for unit in self._starting:
            if (
                self.manager.place(unit) in self.changed
                and self.old[self.manager.place(unit)] is None
            ):
                self.manager.disable(unit)
        self.background.disable_in_image(
            {path.name for path in self.changed if self.old[path] is None}
        )


def uninstall(manager: Manager, name: str, force: bool, say: Say) -> list[Path]:
    """Remove exactly what install wrote for the site, stopped first; return what was removed.

    With its sockets' files, which systemd leaves where they were (systemd.socket(5),
    RemoveOnStop=). Its state stays: /var/lib/NAME and the users' data in it are not install's.

    Raises Error where nothing was installed, and, unless `force`, for a file that was changed.
    """
    record = Record.load(manager, name)
    if not record.files:
        raise Error(f"{name}: nothing of this name was installed ({record.path} is not there)")
    paths = [Path(path) for path in record.files]
    of_fronts = {place.file(manager) for place in record.places}
    if not force:
        for path in paths:
            keep = "keep a copy of it" if path in of_fronts else ""
            refuse_changed(path, atomic_write.read(path), record.files[str(path)], keep)
    removed = [path for place in record.places for path in withdraw(manager, place, say)]
    paths = [path for path in paths if path not in of_fronts]
    units = [path.name for path in paths if path.parent == manager.units]
    sockets = manager.socket_files(unit for unit in units if unit.endswith(".socket"))
    # Sockets first: a service that stops before its socket would be started again.
    for suffix in (".timer", ".socket", ".service"):
        for unit in (unit for unit in units if unit.endswith(suffix)):
            if (suffix != ".service" or "@." in unit) and (manager.units / unit).exists():
                manager.disable(unit)
            manager.unlink_wants(unit)  # where the unit's file was gone already
            if manager.runs and "@." in unit:
                if running := [
                    it for it, (was, _) in manager.instances(unit).items() if was != "inactive"
                ]:
                    say(f"stop {', '.join(running)}: a background worker finishes its task first")
                manager.systemctl("stop", "--", unit.replace("@.", "@*."), timeout=None)
            elif manager.runs and manager.state_of(unit)[0] != "inactive":
                manager.systemctl("stop", "--", unit)
    removed += [path for path in paths if atomic_write.remove(path)]
    record._replace(files={}).save()
    removed += filter(unlink_dead, sockets)
    if manager.runs:
        manager.reload(unit.replace("@.", "@*.") for unit in units)
        say(f"{name} is gone; what it has kept is still there")
    return removed
