"""A transient unit with the properties of a site's own service: systemd-run(1).

The command gets the site's user, sandbox, environment, credentials and working directory, whether
or not the service runs: the [Service] lines of the unit and its drop-ins, except those about
starting, watching and stopping the service itself.
"""

import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sdactivate import sandbox
from sdactivate.errors import Error, UsageError
from sdactivate.systemd.loaded import is_loaded, read_loaded
from sdactivate.systemd.names import unescape
from sdactivate.systemd.systemctl import load_state, one, show
from sdactivate.systemd.unitfile import Entry, Unit, split

OF_THE_SERVICE = frozenset(
    {
        # How it is started and stopped: systemd.service(5)
        *("Type", "ExitType", "RemainAfterExit", "GuessMainPID", "PIDFile", "BusName"),
        *("ExecStart", "ExecStartPre", "ExecStartPost", "ExecCondition", "ExecReload"),
        *("ExecReloadPost", "ExecStop", "ExecStopPost", "RootDirectoryStartOnly"),
        *("PermissionsStartOnly", "RuntimeMaxSec", "RuntimeRandomizedExtraSec"),
        *("SuccessExitStatus", "ReloadSignal", "RefreshOnReload", "OOMPolicy"),
        *("FailureAction", "SuccessAction", "RebootArgument"),
        # How it ends: systemd.kill(5)
        *("KillMode", "KillSignal", "SendSIGHUP", "SendSIGKILL", "FinalKillSignal"),
        # Its descriptors and where its output goes: a command has its caller's
        *("NonBlocking", "Sockets", "OpenFile", "USBFunctionDescriptors", "USBFunctionStrings"),
        *("StandardInput", "StandardOutput", "StandardError", "StandardInputText"),
        *("StandardInputData", "TTYPath", "TTYReset", "TTYVHangup", "TTYVTDisallocate"),
        *("TTYRows", "TTYColumns"),
    }
)
"""Directives of [Service] about the service itself, not about the environment of its processes."""

OF_THE_SERVICE_TOO = ("Restart", "Timeout", "Watchdog", "Notify", "StartLimit", "FileDescriptorS")
"""Prefixes of more of them. (StartLimit… was once in [Service], and is still read there.)"""

_INTERPRETER = re.compile(r"python[0-9.]*")
_PREFIXES = "@-:+!|"  # of a command line: systemd.service(5)
_SPECIFIER = re.compile(r"%([A-Za-z%])")
_UNKNOWN = re.compile("[aABDMowW]")
UNTIL_TRACED = (
    "/bin/sh",
    "-c",
    't() { while read -r key value; do [ "$key" = TracerPid: ] || continue; [ "$value" != 0 ]; '
    "return; done </proc/$$/status; }; "
    # Without a limit it would wait forever if the tracing process had exited
    'i=0; until t; do i=$((i+1)); [ $i -lt 300 ] || exit 75; sleep 0.1; done; exec "$@"',
    "sh",
)
"""Words in front of a command that make it wait until it is traced (ptrace(2)), for up to 30 s."""

_SHELL = 'trap : INT QUIT TERM HUP; "$@"; exit $?'


def service_of(name: str) -> Unit:
    """Return the service of the site `name` with its drop-ins: mysite, mysite@one.

    Raises UsageError for a template without an instance or another type of unit; Error if
    systemd has no such service, or can't be asked.
    """
    stem, dot, suffix = name.rpartition(".")
    if dot and suffix in ("socket", "timer", "target"):
        raise UsageError(f"NAME {name!r}: name the site, {stem!r}, or its service")
    unit = name if suffix == "service" and dot else f"{name}.service"
    if unit.removesuffix(".service").endswith("@"):
        raise UsageError(f"NAME {name!r} is a template; name one of its instances: {name}INSTANCE")
    if not is_loaded(unit):
        raise Error(
            f"{name}: systemd has no {unit} ({load_state(unit)}); `sdactivate install` creates a "
            "site's units, `systemctl list-units --type=socket` lists the existing sockets"
        )
    return read_loaded(unit)


def interpreter(unit: Unit) -> str:
    """Return the absolute path of the Python that the service `unit` runs with.

    That is the program of its ExecStart=, or, for another server's program in a virtual
    environment, the interpreter beside it. Raises Error if there is none.
    """
    entry = unit.entry("ExecStart")
    words = split(expand(unit, entry)) if entry else []
    program = words[0].lstrip(_PREFIXES) if words else ""
    directory, slash, base = program.rpartition("/")
    if slash and _INTERPRETER.fullmatch(base):
        return program
    for beside in ("python", "python3"):
        if slash and os.path.lexists(f"{directory}/{beside}"):
            return f"{directory}/{beside}"
    raise Error(
        f"{unit.name}: no interpreter beside the program of its ExecStart= ({program or 'none'}); "
        "name one by its path instead of `python`"
    )


def properties(unit: Unit, active: bool) -> list[str]:
    """Return the environment of the service's processes, as NAME=VALUE for systemd-run -p.

    active: whether the service runs.

    They are in the order of the unit's lines: later ones override or extend earlier ones, and an
    empty value empties a list, as in the unit. Specifiers are expanded, since systemd-run(1) takes
    values literally. Raises Error for a specifier that can't be expanded outside the unit.
    """
    kept = [
        f"{entry.key}={expand(unit, entry)}"
        for entry in unit.entries
        if entry.section == "Service"
        and entry.key not in OF_THE_SERVICE
        and not entry.key.startswith((*OF_THE_SERVICE_TOO, "X-"))
    ]
    if active and (entries := unit.entries_of("RuntimeDirectory")):
        # The directory is the running service's, and would be removed when the command ends.
        words = [word for entry in entries for word in split(expand(unit, entry))]
        paths = [f"/run/{word.partition(':')[0]}" for word in words]
        kept += ["RuntimeDirectory=", f"Environment=RUNTIME_DIRECTORY={':'.join(paths)}"]
        kept += [f"ReadWritePaths=-{path}" for path in paths]
    return kept


