"""Checks on the running system: what the service can read, and what it was refused."""

import errno
import glob
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from sdactivate import app_name
from sdactivate.access import words
from sdactivate.access.permissions import READ, SEARCH, Verdict
from sdactivate.doctor import variables
from sdactivate.doctor.checks import common, reach
from sdactivate.doctor.checks.bytecode import is_compiled
from sdactivate.doctor.doors import texts
from sdactivate.doctor.finding import Advice, Case, Fix, Hit, restart
from sdactivate.doctor.host_state import HostState
from sdactivate.doctor.private import grant
from sdactivate.errors import UsageError
from sdactivate.systemd import read_at_start
from sdactivate.systemd.unitfile import Entry, Unit

_DENIED = ('apparmor="DENIED"', "avc:  denied")


def program_unreadable(case: Case) -> Iterator[Hit]:
    host = case.running
    for service in common.services(case.service):
        told: set[str] = set()
        for wanted in (*_wanted(service), *_imported_from(host, service)):
            verdict = reach.refusal(host, service, wanted.path, wanted.need)
            if verdict is None:
                continue
            node = verdict.node
            place = wanted.path if node is None or verdict.error else node.path
            if place in told:
                continue
            told.add(place)
            yield Hit(
                wanted.entry,
                f"{common.user(service)} can't {wanted.what.format(wanted.path)}: "
                f"{words.because(verdict)}",
                _reach(verdict, wanted.path, partial(_also_named, case, service, wanted.entry)),
                path=place,
            )


class _Wanted(NamedTuple):
    """What a service needs to start: the line, the path, the permission, and what it is for."""

    entry: Entry
    path: str
    need: int
    what: str


def _wanted(service: Unit) -> Iterator[_Wanted]:
    # Python lists the directories that it imports from: they need r as well as x.
    listed = READ | SEARCH
    directory = ""
    for entry in service.entries_of("WorkingDirectory")[-1:]:
        directory = common.resolve(entry.value.lstrip("-"), service)
    for line in service.entries_of("ExecStart"):
        program, *arguments = [*common.command(line, service), ""]
        named = [it for word in arguments if (it := _application(directory, word))]
        modules = [it.path for it in named if it.is_module]
        if directory.startswith("/"):
            enter = "enter {} (status=200/CHDIR)"
            both = "import from {}, or can't even enter it (status=200/CHDIR)"
            yield _Wanted(entry, directory, *((listed, both) if modules else (SEARCH, enter)))
        if program.startswith("/"):
            yield _Wanted(line, program, SEARCH, "execute {} (status=203/EXEC)")
        for file in modules:
            for package in list(Path(file).parents)[::-1]:
                if common.under(str(package), directory) and str(package) != directory:
                    yield _Wanted(line, str(package), listed, "import from {}")
            if not is_compiled(Path(file)):  # else Python reads only the .pyc file
                yield _Wanted(line, file, READ, "import {}")
        for file in [it.path for it in named if not it.is_module]:
            yield _Wanted(line, file, READ, "read {}")


_ROOTS = ("--pythonpath", "--chdir", "--app-dir", "--python-path")


def _imported_from(host: HostState, service: Unit) -> Iterator[_Wanted]:
    """Yield the directories that Python is told to import from, of a service that does not run."""
    state = host.property(service.name, "ActiveState")
    if state == "active" and not host.keeps_failing(service.name):
        return
    named: list[tuple[Entry, str]] = []
    if held := variables.of(service).get("PYTHONPATH"):
        named += [(held.entry, it) for it in held.value.split(":")]
    for line in service.entries_of("ExecStart"):
        words = common.command(line, service)
        for word, after in pairwise([*words, ""]):
            option, equals, value = word.partition("=")
            if option in _ROOTS:
                named += [(line, it) for it in (value if equals else after).split(",")]
    for entry, path in named:
        path = common.resolve(path, service)
        if path.startswith("/") and os.path.isdir(path):
            yield _Wanted(entry, path, READ | SEARCH, "import from {}")


