"""The settings that systemd knows in each section of a unit, and the values that it accepts.

They come from the tables of `explain`, which have every directive with its manual page. Added here
are names that systemd still reads but no longer documents.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

from sdactivate import sandbox
from sdactivate.doctor import directives, rarer_directives
from sdactivate.doctor.directives import EXEC, KILL, RESOURCES, SERVICE, SOCKET, UNIT
from sdactivate.systemd.unitfile import READABLE

_INSTALL = frozenset(
    {"Alias", "Also", "DefaultInstance", "RequiredBy", "UpheldBy", "WantedBy"}
)  # fmt: skip
_RUNS = ("Socket", "Service")
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    UNIT: ("Unit",), SOCKET: ("Socket",), SERVICE: ("Service",),
    EXEC: _RUNS, KILL: _RUNS, RESOURCES: _RUNS,
}  # fmt: skip
# Read, and no longer documented: systemd 252's --dump-configuration-items
_STILL: Mapping[str, str] = {
    "Unit": "BindTo OnFailureIsolate PropagateReloadFrom PropagateReloadTo RequiresOverridable "
    "RequisiteOverridable StartLimitInterval",
    "Service": "BusPolicy FailureAction PermissionsStartOnly RebootArgument StartLimitAction "
    "StartLimitBurst StartLimitInterval SuccessAction",
    "Socket": "ExecStartPost ExecStartPre ExecStopPost ExecStopPre TimeoutSec",
    "both": "BlockIOAccounting BlockIODeviceWeight BlockIOReadBandwidth BlockIOWeight "
    "BlockIOWriteBandwidth CPUShares DefaultMemoryLow DefaultMemoryMin InaccessibleDirectories "
    "MemoryLimit NetClass ReadOnlyDirectories ReadWriteDirectories StartupBlockIOWeight "
    "StartupCPUShares",
}


@cache
def sections() -> Mapping[str, frozenset[str]]:
    """Return, for each setting, the sections of a service or socket unit that systemd reads it in.

    Settings of other kinds of units have none.
    """
    found: dict[str, set[str]] = {name: {"Install"} for name in _INSTALL}
    sources = {
        **{name: page for name, (_, page) in rarer_directives.TABLE.items()},
        **{name: word.source for name, word in directives.TABLE.items()},
        **{row.name: row.source for row in sandbox.TABLE},
    }
    for name, page in sources.items():
        if name not in _INSTALL:
            found.setdefault(name, set()).update(_SECTIONS.get(page, ()))
    for section, names in _STILL.items():
        for name in names.split():
            found.setdefault(name, set()).update(_RUNS if section == "both" else (section,))
    return {name: frozenset(held) for name, held in found.items()}


class Values(NamedTuple):
    """The values that systemd accepts for a setting, as a test and in words."""

    reads: Callable[[str], object]
    allowed: str


def _one_of(*words: str) -> Values:
    return Values(frozenset(words).__contains__, ", ".join(words))


_TRUE, _FALSE = ("1", "yes", "true", "on", "y", "t"), ("0", "no", "false", "off", "n", "f")


def _boolean(*more: str) -> Values:
    words = frozenset((*_TRUE, *_FALSE, *more))
    return Values(lambda value: value.lower() in words, ", ".join(("yes", "no", *more)))


_SPAN = re.compile(r"\s*infinity\s*|(\s*\d+(\.\d+)?\s*([a-zA-Zµμ]+)?)+\s*")
_SOCKET = re.compile(
    r"[/@%].*|\d{1,5}|\[[0-9a-fA-F:.%\w]+\]:\d{1,5}(%\w+)?|\d+\.\d+\.\d+\.\d+:\d{1,5}|"
    r"[0-9a-fA-F:.]+|vsock:.*|\w*\.?\d*"
)


def _span() -> Values:
    return Values(_SPAN.fullmatch, "a time span such as 30, 500ms, 10min, or infinity")


_BOOLEANS = (
    *("Accept", "DefaultDependencies", "DynamicUser", "FlushPending", "FreeBind", "GuessMainPID"),
    *("LockPersonality", "MemoryDenyWriteExecute", "NoDelay", "NoNewPrivileges", "PrivateMounts"),
    *("PrivateNetwork", "ProtectClock", "ProtectKernelLogs", "ProtectKernelModules"),
    *("ProtectKernelTunables", "RefuseManualStart", "RemainAfterExit", "RemoveOnStop"),
    *("RestrictRealtime", "RestrictSUIDSGID", "ReusePort", "SendSIGKILL", "StopWhenUnneeded"),
)
_SPANS = (
    *("RestartSec", "RuntimeMaxSec", "TimeoutSec", "TimeoutStartSec", "TimeoutStopSec"),
    "WatchdogSec",
)

_OF_NUMBERS = {
    **dict.fromkeys(("DirectoryMode", "SocketMode"), "a mode such as 0660"),
    **dict.fromkeys(READABLE.keys() - {*_BOOLEANS, "DirectoryMode", "SocketMode"}, "a number"),
}

VALUES: Mapping[str, Values] = {
    **{name: Values(READABLE[name].fullmatch, said) for name, said in _OF_NUMBERS.items()},
    "Type": _one_of(
        *("simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle")
    ),
    "Restart": _one_of(
        *("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog")
    ),
    "KillMode": _one_of("control-group", "mixed", "process", "none"),
    "NotifyAccess": _one_of("none", "main", "exec", "all"),
    "ProtectSystem": _boolean("full", "strict"),
    "ProtectHome": _boolean("read-only", "tmpfs"),
    "PrivateTmp": _boolean("disconnected"),
    "WorkingDirectory": Values(
        lambda value: value.lstrip("-")[:1] in ("/", "~", "%"), "an absolute path, or ~"
    ),
    "EnvironmentFile": Values(
        lambda value: value.lstrip("-")[:1] in ("/", "%"), "an absolute path, after - or not"
    ),
    "ListenStream": Values(
        _SOCKET.fullmatch, "an absolute path, @NAME, PORT, ADDRESS:PORT or vsock:CID:PORT"
    ),
    **dict.fromkeys(_BOOLEANS, _boolean()),
    **dict.fromkeys(_SPANS, _span()),
}
"""Settings whose values are checked. systemd ignores values that it can't parse."""

_ASSIGNMENT = re.compile(r"-?[A-Za-z_][A-Za-z0-9_]*=", re.DOTALL)


def unread_variables(words: Iterable[str]) -> list[str]:
    """Return the words of Environment= that are not assignments. systemd ignores them."""
    return [word for word in words if "%" not in word.partition("=")[0]
            and not _ASSIGNMENT.match(word)]  # fmt: skip


_ANOTHER = re.compile(r"(?:^|\s)(?P<before>\S+)\s+(?P<name>[A-Z][A-Z0-9_]*)=")


def swallowed_variables(words: Iterable[str]) -> list[tuple[str, str]]:
    """Return the assignments inside the value of another: the inner and the outer variable.

    As in Environment="A=1 B=2", where A is "1 B=2". What follows an option is the option's.
    """
    found = []
    for word in words:
        name, _, value = word.partition("=")
        another = _ANOTHER.search(value)
        if another and not another["before"].startswith("-") and "=" not in another["before"]:
            found.append((another["name"], name))
    return found
