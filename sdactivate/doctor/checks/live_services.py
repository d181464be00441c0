"""Checks on the running system: the service, its failures and .pyc files."""

import ast
import errno
import glob
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from warnings import catch_warnings, simplefilter

from sdactivate.access import words
from sdactivate.access.accounts import STRANGER, account
from sdactivate.access.path_walk import walk
from sdactivate.access.permissions import READ, SEARCH, Identity, Verdict, judge
from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit, restart
from sdactivate.doctor.host_state import HostState
from sdactivate.doctor.units import services
from sdactivate.errors import Error
from sdactivate.systemd import read_at_start
from sdactivate.systemd.unitfile import Entry, Unit

_RESULTS = {
    "exit-code": "it left with exit code",
    "signal": "it was killed by signal",
    "core-dump": "it crashed with signal",
    "timeout": "it was not ready, or did not stop, in time (TimeoutStartSec=, TimeoutStopSec=)",
    "watchdog": "it stopped telling that it is alive (WatchdogSec=)",
    "oom-kill": "the kernel killed it for want of memory (MemoryMax=)",
    "protocol": "it left before it had said that it is ready (Type=)",
    "start-limit-hit": "it was started too often in too short a time (StartLimitBurst=)",
    "resources": "systemd couldn't start it",
}
# How often, and after how many seconds each, a service that is being restarted is looked at
_LOOKS, _BETWEEN_LOOKS = 40, 0.03
_MODULE = re.compile(r"[A-Za-z_][\w.]*(:[\w.]+)?", re.ASCII)
# A user's own directory, which is not to be opened to everybody for the sake of a service
_HOME = re.compile(r"/root|/home/[^/]+")
_DENIED = ('apparmor="DENIED"', "avc:  denied")
_LARGEST = 1 << 20  # bytes of a source that is looked at
_STATUS = {
    "200": "CHDIR: WorkingDirectory= isn't there, or its user may not enter it",
    "203": "EXEC: the program isn't there, or its user may not run it",
    "216": "GROUP: Group= or SupplementaryGroups= names none",
    "217": "USER: User= names none",
    "226": "NAMESPACE: a directory of the sandbox isn't there (ReadWritePaths=, BindPaths=)",
    "228": "SECCOMP: the kernel has no system call filter",
    "233": "RUNTIME_DIRECTORY: it couldn't be made",
    "238": "STATE_DIRECTORY: it couldn't be made",
    "243": "CREDENTIALS: a credential isn't there",
}


def service_failed(case: Case) -> Iterator[Hit]:
    host = case.running
    for service in common.services(case.service):
        reason = _failure(host, service.name) if "@." not in service.name else ""
        if not reason:
            continue
        last = _last_words(host, service.name)
        said = f"; its last words: {last}" if last else ""
        argv = ("journalctl", "--unit", service.name, "--lines=50")
        yield Hit(service.name, f"{reason}{said}", Command(argv))


def background_worker(case: Case) -> Iterator[Hit]:
    """Background workers stop with the site's socket unit: PartOf=."""
    host = case.running
    for socket in case.sockets:
        if "@." in socket.name or host.property(socket.name, "ActiveState") != "active":
            continue
        for name in services(host.property(socket.name, "ConsistsOf")):
            if case.service and name == case.service.name:
                continue
            if reason := _failure(host, name):
                last = _last_words(host, name)
                said = f"; its last words: {last}" if last else ""
                yield Hit(
                    name, f"{name}: {reason}{said}", Command(("journalctl", "--unit", name, "-n50"))
                )
            elif host.property(name, "ActiveState") == "inactive" and (
                host.property(name, "UnitFileState") in ("enabled", "generated")
            ):
                yield Hit(
                    name,
                    f"{name} is enabled, and does not run",
                    Command(("systemctl", "start", name)),
                )


def _failure(host: HostState, service: str) -> str:
    """What went wrong with a service the last time, "" for nothing."""
    # While systemd starts it again, which fails within milliseconds and is tried 0.1 s later, there
    # is no result. The one in between has the reason.
    for _ in range(_LOOKS):
        result = host.property(service, "Result")
        if result not in ("success", "") or not _is_restarting(host, service):
            break
        time.sleep(_BETWEEN_LOOKS)
        host.look_again(service)
    status = host.property(service, "ExecMainStatus")
    if result not in ("success", ""):
        if result == "exit-code" and status in _STATUS:
            return f"status={status}/{_STATUS[status]}"
        if result == "exit-code" and status == "0":
            return "another of its commands than ExecStart= failed (ExecStartPre=, ExecStartPost=)"
        said = _RESULTS.get(result, result)
        return f"{said} {status}" if said.endswith((" code", " signal")) else said
    if host.property(service, "StatusErrno") not in ("0", ""):  # sd_notify(3): ERRNO=
        return f"it says: {host.property(service, 'StatusText')}"
    if _is_restarting(host, service):
        restarts = host.property(service, "NRestarts")
        return f"it does not stay: systemd has started it again {restarts} times"
    return ""