class _Application(NamedTuple):
    """A file that a command line names, by its path or as a module."""

    path: str
    is_module: bool


def _application(directory: str, word: str) -> _Application | None:
    """Return the file of the application that a word names (`app_name`); None if it names none."""
    try:
        named = app_name.parse(word)
    except UsageError:
        return None
    if not directory.startswith("/") and not named.file.startswith("/"):
        return None
    if named.file:
        paths = [os.path.join(directory, named.file)]
    else:
        path = f"{directory}/{named.module.replace('.', '/')}"
        paths = [f"{path}.py", f"{path}/__init__.py"]
    found = next((it for it in paths if os.path.isfile(it)), None)
    return _Application(found, not named.file) if found else None


def _near(path: str) -> str:
    """Return an existing path that is spelt much like a missing one; "" if there is none."""
    from difflib import get_close_matches

    above, name = os.path.split(_missing_part(path))
    try:
        found = get_close_matches(name, os.listdir(above), 1, 0.8)
    except OSError:
        return ""
    if not found:
        return ""
    near = os.path.join(above, found[0]) + path.rstrip("/").removeprefix(_missing_part(path))
    return near if os.path.exists(near) else ""


def _missing_part(path: str) -> str:
    """Return a missing path up to its first component that is missing."""
    path = path.rstrip("/")
    while (above := os.path.dirname(path)) != path and not os.path.isdir(above):
        path = above
    return path


def _also_named(case: Case, service: Unit, entry: Entry, path: str) -> str:
    """Return where else a missing path is named: in the unit, and in the fronts' configuration."""
    wrong = re.compile(rf"{re.escape(_missing_part(path))}(?![\w.-])")
    places = [
        f"{it.file}, line {it.line}" for it in service.entries if it != entry and
        wrong.search(it.value)
    ]  # fmt: skip
    for installed in case.running.fronts:
        for file, text in texts(case.running, installed).items():
            if found := wrong.search(text):
                places.append(f"{file}, line {text.count(chr(10), 0, found.start()) + 1}")
    return f" It is also in {' and '.join(places)}" if places else ""


def _reach(verdict: Verdict, path: str, also: Callable[[str], str]) -> Fix:
    if verdict.node is None or verdict.error in (errno.ENOENT, errno.ENOTDIR):
        near = _near(path)
        if not near:
            return Advice("correct the path, or install the program there")
        return Advice(
            f"correct the path, or install the program there: did you mean {near}?{also(path)}"
        )
    letters = words.bits(verdict.need).replace("-", "")
    return grant(
        ("chmod", f"o+{letters}"),
        verdict.node.path,
        f"{verdict.node.path} is private: move the program to another place, such as /srv or "
        "/opt. Also move an interpreter that pyenv or uv installed there",
    )


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
                    f"{path} was changed at {_local(changed)}, but the service has been running "
                    f"since {_local(since)}",
                    restart(service.name, safe=False),
                )


def _local(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def denied(case: Case) -> Iterator[Hit]:
    host = case.running
    lines = host.machine.once("denials", lambda: _denials(host))
    for unit, path in host.paths():
        if found := denials(lines, path):
            yield Hit(
                path,
                f"access was denied {len(found)} times in the last hour. The last: {found[-1]}",
                Advice(
                    "AppArmor: run aa-logprof; SELinux: run ausearch -m avc | audit2allow, or "
                    "label the socket httpd_var_run_t"
                ),
                unit,
            )


def _denials(host: HostState) -> list[str]:
    # journald gets them from the kernel's log or from its audit subsystem.
    lines = host.journal("--since=-1h", "_TRANSPORT=kernel", "_TRANSPORT=audit")
    return [line for line in lines if any(mark in line for mark in _DENIED)]


def denials(lines: list[str], path: str) -> list[str]:
    """Return the lines in which AppArmor or SELinux denies `path`.

    AppArmor logs it as name. SELinux logs a file's last component as name (write), and a socket's
    address as path (connectto). A value with a space or a quote is in hexadecimal digits.
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
