"""Find the fix for an error message: for what the application needs and the deployment lacks.

A row of `TABLE` has the text of an exception or of a server's message, and the fix. Errors caused
by the unit's own lines are in `refusals`, which is asked first.

The functions depend only on the text and the unit, except that they look for programs.
"""

import glob
import os
import pwd
import re
import shutil
from collections.abc import Callable
from typing import NamedTuple

from sdactivate.doctor import django_settings, uwsgi_options, variables
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.bytecode import of_script
from sdactivate.doctor.environments import environments
from sdactivate.doctor.finding import Advice, Command, Fix, Lines
from sdactivate.doctor.never_given import is_the_system
from sdactivate.doctor.private import grant, is_private
from sdactivate.systemd.unitfile import Unit
from sdactivate.virtual_environment import interpreter_in

_USUAL = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_Make = Callable[[Unit | None, re.Match[str]], Fix | None]


class Row(NamedTuple):
    """A message, and what makes the fix from it; None if it is about something else."""

    pattern: re.Pattern[str]
    make: _Make


def _say(text: str) -> _Make:
    return lambda unit, found: Advice(
        text.format(unit=unit.name if unit else "the service", **found.groupdict())
    )


def _program(unit: Unit | None, found: re.Match[str]) -> Fix | None:
    """Return the fix for a program that exists, but is not on the unit's PATH."""
    held = variables.of(unit).get("PATH") if unit else None
    if unit is None or held is None or not shutil.which(found["name"], path=_USUAL):
        return None
    if shutil.which(found["name"], path=held.value):
        return None
    if held.file:  # it outranks Environment=
        return Advice(f"in {held.file}, write PATH={held.value}:{_USUAL}")
    return Lines(unit.name, "Service", (f"Environment=PATH={held.value}:{_USUAL}",))


def _module(unit: Unit | None, found: re.Match[str]) -> Fix:
    """Return the fix for a missing module. With a new Python all are missing."""
    for entry in unit.entries_of("ExecStart") if unit else ():
        program = (common.command(entry, unit) or [""])[0] if unit else ""
        top = os.path.dirname(os.path.dirname(program))
        made = sorted(os.path.basename(it) for it in glob.glob(f"{glob.escape(top)}/lib/python3*"))
        python = os.path.basename(os.path.realpath(f"{top}/bin/python3"))
        if os.path.exists(f"{top}/pyvenv.cfg") and made and python not in made:
            return Advice(
                f"{top} was created with {', '.join(made)}, but its Python is {python} now: as its "
                f"owner, run {python} -m venv --clear {top}, and install the site's packages again"
            )
        if unit and common.server(unit) == "uwsgi" and (fix := _home(unit, found.string)):
            return fix
        own = interpreter_in(unit.value("WorkingDirectory"), program) if unit else ""
        if own and program.startswith("/"):
            return Advice(
                f"the service runs {program}, and there is a virtual environment in "
                f"WorkingDirectory=: {_of_environment(unit, program, own)}"
            )
    if unit and (made_for := _of_person(unit, found.string)):
        return made_for
    return Advice(
        "install the package that has the module, for the service's Python and as the owner of "
        "that environment; if the module is the site's own, correct its name or WorkingDirectory="
    )


def _of_environment(unit: Unit | None, program: str, python: str) -> str:
    """Return how a service runs with the environment of `python` instead of its own program."""
    server = common.server(unit) if unit else ""
    top, name = os.path.dirname(os.path.dirname(python)), os.path.basename(program)
    if server == "uwsgi":
        return f"install the package that has the module in it, and set virtualenv = {top}"
    if server == "native" or name.startswith("python"):
        return f"run {python} instead (with gen or install: --python {python})"
    if os.path.exists(f"{top}/bin/{name}"):
        return f"run {top}/bin/{name} instead"
    return f"run {python} -m pip install {server or name} as its owner, then {top}/bin/{name}"


