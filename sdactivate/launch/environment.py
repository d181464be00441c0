"""The environment of the launched command: which of the launcher's variables stay.

A launcher that runs as root passes on only the variables in `KEPT`. Root's environment may have
secrets: keys of agents, deployment tokens, database passwords. Without root, the environment is the
user's own and is kept, as the variables of a container image are.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

from sdactivate.errors import UsageError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

KEPT = {
    "PATH": "the search path of commands",
    "LANG": "language and encoding, locale(7)",
    "LANGUAGE": "language and encoding, locale(7)",
    "LC_*": "language and encoding, locale(7)",
    "TZ": "the time zone, tzset(3)",
    "TERM": "the terminal type, for colours in messages",
    "NOTIFY_SOCKET": "readiness, sd_notify(3)",
    "WATCHDOG_*": "the watchdog, sd_watchdog_enabled(3)",
    "RUNTIME_DIRECTORY": "the site's directories, systemd.exec(5)",
    "STATE_DIRECTORY": "the site's directories, systemd.exec(5)",
    "CACHE_DIRECTORY": "the site's directories, systemd.exec(5)",
    "LOGS_DIRECTORY": "the site's directories, systemd.exec(5)",
    "CONFIGURATION_DIRECTORY": "the site's directories, systemd.exec(5)",
    "CREDENTIALS_DIRECTORY": "the site's directories, systemd.exec(5)",
    "DJANGO_SETTINGS_MODULE": "Django's settings module",
    "PYTHONPATH": "additional directories of the site's Python modules",
    "SDACTIVATE_*": "settings of `sdactivate serve`",
}
"""The variables that root passes on, with their purpose; a `*` at the end matches any ending."""


class Keep(Enum):
    """How much of the launcher's own environment the command gets."""

    ALL = ("*",)
    KNOWN = tuple(KEPT)
    LEAST = ("PATH", "LANG")


class Environment(NamedTuple):
    """The command's variables, and the names of those that are not passed on."""

    variables: dict[str, str]
    left_out: list[str]


# Variables that a shell, a login or sudo(8) sets in every session; no site needs them.
_OF_A_SESSION = (
    *("_", "PWD", "OLDPWD", "SHLVL", "MAIL", "HOSTNAME", "COLORTERM", "DISPLAY", "LS_COLORS"),
    *("HIST*", "LESS*", "SUDO_*", "SSH_*", "XDG_*", "DBUS_SESSION_BUS_ADDRESS"),
    *("INVOCATION_ID", "JOURNAL_STREAM", "MANAGERPID", "SYSTEMD_EXEC_PID"),
)


def environment(
    base: Mapping[str, str], identity: Mapping[str, str], assignments: Sequence[str], keep: Keep
) -> Environment:
    """Return the command's environment, without the variables that announce sockets.

    base: the launcher's own environment; `keep` says how much of it to keep. identity: the
    variables that describe the command's user. assignments: NAME=VALUE, or NAME for a variable of
    `base`.

    LISTEN_* of an earlier activation are removed. Raises UsageError for an assignment without a
    name, for a NAME that `base` does not have, and for LISTEN_*.
    """
    env = {
        name: value
        for name, value in base.items()
        if not name.startswith("LISTEN_") and _any(name, keep.value)
    }
    env.setdefault("PATH", PATH)
    env.update(identity)
    for text in assignments:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(
                f"--env {text}: write NAME=VALUE, or NAME to pass on the launcher's own"
            )
        if name.startswith("LISTEN_"):
            raise UsageError(
                f"--env {text}: the launcher sets the LISTEN_ variables itself; leave it out"
            )
        if not equals and name not in base:
            raise UsageError(
                f"--env {text}: the launcher has no variable {name}; export it or write NAME=VALUE"
            )
        env[name] = value if equals else base[name]
    known = ("LISTEN_*", *_OF_A_SESSION)
    return Environment(env, sorted(n for n in base if n not in env and not _any(n, known)))


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
