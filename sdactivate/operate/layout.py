"""The directory of a site's releases, /srv/NAME: its lock, its link `current`, its records.

    /srv/NAME/releases/ID           a release's code; ID is the time at which it was begun, in UTC
    /srv/NAME/releases/ID.json      its record, written last: without it, the release is incomplete
    /srv/NAME/releases/ID/.venv     a link to its environment
    /srv/NAME/environments/ID       an environment, named after the release that it was built for
    /srv/NAME/current               a link to the release that is served
    /srv/NAME/.staging              what a build writes; only root can reach it from outside

All of it belongs to root. Only root writes records, but they are parsed as untrusted input.
"""

import fcntl
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from sdactivate.errors import Error
from sdactivate.generate.output import File
from sdactivate.install import atomic_write

SRV = Path("/srv")
"""The directory of sites that have releases."""
LONGEST_RECORD = 65536
"""The longest record, in bytes."""

_ID = re.compile(r"([0-9]{8}-[0-9]{6})(?:\.([1-9][0-9]{0,5}))?", re.ASCII)


class Release(NamedTuple):
    """One release, from its record. Fields that the record lacks are empty."""

    id: str
    made: str = ""
    """When it was made, in UTC: 2026-11-28 10:15:30."""
    by: str = ""
    """The user who made it, before sudo."""
    ref: str = ""
    """The revision: --ref, or the commit that `git archive` recorded."""
    source: str = ""
    environment: str = ""
    """The ID of its environment; empty: it has none."""
    key: str = ""
    """A digest of the requirements and interpreter that the environment was made for."""
    migrations: str = ""
    """The migrations that ran for it, separated by spaces: guestbook.0002_entry."""


def order(identity: str) -> tuple[str, int]:
    """Return the sort key of an ID; ("", 0) for text that is not an ID."""
    found = _ID.fullmatch(identity)
    return (found[1], int(found[2] or 0)) if found else ("", 0)