def _home(unit: Unit, reason: str) -> Fix | None:
    """Return the fix for uWSGI that is not told of the environment with a missing module."""
    named = ("home", "virtualenv", "venv", "pyhome")
    if uwsgi_options.values(unit, *named) or variables.value(unit, "PYTHONHOME"):
        return None
    roots = [unit.value("WorkingDirectory"), *uwsgi_options.values(unit, "chdir", "pythonpath")]
    tops = environments(roots, _missing_package(reason))
    if not tops:
        return None
    return Advice(
        f"uWSGI is not told of the virtual environment {tops[0]}: set virtualenv = {tops[0]} in "
        f"uWSGI's configuration, or --virtualenv {tops[0]} in ExecStart= of {unit.name}; then "
        f"systemctl restart {unit.name}"
    )


def _of_person(unit: Unit, reason: str) -> Fix | None:
    """Return the fix for a module that pip has installed for one person only (pip --user)."""
    name = _missing_package(reason)
    for account in pwd.getpwall() if name else ():
        held = f"{glob.escape(account.pw_dir)}/.local/lib/python3*/site-packages/{name}"
        if account.pw_name != common.user(unit) and (glob.glob(held) or glob.glob(f"{held}.py")):
            return Advice(
                f"the module is installed for {account.pw_name} only (pip install --user): set "
                f"User={account.pw_name} in [Service] of {unit.name}, or install it for the "
                f"service's Python; then systemctl daemon-reload && systemctl restart {unit.name}"
            )
    return None


_MISSING = re.compile(r"[Nn]o module (?:named )?'?(?P<name>[\w.]+)")


def _missing_package(reason: str) -> str:
    """Return the top-level package of the module that a message says is missing; "" for none."""
    found = _MISSING.search(reason)
    return found["name"].partition(".")[0] if found else ""


def _pidfile(unit: Unit | None, found: re.Match[str]) -> Fix:
    # RuntimeDirectory= takes a name without a slash: systemd creates it at each start
    name = found["path"].removeprefix("/run/").removeprefix("/var/run/")
    if unit and name != found["path"] and re.fullmatch(r"[\w.-]+", name):
        return Lines(unit.name, "Service", (f"RuntimeDirectory={name}",))
    return Advice(f"create {found['path']} for the service's user, or remove --pid")


def _denied(unit: Unit | None, found: re.Match[str]) -> Fix:
    if unit and common.is_dynamic(unit):  # a dynamic user owns nothing after the service stops
        return Advice(
            f"configure the application to write to the state directory of {unit.name} "
            f"(StateDirectory={unit.prefix} is /var/lib/{unit.prefix}), or give the service a "
            f"fixed user (User=, DynamicUser=no) that may write to {found['path']}"
        )
    user = common.user(unit) if unit else "the service's user"
    path = os.path.normpath(found["path"])
    elsewhere = "StateDirectory=, LogsDirectory=, or standard error for a log"
    if os.path.lexists(path):
        return Advice(
            f"run chown {user} {path}, or configure the application to write elsewhere: {elsewhere}"
        )
    # The file is yet to be created, which takes write permission on its directory
    if unit and (made := _made_by_systemd(unit, path)):
        return made
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        path, parent = parent, os.path.dirname(parent)
    key = _DIRECTORIES.get(parent)
    if key and unit:
        return Advice(
            f"{user} may not create files in {parent}: set {key}={unit.prefix} in [Service] of "
            f"{unit.name}, and configure the application to write to {parent}/{unit.prefix}"
        )
    is_shared = is_the_system(parent) and not common.under(os.path.dirname(parent), "/opt")
    if is_shared or is_private(parent):
        return Advice(
            f"{user} may not create {path}: configure the application to write elsewhere: "
            f"{elsewhere}"
        )
    return Advice(
        f"{path} does not exist, and {user} may not create it: run chown {user} {parent}, or "
        f"configure the application to write elsewhere: {elsewhere}"
    )


_DIRECTORIES = {
    "/var/lib": "StateDirectory", "/var/cache": "CacheDirectory", "/var/log": "LogsDirectory",
    "/run": "RuntimeDirectory", "/var/run": "RuntimeDirectory",
}  # fmt: skip


