"""Read --worker, and the tables of background workers in a file of sites."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sdactivate.errors import UsageError
from sdactivate.systemd import escape
from sdactivate.values import shell_words

MOST = 99
"""Processes of one background worker: more are several of them."""

STOP_TIMEOUT = "5min"
"""How long a task may take to finish, once it is to stop."""

_NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_-]{0,31}")


class Worker(NamedTuple):
    """A background worker: a long-running command in the site's sandbox."""

    name: str
    """What its units are called: NAME-THIS@1.service."""
    command: tuple[str, ...]
    """Its words. The first is `python`, a program installed beside that, or an absolute path."""
    instances: int = 1
    """How many of it run."""
    network: bool | str | None = None
    """As of a site; None: the site's own."""
    memory_max: str = ""
    """As of a site; "": the site's own."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables of its environment besides the site's."""
    stop_timeout: str = STOP_TIMEOUT
    """A span of time: systemd.time(7)."""


def worker(text: str) -> Worker:
    """Return the background worker that `text` describes: NAME=COMMAND.

    Raises UsageError for a name that can't be part of a unit's, and what `command` refuses.
    """
    name, equals, line = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r}: a background worker is NAME=COMMAND")
    try:
        return Worker(check_name(name), command(line))
    except UsageError as error:
        raise UsageError(f"{text!r}: {error}") from None


def check_name(name: str) -> str:
    """Return `name` if a background worker can be called so. Raises UsageError otherwise."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"NAME {name!r}: the name of a background worker has at most 32 letters, digits, '-' "
            "and '_', and does not begin with '-'"
        )
    return name


def command(text: str) -> tuple[str, ...]:
    """Return the words of `text`, a command line; quotes mean what they mean to a shell.

    Raises UsageError for unbalanced quotes, for a first word that is a relative path, and for what
    no unit can hold.
    """
    try:
        words = shell_words(text)
    except UsageError as error:
        raise UsageError(f"COMMAND {error}") from None
    if not words or not words[0]:
        raise UsageError(
            f"COMMAND {text!r}: name a program, as in 'celery -A mysite worker' or "
            "'python manage.py db_worker'"
        )
    first = words[0]
    if not first.startswith("/") and ("/" in first or first.endswith(".py")):
        raise UsageError(
            f"COMMAND {text!r}: the first word is `python`, a program installed beside it such as "
            f"celery, or an absolute path; did you mean 'python {text}'?"
        )
    escape.program(first if first.startswith("/") else f"/{first}")
    for word in words:
        escape.printable(word)
    return words


def from_table(name: str, given: Mapping[str, Any]) -> Worker:
    """Return the background worker `name` of a file's table, `given` by field.

    Raises UsageError where it has no command or no fitting name.
    """
    if "command" not in given:
        raise UsageError("command is missing, such as command = 'celery -A mysite worker'")
    fields = {"instances" if field == "count" else field: given[field] for field in given}
    return Worker(check_name(name), **fields)