class Layout:
    """The directory of one site's releases."""

    def __init__(self, name: str, srv: Path = SRV) -> None:
        self.name = name
        self.base = srv / name
        self.current = self.base / "current"
        self.releases = self.base / "releases"
        self.environments = self.base / "environments"
        self.staging = self.base / ".staging"
        self.again = self.base / ".again"
        """A script to run the last failed step again."""

    def prepare(self) -> None:
        """Create the missing directories.

        Raises Error if other users can write to one, since they could replace what is served.
        """
        for directory in (self.base, self.releases, self.environments):
            with suppress(FileExistsError):
                directory.mkdir(mode=0o755)
                directory.chmod(0o755)  # regardless of root's umask
            about = directory.lstat()
            if not stat.S_ISDIR(about.st_mode):
                raise Error(f"{directory} is not a directory; move it away")
            if about.st_uid != os.geteuid() or about.st_mode & 0o022:
                raise Error(
                    f"{directory}: others could replace what {self.name} runs; "
                    f"`chown root: {directory}; chmod 755 {directory}` first"
                )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock of the site's releases (flock(2)).

        Raises Error if another process holds it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with open(os.open(self.base / ".lock", flags, 0o600), "r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = lock.read(20).strip()
                who = f" (PID {pid})" if pid.isdigit() else ""
                raise Error(
                    f"another release or rollback of {self.name} is running{who}; "
                    "wait until it has finished"
                ) from None
            lock.truncate(0)
            print(os.getpid(), file=lock, flush=True)
            yield

    def new_id(self) -> str:
        """Return an ID that sorts after those of all existing releases."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        last, number = max(map(order, self._ids()), default=("", 0))
        return stamp if stamp > last else f"{last}.{number + 1}"

    def _ids(self) -> set[str]:
        names = os.listdir(self.releases) if self.releases.is_dir() else []
        return {
            name for name in (one.removesuffix(".json") for one in names) if _ID.fullmatch(name)
        }

    def all(self) -> list[Release]:
        """Return the complete releases, the oldest first."""
        found = (self.read(identity) for identity in sorted(self._ids(), key=order))
        return [release for release in found if release]

    def read(self, identity: str) -> Release | None:
        """Return a release by its ID; None if there is none, or it is incomplete."""
        if not _ID.fullmatch(identity) or not (self.releases / identity).is_dir():
            return None
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with open(os.open(self._record(identity), flags), "rb") as stream:
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    return None
                data = json.loads(stream.read(LONGEST_RECORD))
        except OSError:
            return None
        except (ValueError, RecursionError):
            data = None
        known = data if isinstance(data, dict) else {}
        fields = {
            name: value[:1000]
            for name in Release._fields
            if name != "id" and isinstance(value := known.get(name), str)
        }
        if not _ID.fullmatch(fields.get("environment", "")):
            fields["environment"] = ""
        return Release(identity, **fields)

    def write(self, release: Release) -> None:
        """Write the record of a release, which marks it as complete. Raises OSError."""
        text = json.dumps(release._asdict(), indent=2) + "\n"
        path = self._record(release.id)
        atomic_write.replace(path, File(path.name, text), sync=True)

    def _record(self, identity: str) -> Path:
        return self.releases / f"{identity}.json"

    def linked(self) -> str:
        """Return the ID of the release that `current` leads to; "" if there is no `current`.

        Raises Error if `current` is not a link to a release.
        """
        try:
            target = os.readlink(self.current)
        except FileNotFoundError:
            return ""
        except OSError:
            raise Error(f"{self.current} is not a link; move it away") from None
        parent, _, identity = target.rpartition("/")
        if parent in ("releases", str(self.releases)) and _ID.fullmatch(identity):
            return identity
        raise Error(f"{self.current} leads to {target!r}, which is not a release; remove it")

    def link(self, identity: str) -> None:
        """Make `current` lead to a release, atomically; with "", remove it."""
        if identity:
            atomic_write.link(self.current, f"releases/{identity}")
        else:
            self.current.unlink(missing_ok=True)

    def run_by(self, pid: str) -> str:
        """Return the ID of the release that a process has its working directory in, or ""."""
        with suppress(OSError, ValueError, IndexError):
            directory = Path(os.readlink(f"/proc/{pid}/cwd"))
            identity = directory.relative_to(self.releases).parts[0]
            return identity if self.read(identity) else ""
        return ""

    def clear(self) -> None:
        """Remove what a failed or killed release has left behind."""
        remove(self.staging)
        self.again.unlink(missing_ok=True)
        for draft in self.base.glob(".*sdactivate*"):
            remove(draft)
        whole = {release.id for release in self.all()}
        used = in_use(self.base)
        for identity in self._ids() - whole:
            if f"releases/{identity}" not in used:
                self.remove(identity)
        self._clear_environments(used)

    def prune(self, keep: int, protected: set[str]) -> list[str]:
        """Remove all but the `keep` newest releases; return their IDs.

        Releases in `protected` and those that a process still uses are kept.
        """
        used = in_use(self.base)
        old = [release.id for release in self.all()[:-keep]]
        gone = [one for one in old if one not in protected and f"releases/{one}" not in used]
        for identity in gone:
            self.remove(identity)
        self._clear_environments(used)
        return gone

    def _clear_environments(self, used: set[str]) -> None:
        kept = {release.environment for release in self.all()}
        for name in os.listdir(self.environments):
            if name not in kept and f"environments/{name}" not in used:
                remove(self.environments / name)

    def forget(self, identity: str) -> None:
        """Remove the record of a release, so that the next release cleans it up as incomplete."""
        self._record(identity).unlink(missing_ok=True)

    def remove(self, identity: str) -> None:
        """Remove a release: its record first, so that a partial one never counts as complete."""
        self.forget(identity)
        remove(self.releases / identity)


def remove(path: Path) -> None:
    """Remove a tree, however deep, without following links. Raises Error."""
    done = subprocess.run(  # noqa: S603 - a fixed command; shutil.rmtree has a recursion limit
        ["rm", "-rf", "--one-file-system", "--", str(path)],  # noqa: S607
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise Error(f"`rm -rf {path}` failed: {done.stderr.strip()}")


def in_use(base: Path) -> set[str]:
    """Return which of releases/ID and environments/ID below `base` any process uses.

    A process uses one if its working directory, root, program or mapped files lie there, or if its
    command line names it: proc(5). Only root sees these of all processes.
    """
    names = re.compile(
        re.escape(os.fsencode(base)) + rb"/((?:releases|environments)/[0-9]{8}-[0-9]{6}[.0-9]*)"
    )
    used: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        said = b""
        for name in ("cwd", "root", "exe"):
            with suppress(OSError):
                said += os.fsencode(os.readlink(process / name)) + b"\n"
        for name in ("maps", "cmdline"):
            with suppress(OSError):
                said += (process / name).read_bytes()
        used.update(found.decode() for found in names.findall(said))
    return used
