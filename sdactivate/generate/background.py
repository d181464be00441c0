"""Parse --worker, and the tables of background workers in a sites file."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sdactivate.errors import UsageError
from sdactivate.systemd import escape
from sdactivate.values import shell_words

MOST = 99
"""The most processes of one background worker; for more, define several."""

STOP_TIMEOUT = "5min"
"""How long a task may take to finish when the worker is stopped."""

_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_-]{0,31}")


class Worker(NamedTuple):
    """A background worker: a long-running command in the site's sandbox."""

    name: str
    """Its part of the units' name: NAME-THIS@1.service."""
    command: tuple[str, ...]
    """The command's words. The first is `python`, a program installed beside it, or an absolute
    path."""
    instances: int = 1
    """The number of instances."""
    network: bool | str | None = None
    """As for a site; None: the site's value."""
    memory_max: str = ""
    """As for a site; "": the site's value."""
    env: tuple[tuple[str, str], ...] = ()
    """Environment variables in addition to the site's."""
    stop_timeout: str = STOP_TIMEOUT
    """The time that a task may take to finish: systemd.time(7)."""


def worker(text: str) -> Worker:
    """Return the background worker that `text` describes: NAME=COMMAND.

    Raises UsageError for a name that can't be part of a unit's name, and as `command` does.
    """
    name, equals, line = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r}: a background worker is NAME=COMMAND")
    try:
        return Worker(check_name(name), command(line))
    except UsageError as error:
        raise UsageError(f"{text!r}: {error}") from None


def check_name(name: str) -> str:
    """Return `name` if it can name a background worker. Raises UsageError otherwise."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"NAME {name!r}: the name of a background worker has at most 32 letters, digits, '-' "
            "and '_', and does not begin with '-'"
        )
    return name


def command(text: str) -> tuple[str, ...]:
    """Split `text`, a command line, into words; quotes work as in a shell.

    Raises UsageError for unbalanced quotes, for a first word that is a relative path, and for
    characters that a unit file can't contain.
    """
    try:
        words = shell_words(text)
    except UsageError as error:
        raise UsageError(f"COMMAND {error}") from None
    if not words or not words[0]:
        raise UsageError(
            f"COMMAND {text!r} is empty: name a program, as in 'celery -A mysite worker' or "
            "'python manage.py db_worker'"
        )
    first = words[0]
    if not first.startswith("/") and ("/" in first or first.endswith(".py")):
        raise UsageError(
            f"COMMAND {text!r}: the first word must be `python`, a program installed beside it "
            f"such as celery, or an absolute path; did you mean 'python {text}'?"
        )
    escape.program(first if first.startswith("/") else f"/{first}")
    for word in words:
        escape.printable(word)
    return words


def from_table(name: str, given: Mapping[str, Any]) -> Worker:
    """Return the background worker `name` from a table's values, `given` by field.

    Raises UsageError if the command is missing or the name is not valid.
    """
    if "command" not in given:
        raise UsageError(
            "command is missing: add a line such as command = 'celery -A mysite worker'"
        )
    fields = {"instances" if field == "count" else field: given[field] for field in given}
    return Worker(check_name(name), **fields)
