"""Background workers at an install: enable, start, restart and remove their instances."""

from collections.abc import Collection, Mapping
from pathlib import Path

from sdactivate.generate.output import File
from sdactivate.install.manager import Manager
from sdactivate.install.transaction import Say, Step
from sdactivate.systemd.systemctl import RUNNING
from sdactivate.systemd.unitfile import parse


class Background:
    """The changes that an install makes to the background workers of a site.

    new: the site's files by path. old: the current content of these paths and of those of an
    earlier install. altered: the paths of `new` whose settings change.
    """

    def __init__(
        self,
        manager: Manager,
        new: Mapping[Path, File],
        old: Mapping[Path, bytes | None],
        altered: Collection[Path],
        say: Say,
    ) -> None:
        self.manager, self.say = manager, say
        self.wanted = [unit for file in new.values() for unit in file.units]
        gone = [path.name for path in old if path not in new and _is_background(path, old[path])]
        changed = {path.name for path in altered}
        self.files = [file for file in new.values() if file.instances]
        self.before: dict[str, tuple[str, str]] = {}
        """The existing instances, with their states."""
        self.changed: set[str] = set()
        self.gone: set[str] = set()
        for template in (*gone, *(file.name for file in self.files)):
            found = manager.instances(template)
            self.before |= found
            self.changed |= found.keys() if template in changed else set()
            self.gone |= found.keys() if template in gone else set()

    def step(self) -> Step:
        """Return the step that enables and starts them; running ones finish their task first."""
        return Step(
            f"enable and start the background workers {', '.join(self.wanted)}; one that runs and "
            "has changed finishes its task first"
            if self.wanted
            else "disable and stop background workers that were removed",
            self._start,
            self._stop,
        )

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.wanted or self.before)

    def remove(self, template: str) -> None:
        """Disable and stop the instances of a template before its file is removed.

        Returns when they have finished their tasks, for which they still need the unit.
        """
        units = sorted(unit for unit in self.gone if _template(unit) == template)
        self.manager.disable(template)
        if units:
            self.say(f"wait for {', '.join(units)} to finish")
            self.manager.systemctl("stop", "--", *units, timeout=None)

    def _start(self) -> None:
        known = self.before.keys() - self.gone
        if stale := sorted(known - set(self.wanted)):
            self.manager.systemctl("disable", "--now", "--no-block", "--", *stale)
        running = [unit for unit in self.wanted if self._ran(unit)]
        if again := [unit for unit in running if unit in self.changed]:
            # --no-block: a task may take long, and the install must not fail because of it.
            self.manager.systemctl("restart", "--no-block", "--", *again)
        if self.wanted:
            self.manager.systemctl("enable", "--", *self.wanted)
        if fresh := [unit for unit in self.wanted if unit not in running]:
            self.manager.systemctl("start", "--", *fresh)

    def _stop(self) -> None:
        for unit in self.wanted:
            if self.before.get(unit, ("", ""))[1] != "enabled":
                self.manager.systemctl("disable", "--", unit)
            if not self._ran(unit):
                self.manager.systemctl("stop", "--no-block", "--", unit)

    def revive(self) -> None:
        """Start what ran before again, after the old files are restored."""
        for unit, (_, enabled) in self.before.items():
            if enabled == "enabled":
                self.manager.systemctl("enable", "--", unit)
            if self._ran(unit):
                verb = "restart" if unit in self.changed else "start"
                self.manager.systemctl(verb, "--no-block", "--", unit)

    def _ran(self, unit: str) -> bool:
        return self.before.get(unit, ("", ""))[0] in RUNNING

    def enable_in_image(self) -> None:
        """Create the links in an image, where nothing runs."""
        for file in self.files:
            self.manager.enable_instances(file)

    def disable_in_image(self, fresh: Collection[str]) -> None:
        """Remove the links again, for the templates that are new."""
        for file in self.files:
            if file.name in fresh:
                self.manager.unlink_wants(file.name)


def _template(unit: str) -> str:
    prefix, _, rest = unit.partition("@")
    return f"{prefix}@.{rest.rpartition('.')[2]}"


def _is_background(path: Path, data: bytes | None) -> bool:
    """Whether a template's instances belong to the site, not chosen by the administrator."""
    if not path.name.endswith("@.service") or data is None:
        return False
    entries = parse(data.decode(errors="replace"), path.name).entries
    return any(entry.section == "Install" for entry in entries)