def with_need(need: str) -> list[str]:
    """Return the properties that relax the sandbox for one `need` of `sandbox.NEEDS`.

    Append them to those of the unit.
    """
    return sandbox.relaxed(need)


def quoted(text: str) -> str:
    """Return `text` as one word of a property that takes a list."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def command_line(
    unit: Unit,
    command: Sequence[str],
    name: str,
    *,
    more: Iterable[str] = (),
    before: Sequence[str] = (),
    terminal: bool = False,
    description: str = "",
) -> list[str]:
    """Return the systemd-run(1) command line that runs `command` with the sandbox of `unit`.

    name: the complete name of the transient unit: mysite-run-1f2e.service. more: properties after
    those of the unit, such as "WorkingDirectory=/srv/mysite/releases/7". before: words in front of
    the command: UNTIL_TRACED. terminal: the command gets a pseudo terminal connected to the
    caller's terminal; otherwise it gets the caller's standard streams.

    Its exit code is the command's, 128 + N if signal N ended it, 127 if there is no such program;
    one from 200 to 245 means that systemd could not start it (systemd.exec(5), Process Exit
    Codes). A first word `python` is the site's interpreter, and a program that is installed
    beside it is found there. Nothing in `command` is expanded. Must be run by root.
    """
    first, *rest = command
    if "/" not in first:
        python = interpreter(unit)
        beside = f"{os.path.dirname(python)}/{first}"
        first = python if first == "python" else beside if os.path.lexists(beside) else first
    active = one(show(unit.name, "ActiveState"), "ActiveState") not in ("inactive", "failed")
    return [
        *("systemd-run", "--quiet", "--collect", "--wait", f"--unit={name}"),
        "--pty" if terminal else "--pipe",
        f"--description={description or f'A command in the surroundings of {unit.name}'}",
        *(f"--property={line}" for line in (*properties(unit, active), *more)),
        "--",
        # systemd treats an end by TERM, INT, HUP or PIPE as success: the shell turns it into 128+N.
        *("/bin/sh", "-c", _SHELL.replace("$", "$$"), "sh"),
        *(word.replace("$", "$$") for word in (*before, first, *rest)),
    ]


def expand(unit: Unit, entry: Entry) -> str:
    """Return the value of a line of `unit` with its specifiers expanded (systemd.unit(5)).

    As in systemd, a % that starts no specifier stays. Raises Error for a specifier whose value
    can't be known outside the unit.
    """

    def meaning(found: re.Match[str]) -> str:
        letter = found[1]
        if letter in _SPECIFIERS:
            return _SPECIFIERS[letter](unit.name)
        if letter in ("y", "Y"):
            return unit.files[0] if letter == "y" else os.path.dirname(unit.files[0])
        if letter == "d" or _UNKNOWN.fullmatch(letter):
            raise Error(
                f"{entry.file}:{entry.line}: {entry}: %{letter} can't be expanded outside the "
                "unit; write the value itself"
            )
        return found[0]

    return _SPECIFIER.sub(meaning, entry.value)


def _stem(unit: str) -> str:
    return unit.rpartition(".")[0]


def _prefix(unit: str) -> str:
    return _stem(unit).partition("@")[0]


def _instance(unit: str) -> str:
    return _stem(unit).partition("@")[2]


def _last(unit: str) -> str:
    return _prefix(unit).rpartition("-")[2]


def _identity(file: str) -> str:
    text = Path(file).read_text()
    return text.strip().replace("-", "")


_SPECIFIERS: Mapping[str, Callable[[str], str]] = {
    "%": lambda unit: "%",
    "n": lambda unit: unit,
    "N": _stem,
    "p": _prefix,
    "P": lambda unit: unescape(_prefix(unit)),
    "i": _instance,
    "I": lambda unit: unescape(_instance(unit)),
    "j": _last,
    "J": lambda unit: unescape(_last(unit)),
    "f": lambda unit: "/" + unescape(_instance(unit) or _prefix(unit)).lstrip("/"),
    "S": lambda unit: "/var/lib",
    "C": lambda unit: "/var/cache",
    "L": lambda unit: "/var/log",
    "E": lambda unit: "/etc",
    "t": lambda unit: "/run",
    "T": lambda unit: "/tmp",  # noqa: S108 - the unit's word for it
    "V": lambda unit: "/var/tmp",  # noqa: S108
    "h": lambda unit: "/root",
    "s": lambda unit: "/bin/sh",
    "u": lambda unit: "root",
    "U": lambda unit: "0",
    "g": lambda unit: "root",
    "G": lambda unit: "0",
    "H": lambda unit: platform.node(),
    "l": lambda unit: platform.node().partition(".")[0],
    "q": lambda unit: platform.node(),
    "v": lambda unit: platform.release(),
    "m": lambda unit: _identity("/etc/machine-id"),
    "b": lambda unit: _identity("/proc/sys/kernel/random/boot_id"),
}
"""The values of specifiers in the system manager, by letter: functions of a unit's full name."""
