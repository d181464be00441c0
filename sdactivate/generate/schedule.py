"""Parse --command and --every: what a timer runs, and when (systemd.time(7))."""

import re

from sdactivate.errors import UsageError
from sdactivate.settings import seconds
from sdactivate.systemd import escape
from sdactivate.values import shell_words

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,63}")


def command(text: str) -> tuple[str, ...]:
    """Split `text`, a command of manage.py, into words: "clearsessions", "dumpdata --all".

    Quotes work as in a shell; nothing else of the shell's syntax does.

    Raises UsageError for unbalanced quotes, for a first word that can't be a command's name, and
    for characters that a unit file can't contain.
    """
    words = shell_words(text)
    if not words or not _NAME.fullmatch(words[0]):
        raise UsageError(f"{text!r} is not a command of manage.py, such as clearsessions")
    for word in words:
        escape.printable(word)
    return words


_CALENDAR = re.compile(r"[A-Za-z0-9*:,./~_+ -]+")


def every(text: str) -> str:
    """Return `text`, a schedule: a calendar event or a time span of systemd.time(7).

    "daily", "Mon 04:00" and "*:0/15" are calendar events; "15min" is a span, counted from the last
    run.

    Raises UsageError if it is neither. If systemd is installed, systemd-analyze checks it.
    """
    if is_span(text):
        if not seconds(text):
            raise UsageError(f"{text!r} is not a time span of more than 0")
        return text
    wrong = (
        "is neither a calendar event, such as daily or 'Mon 04:00', nor a time span, such as 15min"
    )
    if not _CALENDAR.fullmatch(text) or text != text.strip():
        raise UsageError(f"{text!r} {wrong}")
    import shutil
    import subprocess

    if analyze := shutil.which("systemd-analyze"):
        run = subprocess.run(  # noqa: S603 - the text follows "--" and has passed the grammar
            [analyze, "calendar", "--", text], capture_output=True, timeout=30
        )
        if run.returncode:
            raise UsageError(f"{text!r} {wrong}; see systemd.time(7)")
    return text


_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*")


def host(text: str) -> str:
    """Return `text`, a host name as hostname(1) prints it.

    Raises UsageError if it is not valid. Patterns are not allowed, since it must name one machine.
    """
    if not _HOST.fullmatch(text) or len(text) > 64:  # gethostname(2): HOST_NAME_MAX
        raise UsageError(f"{text!r} is not a host name; `hostname` prints a machine's own")
    return text


def is_span(text: str) -> bool:
    """Return whether `text` is a time span such as 15min, and not a calendar event."""
    try:
        seconds(text)
    except ValueError:
        return False
    return True
