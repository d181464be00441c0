"""Install and uninstall a site: units in place, verified, started; undone if a step fails.

The work is a list of steps, each of which can be undone. If one fails, it and those before it are
undone in reverse order, and the machine is as before. If the process is killed, each file is still
complete, in its old or new version. The record of the files is on disk before the first of them is
written, so a second `install` finishes the work, and `uninstall` removes it.

Sockets can't be reloaded (systemd.socket(5)). If a socket unit has changed, the service stops after
it has answered its accepted requests, the socket is created again, and the service starts: only
connections in the old socket's backlog are lost. If only the service has changed, it is restarted
behind its socket, and nothing is lost. If only comments have changed, nothing is restarted.
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
from sdactivate.systemd.unitfile import reads_alike
from sdactivate.terminal import escape

_PREPARED = ("sysusers.d", "tmpfiles.d")
"""Directories below /etc whose files the step that creates accounts and directories uses."""


class Installation:
    """The install of one site: writes `files`, and removes older ones.

    front: the place of the front's file, and the file. units_only: the front's files of the site
    are left unchanged.

    Raises Error for an existing file that must not be overwritten: another site's, a symbolic link
    or the like, and, unless `force`, one that sdactivate did not write or that was changed since.
    Also raises Error if the record can't be parsed or systemd can't be queried.
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
        """The files that exist now."""
        self.modes = {path: path.stat().st_mode & 0o777 for path, data in self.old.items() if data}
        for path, owner in of_others(manager, site.name).items():
            if path in self.new:
                raise Error(
                    f"{path} belongs to the site {owner}; give one of the two sites another name"
                )
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
        self.altered = [
            path
            for path in self.changed
            if not reads_alike(_text(self.old[path]), self.new[path].text)
        ]
        """The changed units whose settings differ, not only their comments."""
        self.gone = [
            path for path in recorded if path not in self.new and self.old[path] is not None
        ]
        self.units = {path.name: manager.state_of(path.name) for path in self._units(self.old)}
        self.background = Background(manager, self.new, self.old, self.altered, say)

    def _but_of_fronts(self, paths: Iterable[Path]) -> list[Path]:
        return [path for path in paths if path not in self.of_fronts]

    def _units(self, paths: Iterable[Path]) -> list[Path]:
        return [path for path in paths if path.parent == self.manager.units]

    def _named(self, suffix: str, paths: Iterable[Path]) -> list[str]:
        return [path.name for path in self._units(paths) if path.name.endswith(suffix)]

    def diff(self) -> Iterator[str]:
        """Yield what would change, as a unified diff."""
        for path in (*self.changed, *self.gone):
            before = _text(self.old[path]).splitlines(keepends=True)
            after = self.new[path].text.splitlines(keepends=True) if path in self.new else []
            old_name = str(path) if self.old[path] is not None else "/dev/null"
            new_name = str(path) if path in self.new else "/dev/null"
            yield from difflib.unified_diff(before, after, old_name, new_name)

    def losses(self) -> Iterator[str]:
        """Yield a sentence for each file that loses lines or is removed for lack of an option."""
        for path in self.changed:
            before = _text(self.old[path])
            if path.parent == self.manager.units and (
                lines := dropped(before, self.new[path].text)
            ):
                yield warning(path, lines)
        for path in self.gone:
            yield f"warning: {path} is removed: the options that create it were not given again"

    def steps(self, start: bool = True) -> Iterator[Step]:
        """Yield the steps. For an image, those that talk to systemd are left out.

        Without `start`, a stopped service is left for its first connection to start.
        """
        nothing = Step("", lambda: None, lambda: None)
        if self.manager.runs:
            yield nothing._replace(name="let systemd check the units", do=self._verify)
            for placement in self.placements:
                if placement.file and placement.before is None:
                    name = f"let {placement.place.front.title} check its configuration as it is"
                    yield nothing._replace(name=name, do=placement.examine)
        changed = self._but_of_fronts(self.changed)
        files = ", ".join(map(str, changed))
        name = f"write {files}" if files else "no file has changed"
        yield Step(name, self._write, self._restore)
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
                    "start the service once, as a test",
                    lambda: self.manager.bring("start", services),
                    lambda: self._leave(services),
                )
        else:
            yield Step("enable the units", self._enable, self._disable)

    def front_steps(self) -> Iterator[Step]:
        """Yield the steps for the front, to be done when the site serves.

        None, if all files are up to date and the front is known to have read them.
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
                raise Error(
                    f"--listen {address}: {other} listens there; stop it, or use another address"
                )

    def _write(self) -> None:
        # Existing files stay in the record until they are removed, in case the process is killed.
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
            with suppress(Error):  # its type may not support being enabled
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
        """Start what ran before, after the old files are restored."""
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
            self.say(f"some files are not compiled; cold starts will be slower: {reasons[0]}{more}")

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
        renewed = self._running(self._named(".socket", self.altered))
        if renewed:
            return (
                f"stop {self.site.name}.service, restart {', '.join(renewed)}, start the service "
                "if it ran: connections in the old backlog are lost, accepted ones are not"
            )
        if self._running(self._named(".service", self.altered)):
            return "restart the service behind its socket: no connection is lost"
        if not self._starting:  # a template: the administrator chooses its instances
            unit = next(iter(self._sockets), "NAME@.socket").replace("@.", "@INSTANCE.")
            return f"reload systemd; start an instance by: systemctl enable --now {unit}"
        return f"enable and start {', '.join(self._starting)}"

    def _reload(self) -> None:
        self.manager.reload(unit for unit in self.units if "@." not in unit)

    def _start(self) -> None:
        systemctl = self.manager.systemctl
        self._reload()
        services = self._running(self._named(".service", self.new))
        sockets = self._running(self._named(".socket", self.altered))
        if sockets:
            if services:
                systemctl("stop", "--", *services)
            self.manager.bring("restart", sockets)
            if services:
                self.manager.bring("start", services)
        elif again := self._running(self._named(".service", self.altered)):
            self.manager.bring("restart", again)
        if self._starting:
            self.manager.bring("enable --now", self._starting)

    def _leave(self, services: list[str]) -> None:
        """Undo: stop what did not run before, so that systemd does not keep restarting it."""
        if idle := set(services) - set(self._running(services)):
            self.manager.systemctl("stop", "--", *idle)

    def _stop(self) -> None:
        """Undo: stop what did not run before; `_revive` starts what did."""
        for unit in self._starting:
            active, enabled = self.units[unit]
            if enabled != "enabled":
                self.manager.disable(unit)
            if active != "active" or self.manager.place(unit) in self.altered:
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


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")


def uninstall(manager: Manager, name: str, force: bool, say: Say) -> list[Path]:
    """Remove exactly what install wrote for the site, stopped first; return what was removed.

    This includes the files of its sockets, which systemd leaves behind (systemd.socket(5),
    RemoveOnStop=). The site's data in /var/lib/NAME is kept.

    Raises Error if nothing was installed, and, unless `force`, for a file that was changed.
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
    # Sockets first: a client could start a service again that stops before its socket.
    for suffix in (".timer", ".socket", ".service"):
        for unit in (unit for unit in units if unit.endswith(suffix)):
            if (suffix != ".service" or "@." in unit) and (manager.units / unit).exists():
                manager.disable(unit)
            manager.unlink_wants(unit)  # in case the unit's file was already removed
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
        data = Path("/var/lib", name)
        where = str(data) if not manager.own and data.is_dir() else "place"
        say(f"{name} is removed; its data stays in {where}")
    return removed
