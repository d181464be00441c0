"""The environment of the launched command: which of the launcher's variables stay.

A launcher that is root passes on only what `KEPT` lists. Root's environment is root's: it holds
keys of agents, tokens of a deployment, passwords of databases. Without root the environment is the
user's own and stays, as the variables of a container image do.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from fnmatch import fnmatchcase
from typing import NamedTuple

from sdactivate.errors import UsageError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

KEPT = {
    "PATH": "where commands are looked for",
    "LANG": "language and encoding, locale(7)",
    "LANGUAGE": "language and encoding, locale(7)",
    "LC_*": "language and encoding, locale(7)",
    "TZ": "the time zone, tzset(3)",
    "TERM": "how messages are coloured",
    "NOTIFY_SOCKET": "readiness, sd_notify(3)",
    "WATCHDOG_*": "the watchdog, sd_watchdog_enabled(3)",
    "RUNTIME_DIRECTORY": "the site's directories, systemd.exec(5)",
    "STATE_DIRECTORY": "the site's directories, systemd.exec(5)",
    "CACHE_DIRECTORY": "the site's directories, systemd.exec(5)",
    "LOGS_DIRECTORY": "the site's directories, systemd.exec(5)",
    "CONFIGURATION_DIRECTORY": "the site's directories, systemd.exec(5)",
    "CREDENTIALS_DIRECTORY": "the site's directories, systemd.exec(5)",
    "DJANGO_SETTINGS_MODULE": "which settings Django reads",
    "PYTHONPATH": "where else Python looks for the site's modules",
    "SDACTIVATE_*": "settings of `sdactivate serve`",
}
"""What root passes on: names, with `*` at the end of those that begin so, and what each is for."""


class Keep(Enum):
    """How much of the launcher's own environment the command gets."""

    ALL = ("*",)
    KNOWN = tuple(KEPT)
    LEAST = ("PATH", "LANG")


class Environment(NamedTuple):
    """The variables of the command, and the names of those that it does not get."""

    variables: dict[str, str]
    left_out: list[str]


# What a shell, a log-in or sudo(8) sets in every session: no site misses it.
_OF_A_SESSION = (
    *("_", "PWD", "OLDPWD", "SHLVL", "MAIL", "HOSTNAME", "COLORTERM", "DISPLAY", "LS_COLORS"),
    *("HIST*", "LESS*", "SUDO_*", "SSH_*", "XDG_*", "DBUS_SESSION_BUS_ADDRESS"),
    *("INVOCATION_ID", "JOURNAL_STREAM", "MANAGERPID", "SYSTEMD_EXEC_PID"),
)


def environment(
    base: Mapping[str, str], identity: Mapping[str, str], assignments: Sequence[str], keep: Keep
) -> Environment:
    """Return the environment of the command, without the variables of the hand-over.

    base: the launcher's own, of which `keep` says what stays.
    identity: the variables that say who the command runs as.
    assignments: NAME=VALUE, or NAME for a variable of `base`.

    What an earlier hand-over has left (LISTEN_*) is removed. Raises UsageError for an assignment
    without a name, for a NAME that `base` does not have, and for a variable of the hand-over.
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
            raise UsageError(f"--env {text}: LISTEN_ variables announce the sockets; leave it out")
        if not equals and name not in base:
            raise UsageError(
                f"--env {text}: the launcher has no variable {name}; export it or write NAME=VALUE"
            )
        env[name] = value if equals else base[name]
    known = ("LISTEN_*", *_OF_A_SESSION)
    return Environment(env, sorted(n for n in base if n not in env and not _any(n, known)))


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
