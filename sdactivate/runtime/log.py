"""What a serving process has to say: lines on standard error, with a priority for the journal.

Where standard error is connected to the journal ($JOURNAL_STREAM, systemd.exec(5)), each line
begins with its priority in the form of sd-daemon(3), `<3>`, which the journal takes off. What
peers and applications send is shown escaped: nobody can forge a line or steer a terminal.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sdactivate.terminal import escape as escape
from sdactivate.terminal import escape_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
_NAMES = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info"}

_is_journal: bool | None = None


def is_journal() -> bool:
    """Whether standard error leads to the journal."""
    global _is_journal
    if _is_journal is None:
        try:
            found = os.fstat(2)
            _is_journal = os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
        except OSError:
            _is_journal = False
    return _is_journal


def say(level: int, message: str) -> None:
    """Write `message`, of one line or several, at a priority of syslog(3): ERROR to INFO."""
    prefix = f"<{level}>" if is_journal() else f"sdactivate: {_NAMES[level]}: "
    lines = escape_lines(message).split("\n")
    text = "".join(f"{prefix}{line}\n" for line in lines)
    # One write, so that the lines of several threads and processes don't mix; and straight
    # to the descriptor, for sys.stderr may be the application's to replace.
    try:
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except OSError:
        # Nobody can be told that nobody can be told.
        pass


def record(message: str, fields: Mapping[str, object]) -> None:
    """Write `message` at INFO; the journal gets `fields` beside it (systemd.journal-fields(7)).

    Elsewhere the message is a line like any other. What is in the fields is escaped as it is.
    """
    if is_journal():
        from systemd import journal

        own = {"MESSAGE": message, "PRIORITY": INFO, "SYSLOG_IDENTIFIER": "sdactivate"}
        pairs = [f"{name}={escape(value)}" for name, value in (*own.items(), *fields.items())]
        try:
            journal.sendv(*[pair.encode("utf-8", "backslashreplace") for pair in pairs])
            return
        except OSError:
            pass  # its socket is out of reach; standard error is not
    say(INFO, escape(message))


def say_exception(message: str, error: BaseException) -> None:
    """Write `message` and the traceback of `error`."""
    import traceback

    text = "".join(traceback.format_exception(error)).rstrip("\n")
    say(ERROR, f"{escape(message)}\n{text}")


def say_stack(message: str, frame: object) -> None:
    """Write `message` and the Python stack of a running thread."""
    import traceback

    text = "".join(traceback.format_stack(frame)).rstrip("\n")  # type: ignore[arg-type]
    say(ERROR, f"{escape(message)}\n{text}")


def install_excepthook() -> None:
    """Let an exception that ends a thread be said like everything else."""
    import threading

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            name = args.thread.name if args.thread else "?"
            say_exception(f"the thread {name} has ended", args.exc_value)

    threading.excepthook = hook


def dump_stacks_on_crash() -> None:
    """Let a crash in C, and SIGABRT, leave the Python stacks on standard error."""
    import faulthandler

    try:
        faulthandler.enable(all_threads=True)
    except (OSError, ValueError, RuntimeError):
        pass  # there is none