def _made_by_systemd(unit: Unit, path: str) -> Fix | None:
    """Return the line that creates the directory of `path` for the service; None if none does."""
    for place, key in _DIRECTORIES.items():
        name = path.removeprefix(f"{place}/").partition("/")[0]
        made = f"{place}/{name}"
        # The application creates a directory, or a file in one. It is not known which if it has
        # neither a suffix nor a directory that is missing
        if not common.under(path, place) or os.path.lexists(made):
            continue
        if (path != made or "." not in name) and re.fullmatch(r"[\w.-]+", name):
            return Lines(unit.name, "Service", (f"{key}={name}",))
    return None


def _no_directory(unit: Unit | None, found: re.Match[str]) -> Fix | None:
    """Return the fix for a file whose directory does not exist."""
    path = os.path.normpath(next(it for it in found.groups() if it))
    parent = os.path.dirname(path)
    if os.path.lexists(parent) or unit is None:
        return None
    return _made_by_systemd(unit, path) or Advice(
        f"{parent} does not exist: correct the path, or run install -d -o {common.user(unit)} "
        f"{parent}"
    )


def _database(unit: Unit | None, found: re.Match[str]) -> Fix:
    user = common.user(unit) if unit else "the service's user"
    if unit and common.is_dynamic(unit):
        return Advice(
            f"move the database to the state directory of {unit.name} "
            f"(StateDirectory={unit.prefix} is /var/lib/{unit.prefix})"
        )
    return Advice(
        f"give {user} write permission on the database's file and on its directory, where SQLite "
        f"creates further files: chown {user} DIRECTORY DIRECTORY/FILE"
    )


_ENOUGH_FILES = 65536


def _open_files(unit: Unit | None, found: re.Match[str]) -> Fix | None:
    if unit is None:
        return None
    soft = unit.value("LimitNOFILE").partition(":")[0]
    if soft == "infinity" or (soft.isdecimal() and int(soft) >= _ENOUGH_FILES):
        return Advice(
            "find out which files or connections the application leaves open (ls -l "
            f"/proc/$(systemctl show -P MainPID {unit.name})/fd)"
        )
    return Lines(unit.name, "Service", (f"LimitNOFILE={_ENOUGH_FILES}",))


def _by_env(unit: Unit | None, found: re.Match[str]) -> Fix:
    name = found["name"]
    for entry in unit.entries_of("ExecStart") if unit else ():
        words = common.command(entry, unit) if unit else []
        if not unit or not words or of_script(words[0]) not in ("/usr/bin/env", "/bin/env"):
            continue
        says = f"the first line of {words[0]} (#!/usr/bin/env {name}) searches the service's PATH"
        roots = [os.path.dirname(words[0]), unit.value("WorkingDirectory")]
        tops = environments(roots, "") if name.startswith("python") else []
        held = [f"{top}/bin/{name}" for top in tops if os.path.exists(f"{top}/bin/{name}")]
        program = held[0] if held else shutil.which(f"{name}3" if name == "python" else name)
        wanted = program or f"THE PATH OF {name}"
        return Advice(f"{says}: write ExecStart={wanted} {' '.join(words)} in {unit.name}")
    return Advice(
        "/usr/bin/env searches the service's PATH, which differs from your shell's: write the "
        f"absolute path of {name} in ExecStart= instead of /usr/bin/env {name} (command -v {name} "
        "shows it, in a shell where it works)"
    )


def _plugin(unit: Unit | None, found: re.Match[str]) -> Fix:
    name = found["name"]
    programs = [common.command(it, unit)[:1] for it in unit.entries_of("ExecStart")] if unit else []
    packaged = any(it and it[0].startswith(("/usr/bin/", "/usr/sbin/")) for it in programs)
    if packaged:
        return Advice(
            f"install the plugin's package (Debian: uwsgi-plugin-{name}), or remove plugin = {name}"
        )
    return Advice(
        f"remove plugin (plugins, need-plugin) = {name} from uWSGI's configuration: uWSGI from "
        "PyPI has its usual plugins, Python among them, built in"
    )


