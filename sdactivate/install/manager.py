"""Talk to the service manager for install: systemctl, unit directories, --root, --user-manager.

Everything is done with the commands an administrator would use: systemctl(1), systemd-analyze(1),
systemd-sysusers(8), systemd-tmpfiles(8).
"""

import fcntl
import fnmatch
import glob
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sdactivate.errors import Error, UsageError
from sdactivate.generate.output import File
from sdactivate.generate.systemd_generator import WANTED_BY, wanted
from sdactivate.install import atomic_write
from sdactivate.install.image import inside
from sdactivate.systemd.journal import matches_of, that_matter
from sdactivate.systemd.systemctl import one, show
from sdactivate.unix_socket import is_bound

UNITS = "/etc/systemd/system"
"""Where an administrator's units are: systemd.unit(5)."""


@dataclass(frozen=True)
class Manager:
    """The target of an install: a root directory and a service manager."""

    root: Path = Path("/")
    """The root directory to write to; any other than / is an image, which is not running."""
    own: bool = False
    """The calling user's own manager (systemctl --user) instead of the system's."""

    @property
    def runs(self) -> bool:
        """Whether the service manager runs, which it does not in an image."""
        return self.root == Path("/")

    @property
    def units(self) -> Path:
        """The directory of units: systemd.unit(5), Unit File Load Path."""
        if self.own:
            config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
            return Path(config) / "systemd/user"
        return self.at(UNITS)

    @property
    def state(self) -> Path:
        """The directory of the records of what was installed."""
        if self.own:
            state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
            return Path(state) / "sdactivate"
        return self.at("/var/lib/sdactivate")

    def __post_init__(self) -> None:
        if self.own and not self.runs:
            raise UsageError("--root: an image has no user manager; leave out --user-manager")

    def require_root(self) -> None:
        """Raise Error if the calling user can't write the system's units."""
        if self.runs and not self.own and os.geteuid():
            raise Error(
                f"only root can write {self.units}: use sudo, or --user-manager for your own "
                "service manager"
            )

    @contextmanager
    def alone(self, say: Callable[[str], None]) -> Iterator[None]:
        """Exclude every other install and uninstall while the block runs, by flock(2).

        Raises OSError if the directory of the records can't be created.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        directory = os.open(self.state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("wait for another install or uninstall to finish")
                fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def place(self, name: str) -> Path:
        """Return where the file `name` of an Output belongs: units, or a folder below /etc."""
        folder, _, last = name.rpartition("/")
        return self.at(f"/etc/{folder}") / last if folder else self.units / name

    def at(self, path: str) -> Path:
        """Return where the absolute `path` is: in an image, by the image's own links."""
        return Path(path) if self.runs else inside(self.root, path)

    def run(self, *argv: str, timeout: float | None = 120) -> str:
        """Run a command and return its output. Raises Error, with its messages, if it fails.

        timeout: seconds that it may take; None: no limit.
        """
        try:
            run = subprocess.run(  # noqa: S603 - fixed commands, unit names of our own grammar
                argv, capture_output=True, text=True, errors="replace", timeout=timeout
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Error(f"`{' '.join(argv)}`: {error}") from None
        if run.returncode:
            said = (run.stderr or run.stdout).strip()
            raise Error(f"`{' '.join(argv)}` failed: {said or f'exit code {run.returncode}'}")
        return run.stdout

    def systemctl(self, *words: str, timeout: float | None = 120) -> str:
        """Run systemctl for this host's manager; see `run`."""
        return self.run("systemctl", *(["--user"] if self.own else []), *words, timeout=timeout)

    def bring(self, command: str, units: list[str]) -> None:
        """Start, restart or enable units. Raises Error, with the end of their log, on failure."""
        try:
            self.systemctl(*command.split(), "--", *units)
        except Error as error:
            which = matches_of(units, own=self.own)
            said = self.run("journalctl", "-q", "-n", "30", "-o", "cat", *which)
            last = "\n".join(that_matter(said.splitlines())[-5:])
            raise Error(f"{error}\n{last}") from None

    def enable(self, units: Iterable[str]) -> None:
        """Enable units: systemctl(1), or in an image the links that it would make.

        `systemctl --root` follows an image's absolute links to this host's own directories.
        """
        if self.runs:
            self.systemctl("enable", "--", *units)
            return
        for unit in units:
            wants = WANTED_BY[unit[unit.rindex(".") :]]
            atomic_write.link(self.at(f"{UNITS}/{wants}") / unit, f"{UNITS}/{unit}")

    def enable_instances(self, file: File) -> None:
        """Enable the instances of a template that belong to its site, in an image."""
        for unit, wants in wanted(file):
            atomic_write.link(self.at(f"{UNITS}/{wants}") / unit, f"{UNITS}/{file.name}")

    def instances(self, template: str) -> dict[str, tuple[str, str]]:
        """Return the instances of a template that are enabled or running, each with its states.

        The states are those of `state_of`. Empty for an image, and for a unit that is not a
        template.
        """
        if not self.runs or "@." not in template:
            return {}
        pattern = glob.escape(template).replace("@.", "@*.")
        found = {path.name for path in self.units.glob(f"*.wants/{pattern}")}
        listing = self.systemctl(
            "list-units", "--all", "--plain", "--no-legend", "--full", "--", pattern
        )
        found |= {line.split()[0] for line in listing.splitlines() if line.split()}
        return {unit: self.state_of(unit) for unit in sorted(found)}

    def disable(self, unit: str) -> None:
        """Disable a unit; of a template, all its instances."""
        if self.runs:
            self.systemctl("disable", "--", unit)
        else:
            self.unlink_wants(unit)

    def unlink_wants(self, unit: str) -> None:
        """Remove the links to a unit, or to a template's instances, from .wants directories."""
        name = glob.escape(unit).replace("@.", "@*.")
        for wants in self.units.glob("*.wants"):
            folder = wants if self.runs else inside(self.root, f"/{wants.relative_to(self.root)}")
            # Not Path.glob(), which leaves out dangling links, as an image's links often are here.
            for link in fnmatch.filter(os.listdir(folder), name):
                (folder / link).unlink(missing_ok=True)
            atomic_write.remove_drafts(folder / unit)

    def state_of(self, unit: str) -> tuple[str, str]:
        """Return ActiveState and UnitFileState of `unit`; ("inactive", "") if there is none.

        A template has no state of its own; its instances have.
        """
        if not self.runs or "@." in unit:
            return "inactive", ""
        shown = show(unit, "ActiveState", "UnitFileState", own=self.own)
        return one(shown, "ActiveState"), one(shown, "UnitFileState")

    def listening(self) -> dict[str, str]:
        """Return the addresses that socket units listen on now, as they are written, each with
        its unit."""
        shown = self.systemctl("list-sockets", "--no-legend", "--full")
        lines = (re.match(r"(.*?)\s+(\S+\.socket)\s", f"{line} ") for line in shown.splitlines())
        return {line[1]: line[2] for line in lines if line}

    def socket_files(self, units: Iterable[str]) -> list[Path]:
        """Return the paths that socket units listen on now; of a template, all its instances."""
        if not self.runs:
            return []
        names = [glob.escape(unit).replace("@.", "@*.") for unit in units]
        return [
            Path(address)
            for address, unit in self.listening().items()
            if address.startswith("/") and any(fnmatch.fnmatchcase(unit, name) for name in names)
        ]

    def reload(self, units: Iterable[str]) -> None:
        """Reload systemd, and reset the start counts and failures of `units`.

        From systemd 255 on, a reload keeps that count, and a sixth start within ten seconds is
        refused (systemd.unit(5), StartLimitBurst=), also of a socket that an earlier install
        started. And systemctl --failed lists a failed unit even after its file is removed.
        """
        self.systemctl("daemon-reload")
        if names := list(units):  # without arguments it means all units
            with suppress(Error):  # a unit that is not loaded has no count
                self.systemctl("reset-failed", "--", *names)


def unlink_dead(path: Path) -> bool:
    """Remove the file of a unix socket that no process has bound; return whether it was one."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode) or is_bound(str(path)):
            return False
    except OSError:
        return False  # it is gone, or can't be examined
    path.unlink(missing_ok=True)
    return True