def _is_restarting(host: HostState, service: str) -> bool:
    restarts = host.property(service, "NRestarts")
    return restarts not in ("0", "") and host.property(service, "ActiveState") == "activating"


def _last_words(host: HostState, service: str) -> str:
    """What the processes of a service have said last: of its last start, not of those before.

    One that is started again and again may not have said anything yet this time. Where the
    program was never reached, systemd has the word.
    """
    is_systemds = (
        host.property(service, "Result") == "resources"
        or host.property(service, "ExecMainStatus") in _STATUS
    )
    if is_systemds and (said := host.complaint(service)):
        return said
    invocation = host.property(service, "InvocationID")
    if not invocation or host.property(service, "ActiveState") == "activating":
        of = [f"_SYSTEMD_UNIT={service}", host.since_loading]
    else:
        of = [f"_SYSTEMD_INVOCATION_ID={invocation}"]
    # With --since, --lines are the first ones, unless the order is reversed.
    lines = map(str.strip, host.journal(*of, "--lines=20", "--reverse"))
    return next(filter(None, lines), "")


def not_compiled(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        directory = common.resolve(service.value("WorkingDirectory").lstrip("-"), service)
        strict = service.value("ProtectSystem") == "strict" or common.is_dynamic(service)
        if not directory.startswith("/") or not strict:
            continue
        sources = _sources(Path(directory))
        missing = [it for it in sources if not _compiled(it) and _can_be_compiled(it)]
        if missing:
            yield Hit(
                service.name,
                f"{len(missing)} of {len(sources)} modules in {directory} have "
                "no compiled file, and the service may write none",
                Command((_ourselves(), "compile", directory, *_interpreter(service)), True),
            )


def _ourselves() -> str:
    """The command `sdactivate`: the one that is called so, else that of this installation."""
    beside = os.path.join(os.path.dirname(sys.executable), "sdactivate")
    return "sdactivate" if shutil.which("sdactivate") else beside


def _sources(directory: Path, most: int = 2000) -> list[Path]:
    found: list[Path] = []
    for top, directories, files in os.walk(directory):
        directories[:] = sorted(
            it for it in directories if not it.startswith(".") and it not in ("node_modules",)
        )
        sources = (Path(top, name) for name in files if name.endswith(".py"))
        # What a link leads to is compiled where it is, if at all.
        found += [path for path in sources if not path.is_symlink()]
        if len(found) >= most:
            break
    return found[:most]


def _can_be_compiled(source: Path) -> bool:
    """Whether it is worth it (an empty file isn't) and possible: a template or Python 2 isn't.

    It is only read, and only parsed: it is not ours, and this process is root's.
    """
    try:
        # A FIFO would be waited for; no source is that large.
        with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return False
            text = file.read(_LARGEST + 1)
        with catch_warnings():
            simplefilter("ignore")  # of another project's odd escapes
            ast.parse(text, source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return 0 < len(text) <= _LARGEST


def _compiled(source: Path) -> bool:
    return any(source.parent.glob(f"__pycache__/{source.stem}.*.pyc"))


def _interpreter(service: Unit) -> tuple[str, ...]:
    """The option that names the service's interpreter, where it runs one by its path."""
    commands = [common.command(it, service) for it in service.entries_of("ExecStart")]
    programs = [argv[0] for argv in commands if argv and "python" in os.path.basename(argv[0])]
    return ("--python", programs[0]) if programs and programs[0].startswith("/") else ()


def program_unreadable(case: Case) -> Iterator[Hit]:
    host = case.running
    for service in common.services(case.service):
        identity = _runs_as(case, host)
        if identity is None or identity.override:
            continue
        told: set[str] = set()
        for wanted in _wanted(service):
            verdict = judge(walk(wanted.path, need=wanted.need), identity)
            node = verdict.node
            place = wanted.path if node is None or verdict.error else node.path
            if verdict.allowed or place in told:
                continue
            told.add(place)
            yield Hit(
                wanted.entry,
                f"{common.user(service)} can't {wanted.what.format(wanted.path)}: "
                f"{words.because(verdict)}",
                _reach(verdict),
            )


class _Wanted(NamedTuple):
    """What a service needs to start: the line, the path, the permission, and what it is for."""

    entry: Entry
    path: str
    need: int
    what: str


def _wanted(service: Unit) -> Iterator[_Wanted]:
    # Python lists the directories that it imports from: x alone is not enough for them.
    listed = READ | SEARCH
    directory = ""
    for entry in service.entries_of("WorkingDirectory")[-1:]:
        directory = common.resolve(entry.value.lstrip("-"), service)
    for line in service.entries_of("ExecStart"):
        program, *arguments = [*common.command(line, service), ""]
        modules = [it for word in arguments if (it := _module(directory, word))]
        if directory.startswith("/"):
            enter = "enter {} (status=200/CHDIR)"
            both = "import from {}, or not even enter it (status=200/CHDIR)"
            yield _Wanted(entry, directory, *((listed, both) if modules else (SEARCH, enter)))
        if program.startswith("/"):
            yield _Wanted(line, program, SEARCH, "execute {} (status=203/EXEC)")
        for file in modules:
            for package in list(Path(file).parents)[::-1]:
                if common.under(str(package), directory) and str(package) != directory:
                    yield _Wanted(line, str(package), listed, "import from {}")
            if not _compiled(Path(file)):  # else it is only looked at, not read
                yield _Wanted(line, file, READ, "import {}")


def _module(directory: str, word: str) -> str:
    """The file that a word of a command line means, if it is a module: mysite.wsgi:application."""
    if not directory.startswith("/") or not _MODULE.fullmatch(word):
        return ""
    path = f"{directory}/{word.partition(':')[0].replace('.', '/')}"
    return next((it for it in (f"{path}.py", f"{path}/__init__.py") if os.path.isfile(it)), "")


def _reach(verdict: Verdict) -> Fix:
    if verdict.node is None or verdict.error in (errno.ENOENT, errno.ENOTDIR):
        return Advice("the path is wrong, or the program isn't installed there")
    letters = words.bits(verdict.need).replace("-", "")
    if _HOME.fullmatch(verdict.node.path):
        return Advice("move the program out of the home directory, to /srv or /opt for instance")
    return Command(("chmod", f"o+{letters}", verdict.node.path))


def _runs_as(case: Case, host: HostState) -> Identity | None:
    assert case.service is not None
    name = common.user(case.service)
    try:
        return account(name)
    except Error:
        # A dynamic user that doesn't exist while the service is down
        return STRANGER if common.is_dynamic(case.service) else None


def stale_files(case: Case) -> Iterator[Hit]:
    host = case.running
    for service in common.services(case.service):
        if "@." in service.name or host.property(service.name, "ActiveState") != "active":
            continue
        since = host.began(service.name)
        refreshed = "credentials" in service.value("RefreshOnReload").split()
        entries = list(service.entries_of("EnvironmentFile"))
        if not refreshed:
            entries += service.entries_of("LoadCredential")
            entries += service.entries_of("LoadCredentialEncrypted")
        for entry in entries:
            written = entry.value
            if entry.key != "EnvironmentFile":
                written = written.partition(":")[2]
            pattern = common.resolve(written.removeprefix("-"), service)
            paths = sorted(glob.glob(pattern)) if pattern.startswith("/") else ()
            for path, changed in read_at_start.changed(paths, since).items():
                yield Hit(
                    entry,
                    f"{path} has changed at {_local(changed)}, and the service runs since "
                    f"{_local(since)}",
                    restart(service.name, safe=False),
                )


def _local(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def denied(case: Case) -> Iterator[Hit]:
    host = case.running
    # journald gets them from the kernel's log, or straight from its auditing.
    lines = host.journal("--since=-1h", "_TRANSPORT=kernel", "_TRANSPORT=audit")
    for unit, path in host.paths():
        if found := denials(lines, path):
            yield Hit(
                path,
                f"denied {len(found)} times in the last hour. The last: {found[-1]}",
                Advice(
                    "AppArmor: aa-logprof; SELinux: ausearch -m avc | audit2allow, or a label of "
                    "httpd_var_run_t for the socket"
                ),
                unit,
            )


def denials(lines: list[str], path: str) -> list[str]:
    """Return the lines in which AppArmor or SELinux denies `path`.

    AppArmor has it as name; SELinux has a file's last component as name (write), and a socket's
    address as path (connectto). What holds a space or a quote is in hexadecimal digits.
    """
    last = path.rpartition("/")[2]
    known = (("name", path), ("path", path), ("name", last))
    names = [f'{key}="{value}"' for key, value in known]
    names += [f"{key}={os.fsencode(value).hex().upper()}" for key, value in known]
    return [
        line
        for line in lines
        if any(mark in line for mark in _DENIED) and any(name in line for name in names)
    ]