def _without_python(unit: Unit | None, found: re.Match[str]) -> Fix:
    return Advice(
        f"uWSGI knows --{found['option']} only with its Python plugin: install it (Debian: "
        "uwsgi-plugin-python3) and set plugin = python3 before that option"
    )


_APPLICATION = re.compile(
    r"^(?:async def |def )?(?P<name>app|application|(?:wsgi|asgi)(?:_app)?)[ \t]*(?:=(?!=)|\()",
    re.MULTILINE,
)


def _callable(unit: Unit | None, found: re.Match[str]) -> Fix | None:
    """Return the fix for a server that looks for a name which the module does not have."""
    module = django_settings.application(unit) if unit else None
    named = _APPLICATION.search(module[1]) if module else None
    if unit is None or module is None or named is None:
        return None
    name, restarts = named["name"], f"then systemctl restart {unit.name}"
    if common.server(unit) == "uwsgi":
        asked = uwsgi_options.values(unit, "module", "wsgi", "callable")
        if asked and asked[-1].rpartition(":")[2] == name:
            return None
        return Advice(
            f"set callable = {name} in uWSGI's configuration: {module[0]} has no application of "
            f"another name; {restarts}"
        )
    return Advice(
        f"write MODULE:{name} in ExecStart= of {unit.name}: {module[0]} has no application of "
        f"another name; then systemctl daemon-reload && systemctl restart {unit.name}"
    )


def _hidden(unit: Unit | None, found: re.Match[str]) -> Fix | None:
    """Return the fix for a file of the site's that hides a package of the same name."""
    roots = (
        [unit.value("WorkingDirectory"), *variables.value(unit, "PYTHONPATH").split(":")]
        if unit
        else []
    )
    for root in filter(None, roots):
        path = os.path.join(root, f"{found['name']}.py")
        if os.path.exists(path):
            return Advice(
                f"rename {path}, which hides the package {found['name']}: Python looks there first"
            )
    return None


def _not_executable(unit: Unit | None, found: re.Match[str]) -> Fix | None:
    """Return the fix for a program on the PATH that only others may execute."""
    path = shutil.which(found["name"], path=_USUAL)
    instead = f"{path} is private: install a copy for the service's user"
    return grant(("chmod", "a+rx"), path, instead) if path else None


def _settings_module(unit: Unit | None, found: re.Match[str]) -> Fix | None:
    """Return the fix for Django's settings that are read before the module of settings is named."""
    module = django_settings.application(unit) if unit else None
    named = django_settings.NAMES_IT.search(module[1]) if module else None
    if unit is None or named is None:
        return Advice("set DJANGO_SETTINGS_MODULE with Environment= in the service")
    return Lines(unit.name, "Service", (f"Environment=DJANGO_SETTINGS_MODULE={named[1]}",))


def _row(pattern: str, make: _Make) -> Row:
    return Row(re.compile(pattern), make)


