"""The state of the running system for a deployment: units, sockets, processes, logs."""

import contextlib
import os
import pwd
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from sdactivate import front_config, mounts
from sdactivate.access import accounts, processes, sock_diag, words
from sdactivate.access.path_walk import walk
from sdactivate.access.permissions import WRITE, Identity, Verdict, Way, judge
from sdactivate.access.processes import Process
from sdactivate.doctor import front_log_files, text_file, unit_logs
from sdactivate.doctor.last_start import Cause, Line, cause, last_start
from sdactivate.doctor.units import Deployment
from sdactivate.errors import Error
from sdactivate.front_config import Configuration, Naming, Server
from sdactivate.fronts import Front, Packaging
from sdactivate.systemd.journal import that_matter
from sdactivate.systemd.systemctl import Snapshot, addresses, one, since_epoch

T = TypeVar("T")
_LOG_TAIL = 256 * 1024  # bytes of a front's log that are read,
_SHARED_BY = 16  # and if it has more than so many files, less of each
_RECENT = 3600  # seconds
_BEGAN = "InactiveExitTimestampMonotonic"  # when systemd began to start a unit
_ACTIVE, _MAIN_STARTED = "ActiveEnterTimestampMonotonic", "ExecMainStartTimestampMonotonic"
_MOMENTS = 15  # seconds: a server that fails at its start does so within this time
PROPERTIES = (
    *(_ACTIVE, "ActiveState", "Backlog", "ConsistsOf", "DropInPaths"),
    *(_MAIN_STARTED, "ExecMainStatus", "FileDescriptorName", "FragmentPath"),
    *("Listen", "LoadState", "MainPID", "NRestarts", "NeedDaemonReload", "RequiredBy", "Requires"),
    *("Result", "SocketGroup", "SocketMode", "SocketUser", "StatusErrno", "StatusText"),
    "InactiveEnterTimestampMonotonic",
    *("TriggeredBy", "Triggers", "Type", "UnitFileState", _BEGAN),
)
"""The properties that are read for each unit: a tenth of all, because units can be hundreds."""
# systemd's lines about a failure that don't say why; with the last one it ends
_END = re.compile("Failed to (start|listen on) ")
_SUMMARY = re.compile(f": Failed with result |: Failed to (run|spawn) '|^{_END.pattern}")
# A line of journalctl(1) with -o short-unix: when, and the message behind host and program
_SHORT_UNIX = re.compile(r"(\d+\.\d+) \S+ [^:]*: (.*)")
# How nginx, lighttpd and Apache begin their lines
_STAMPS = (
    (re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d)"), "%Y/%m/%d %H:%M:%S"),
    (re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"), "%Y-%m-%d %H:%M:%S"),
    (re.compile(r"\[(\w{3} \w{3} \d\d \d\d:\d\d:\d\d\.\d+ \d{4})\]"), "%a %b %d %H:%M:%S.%f %Y"),
)


class InstalledFront(NamedTuple):
    """A front on this host, with its running workers: the processes that connect."""

    front: Front
    packaging: Packaging
    workers: tuple[Process, ...]

    @property
    def user(self) -> str:
        """The user that they run as. Its configuration may differ from the package's."""
        return words.user(self.workers[0].identity.uid) if self.workers else self.packaging.user

    @property
    def group(self) -> str:
        """Their primary group."""
        return words.group(self.workers[0].identity.gid) if self.workers else self.packaging.group


class Machine:
    """The state that all deployments of this system share. Each fact is read once.

    Mounts that don't answer are removed from this process's view of the file system.

    Raises Error if this process is not root, because it could not see enough; also if a mount does
    not answer and can't be left out.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Error(
                "examining the running system needs root, to read the logs, directories and "
                "processes of other users: use sudo, or --offline for the unit files alone"
            )
        self.silent = mounts.silent()
        """The mounts that don't answer. `leave_out` has hidden them from this process."""
        mounts.leave_out(self.silent)
        self.units = Snapshot(PROPERTIES)
        self.services: dict[str, None] = {}
        """The services of the deployments that are examined. One pass reads data for all."""
        self._found: dict[object, Any] = {}

    @cached_property
    def processes(self) -> list[Process]:
        """Every running process."""
        return list(processes.running())

    def processes_of(self, unit: str) -> list[Process]:
        """Return the running processes of a unit."""

        def sort() -> dict[str, list[Process]]:
            by_unit: dict[str, list[Process]] = {}
            for process in self.processes:
                by_unit.setdefault(process.unit, []).append(process)
            return by_unit

        return self.once("processes by unit", sort).get(unit, [])

    @cached_property
    def listeners(self) -> list[sock_diag.Listener]:
        """Every listening unix socket."""
        return sock_diag.listeners()

    @cached_property
    def held(self) -> frozenset[int] | None:
        """The sockets of PID 1 (proc_pid_fd(5)); None if they may not be read."""
        found = set()
        try:
            for number in os.listdir("/proc/1/fd"):
                with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                    link = os.readlink(f"/proc/1/fd/{number}")
                    found |= {int(it) for it in re.findall(r"^socket:\[(\d+)\]$", link)}
        except PermissionError:
            return None
        return frozenset(found)

    @cached_property
    def fronts(self) -> list[InstalledFront]:
        """The fronts that are installed, those that run first."""
        found = []
        for front, packaging in accounts.fronts():
            members = [it for it in self.processes if it.unit == packaging.unit]
            workers = [it for it in members if not it.identity.override] or members
            found.append(InstalledFront(front, packaging, tuple(workers)))
        return sorted(found, key=lambda installed: not installed.workers)

    def way(self, path: str, root: str = "/", need: int = WRITE) -> Way:
        """Return the directories and links on the way to `path`, and their permissions."""
        return self.once(("way", path, root, need), lambda: walk(path, root, need))

    def listener(self, path: str) -> sock_diag.Listener | None:
        """Return the socket behind the file at `path`."""
        return self.once(("listener", path), lambda: sock_diag.behind(path, self.listeners))

    @cached_property
    def accounts(self) -> frozenset[str]:
        """The names of all accounts that the host can list: dynamic ones only while they exist."""
        return frozenset(it.pw_name for it in pwd.getpwall())

    def account(self, name: str, *, alone: bool = False) -> Identity | None:
        """Return the identity that a process of an account gets, None without such an account.

        alone: without its supplementary groups.
        """

        def read() -> Identity | None:
            try:
                return accounts.account(name, [] if alone else None)
            except Error:
                return None

        return self.once(("account", name, alone), read)

    def journal(self, *options: str) -> list[str]:
        """Return lines of the journal, the newest last; none if there is no journal."""
        self._sync()
        argv = ("--no-pager", "--quiet", *options)
        return self.once(("journal", *options), lambda: unit_logs.journalctl(*argv))

    def _sync(self) -> None:
        """Wait until the latest log lines have reached the journal."""
        self.once("journal is synced", lambda: unit_logs.journalctl("--sync"))

    def logged_lately(self, unit: str) -> list[Line]:
        """Return the newest lines that a unit has logged in the last hour."""
        known = self._lately
        if unit not in known:
            known[unit] = unit_logs.of_unit(unit, self._an_hour_ago)
        return known[unit]

    def logged(self, unit: str) -> list[Line]:
        """Return the newest lines that a failed unit has logged."""
        begun = self._failed.get(unit)
        if begun is not None:
            known = self._lately if begun >= self._an_hour_ago else self._earlier
            if lines := known.get(unit):
                return lines
        self._sync()
        return self.once(("logged", unit), lambda: unit_logs.of_unit(unit))

    @cached_property
    def _an_hour_ago(self) -> float:
        return time.time() - _RECENT

    @cached_property
    def _failed(self) -> dict[str, float]:
        """The failed services, and when the last start of each began."""
        failed = [it for it in self.services if self._state(it) == "failed"]
        begins = {it: one(self.units.show(it), _BEGAN) for it in failed}
        # One second of tolerance: the clocks are not read at the same moment
        return {it: since_epoch(at) - 1 for it, at in begins.items() if at not in ("0", "")}

    @cached_property
    def _lately(self) -> dict[str, list[Line]]:
        """The lines of all services in the last hour, except those that failed before that."""
        now = {it: self._an_hour_ago for it in self.services if self._state(it) != "failed"}
        failed = {it: at for it, at in self._failed.items() if at >= self._an_hour_ago}
        return self._together(now | failed)

    @cached_property
    def _earlier(self) -> dict[str, list[Line]]:
        """The lines of failed services whose start began earlier than that."""
        return self._together({it: at for it, at in self._failed.items() if at < self._an_hour_ago})

    def _state(self, unit: str) -> str:
        return one(self.units.show(unit), "ActiveState")

    def _together(self, since: dict[str, float]) -> dict[str, list[Line]]:
        """Return the lines of many units, read in one pass; nothing for a few units.

        since: the earliest time for each.
        """
        self._sync()
        return unit_logs.of_units(since) if len(since) > unit_logs.FEW else {}

    def front_log(self, installed: InstalledFront) -> list[tuple[float, str]]:
        """Return the recent lines of a front's log, each with its time (0.0 if unknown)."""
        packaging = installed.packaging

        def read() -> list[tuple[float, str]]:
            if packaging.log:
                files = self.error_logs(installed)
                lines = [line for file in files for line in self.log_file(file, len(files))]
                # Several files are one log; lines without a time come first
                return sorted(lines, key=lambda it: it[0]) if files[1:] else lines
            said = self.journal(f"--unit={packaging.unit}", "--since=-1h", "-oshort-unix")
            return [(float(it[1]), it[2]) for it in map(_SHORT_UNIX.match, said) if it]

        return self.once(("log", packaging.unit), read)

    def error_logs(self, installed: InstalledFront) -> list[str]:
        """Return the files that a front has logged errors to in the last hour."""
        front, packaging = installed.front, installed.packaging
        texts = self.configuration(installed).files.values()
        return self.once(
            ("error logs", packaging.unit),
            lambda: front_log_files.error_logs(front, packaging, texts),
        )

    def log_file(self, file: str, of: int = 1) -> list[tuple[float, str]]:
        """Return the last lines of a log, each with its time (0.0 if unknown).

        of: the number of files that share the limit.
        """

        def read() -> list[tuple[float, str]]:
            limit = max(_LOG_TAIL // _SHARED_BY, min(_LOG_TAIL, _LOG_TAIL * _SHARED_BY // of))
            return [(stamp(line) or 0.0, line) for line in tail(file, limit)]

        return self.once(("log file", file), read)

    def front_log_of(self, installed: InstalledFront, path: str) -> list[tuple[float, str]]:
        """Return the lines of `front_log` that name the socket at `path`; all for path ""."""
        lines = self.front_log(installed)
        if not path:
            return lines
        index: Naming[tuple[float, str]] = self.once(
            ("log by path", installed.packaging.unit),
            lambda: Naming((line, line[1]) for line in lines),
        )
        return index.of(path)

    def servers_of(self, installed: InstalledFront, path: str) -> list[Server]:
        """Return the servers of a front's configuration that name the socket at `path`."""
        index: Naming[Server] = self.once(
            ("servers by path", installed.packaging.unit),
            lambda: Naming((it, it.text) for it in self.configuration(installed).servers),
        )
        return index.of(path)

    def configuration(self, installed: InstalledFront) -> Configuration:
        """Return a front's configuration."""
        front, packaging = installed.front, installed.packaging
        return self.once(("front", packaging.unit), lambda: front_config.read(front, packaging))

    def once(self, name: object, find: Callable[[], T]) -> T:
        """Return the result of `find`, which is called only the first time for each `name`."""
        if name not in self._found:
            self._found[name] = find()
        found: T = self._found[name]
        return found


class HostState:
    """The running system, as far as it concerns one deployment.

    machine: the state shared with other deployments. Raises Error if this process is not root.
    """

    def __init__(self, deployment: Deployment, machine: Machine | None = None) -> None:
        self.deployment = deployment
        self.machine = machine or Machine()
        if deployment.service and "@." not in deployment.service.name:
            self.machine.services[deployment.service.name] = None
        self.unseen: dict[object, str] = {}
        """What could not be examined: a line for each file system that denies root access."""

    def property(self, unit: str, name: str) -> str:
        """Return a property of a unit, as read from systemd."""
        return one(self.machine.units.show(unit), name)

    def look_again(self, unit: str) -> None:
        """Forget the properties of a unit, so that they are read again: its state is changing."""
        self.machine.units.forget(unit)

    def addresses(self, socket: str) -> list[str]:
        """Return what a socket unit listens on, specifiers resolved: paths, @names, ports."""
        return list(addresses(self.machine.units.show(socket)))

    def paths(self) -> Iterator[tuple[str, str]]:
        """Yield each socket unit that is active and each path that it listens on."""
        for socket in self.deployment.sockets:
            if self.property(socket.name, "ActiveState") == "active":
                for address in self.addresses(socket.name):
                    if address.startswith("/"):
                        yield socket.name, address

    @cached_property
    def processes(self) -> list[Process]:
        """Every running process."""
        return self.machine.processes

    @cached_property
    def listeners(self) -> list[sock_diag.Listener]:
        """Every listening unix socket."""
        return self.machine.listeners

    @cached_property
    def fronts(self) -> list[InstalledFront]:
        """The fronts that are installed, those that run first."""
        return self.machine.fronts

    def is_systemds(self, listener: sock_diag.Listener) -> bool:
        """Return whether systemd itself has a socket open, as for its active units."""
        held = self.machine.held
        return held is None or listener.number in held

    def listener(self, path: str) -> sock_diag.Listener | None:
        """Return the socket behind the file at `path`."""
        return self.machine.listener(path)

    def verdict(self, path: str, process: Process) -> Verdict | None:
        """Return whether `process` may connect to `path`, as it sees it.

        None if the process has exited, or if its view can't be examined (`unseen` says why). For a
        chrooted process the path is relative to its root.
        """
        try:
            inside = path
            if process.root != "/":
                top = os.readlink(f"/proc/{process.pid}/root")
                inside = path.removeprefix(top) if top != "/" and _lies_in(path, top) else path
            return judge(self.way(inside, process.root), process.identity)
        except Error as error:
            # One line for all processes with the same view: it is the same mount.
            unit = process.unit or "no unit"
            who = f"process {process.pid} ({process.name}, {unit})"
            self.unseen.setdefault(process.view, f"{who} may see other files: {error}")
            return None
        except OSError:
            return None

    def way(self, path: str, root: str = "/", need: int = WRITE) -> Way:
        """Return the directories and links on the way to `path`, and their permissions."""
        return self.machine.way(path, root, need)

    def account(self, installed: InstalledFront) -> Identity | None:
        """Return the identity that a front's processes would get if it were started now."""
        return self.machine.account(installed.user, alone=installed.front.drops_groups)

    def since(self, *units: str) -> float:
        """Return the earliest time of relevant log lines: an hour ago, or a unit's last start."""
        return max(time.time() - _RECENT, *map(self._logs_since, units))

    def _logs_since(self, unit: str) -> float:
        # A service logs from the start of its main process, perhaps long before it is active.
        main = self.property(unit, _MAIN_STARTED)
        return since_epoch(main if main not in ("", "0") else self.property(unit, _ACTIVE))

    def began(self, unit: str) -> float:
        """Return when systemd began to start a running unit, in seconds since the epoch."""
        return since_epoch(self.property(unit, _BEGAN))

    def complaint(self, unit: str) -> str:
        """Return systemd's latest message why it didn't start a unit; "" if there is none."""
        # Not by --unit: journald can't tell the unit of a child that has ended before it looks.
        which = (f"UNIT={unit}", "_UID=0")
        lines = that_matter(self.journal(*which, "--lines=20", "--priority=warning"))
        ends = [number for number, line in enumerate(lines) if _END.match(line)]
        said = [it for it in lines[ends[-2] + 1 if ends[1:] else 0 :] if not _SUMMARY.search(it)]
        return said[-1] if said else ""

    def keeps_failing(self, unit: str) -> bool:
        """Return whether systemd restarted a unit moments ago because it had just failed.

        False if the unit was started by hand since then.
        """
        began = self.began(unit)
        if self.property(unit, "NRestarts") in ("0", "") or time.time() - began > _MOMENTS:
            return False
        lines = unit_logs.of_unit(unit, began - _MOMENTS)
        return is_started_again([it.text for it in lines if it.by_systemd])

    def why(self, unit: str) -> Cause | None:
        """Return why a unit's last start failed, as systemd and its processes have logged it."""
        state = self.property(unit, "ActiveState")
        is_restarting = state == "activating" or (state == "active" and self.keeps_failing(unit))
        return cause(last_start(self.machine.logged(unit), is_restarting=is_restarting))

    def said(self, unit: str) -> list[str]:
        """Return what the processes of a unit have logged in the last hour, since its last start.

        The newest lines only, MOST_LINES at most.
        """

        def read() -> list[str]:
            lines = last_start(self.machine.logged_lately(unit))
            return [line.text for line in lines if not line.by_systemd]

        return self.machine.once(("said", unit), read)

    def journal(self, *options: str) -> list[str]:
        """Return lines of the journal, the newest last; none if there is no journal."""
        return self.machine.journal("--output=cat", *options)

    def front_log(self, installed: InstalledFront, since: float, path: str = "") -> list[str]:
        """Return what a front has logged since then; with `path` only what names that socket."""
        found = self.machine.front_log_of(installed, path)
        # nginx's and lighttpd's files have whole seconds; other times are exact
        return [
            line
            for when, line in found
            if not when or when >= (int(since) if when.is_integer() else since)
        ]


def is_started_again(lines: Iterable[str]) -> bool:
    """Return whether systemd itself restarted a unit after a failure, and it may fail again.

    lines: systemd's log lines about the unit, oldest first. A restart by hand logs a stop, or no
    "Scheduled restart job" after the failure. A unit whose start had failed, and now succeeds, is
    over it: only with Type=exec, notify, forking or dbus does "Starting" come before "Started".
    """
    again = is_starting = start_failed = False
    for line in lines:
        if line.startswith("Stopping "):
            again = False
        elif ": Failed with result " in line:
            again, start_failed = False, is_starting
        elif ": Scheduled restart job, " in line:
            again = True
        elif line.startswith("Starting "):
            is_starting = True
        elif line.startswith("Started "):
            is_starting = False
            again = again and not start_failed
    return again


def _lies_in(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def stamp(line: str) -> float | None:
    """Return when a line of a front's log was written, None if it has no time."""
    for pattern, form in _STAMPS:
        if found := pattern.search(line[:64]):
            try:
                return datetime.strptime("".join(found.groups()), form).timestamp()
            except ValueError:
                return None
    return None


def tail(path: str, limit: int = _LOG_TAIL) -> list[str]:
    """Return the last lines of a log; none if it is missing or not a file (a FIFO).

    limit: how much of it is read, in bytes.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return text_file.lines(file.read(limit))
    except OSError:
        return []