TABLE: tuple[Row, ...] = (
    _row(
        r"No module named '(?P<name>[^']*/[^']*)'",
        _say("write the application as MODULE:NAME, relative to WorkingDirectory=, instead of a "
             "path: app:application, not {name}"),
    ),
    _row(r"No module named '[^']+'; '(?P<name>[^']+)' is not a package", _hidden),
    _row(r"env: \W(?P<name>[\w.+-]+)\W: Permission denied", _not_executable),
    _row(r"[Nn]o module (?:named )?|Could not import module|module not found", _module),
    _row(r"Failed to find attribute|not found in module|callable not found", _callable),
    _row(
        r"has no attribute|Failed to find attribute|application not found",
        _say("correct the application's name in ExecStart= (MODULE:NAME)"),
    ),
    _row(
        r"^UnicodeDecodeError: 'ascii' codec",
        lambda unit, found: (
            Lines(unit.name, "Service", ("Environment=PYTHONUTF8=1",)) if unit else None
        ),
    ),
    _row(r"settings are not configured\. You must either define", _settings_module),
    _row(
        r"error: unrecognized arguments: ",
        _say("the application reads the server's command line when it is imported (argparse): put "
             'that under if __name__ == "__main__":'),
    ),
    _row(
        r"^KeyError: '[A-Z][A-Z0-9_]+'.*environ",
        _say("set the variable with Environment= or EnvironmentFile= in the service"),
    ),
    _row(
        # pwd, libpq, getpass
        r"uid not found|user with ID \d+ does not exist|No username set",
        _say("run apt-get install libnss-systemd, without which a dynamic user has no name; or "
             "set User= to an account of its own (SDA129)"),
    ),
    _row(
        r"Listen queue size is greater than the system max net\.core\.somaxconn \((?P<most>\d+)\)",
        _say("set listen = {most} or less in uWSGI's configuration, or --listen in ExecStart= of "
             "{unit}; or set a larger net.core.somaxconn (sysctl.d(5))"),
    ),
    _row(
        r"Already running on PID \d+ \(or pid file '(?P<path>/[^']+)' is stale\)",
        lambda unit, found: Command(("rm", found["path"])),
    ),
    _row(
        # Twisted's lock beside a unix socket (daphne). It has only a PID, which can be reused
        r"Couldn't listen on any:b?'(?P<path>/[^']+)': Cannot acquire lock",
        lambda unit, found: Command(("rm", f"{found['path']}.lock")),
    ),
    _row(r"(?P<path>/\S+) doesn't exist\. Can't create pidfile", _pidfile),
    _row(
        r"\[Errno 98\] Address already in use.*\((?P<file>/[^,]+), line (?P<line>\d+): ",
        _say("the application starts its own server when it is imported: in {file}, line {line}, "
             'put that under if __name__ == "__main__":'),
    ),
    _row(
        r"\[Errno 2\] No such file or directory: '(?P<name>[\w.+-]+)'",
        _program,
    ),
    _row(
        # gunicorn's socket; uWSGI's logto; gunicorn's logs
        r"connection to (?P<path>/\S+) failed: \[Errno 2\]"
        r"|open\(\"(?P<log>/[^\"]+)\"\): No such file or directory"
        r"|'(?P<its>/[^']+)' isn't writable \[FileNotFoundError"
        r"|\[Errno 2\] No such file or directory: '(?P<file>/[^']+)'",
        _no_directory,
    ),
    _row(r"connection to (?P<path>/\S+) failed: \[Errno 13\]", _denied),
    _row(r"open\(\"(?P<path>/[^\"]+)\"\): Permission denied", _denied),
    _row(r"'(?P<path>/[^']+)' isn't writable \[PermissionError", _denied),
    _row(r"\[Errno 24\]|Too many open files", _open_files),
    _row(r"PermissionError: \[Errno 13\] Permission denied: '(?P<path>/[^']+)'", _denied),
    _row(
        r"OperationalError: (attempt to write a readonly database|unable to open database file)",
        _database,
    ),
    _row(
        r"\[Errno 99\] Cannot assign requested address",
        _say("no interface of this host has that address now: bind 127.0.0.1 for a front on this "
             "host, or 0.0.0.0; if the address comes later (DHCP), set "
             "After=network-online.target and Wants=network-online.target in [Unit] of {unit}"),
    ),
    _row(r'unable to load plugin "(?P<name>[\w.-]+)"', _plugin),
    _row(
        r"uwsgi: unrecognized option '--(?P<option>wsgi-file|module|wsgi|home|virtualenv|venv|"
        r"pythonpath|callable)'",
        _without_python,
    ),
    _row(r"^(?:/usr)?/bin/env: \W?(?P<name>[\w.+-]+)\W?: No such file or directory", _by_env),
)  # fmt: skip
"""The first row that matches and makes a fix is used."""


def fix(reason: str, unit: Unit | None = None) -> Fix | None:
    """Return the fix for the error message `reason`, None if the message is not known.

    unit: the service that failed.
    """
    for row in TABLE:
        if (found := row.pattern.search(reason)) and (made := row.make(unit, found)):
            return made
    return None
