"""Log lines of a serving process: standard error with priorities, or the journal with fields.

Where standard error is connected to the journal ($JOURNAL_STREAM, systemd.exec(5)), each line
begins with its priority in the form of sd-daemon(3), `<3>`, which the journal removes. Text from
peers and applications is escaped, so that it can't forge a line or control a terminal. Nothing here
waits for the reader of the log: see `stdio`.
"""

from __future__ import annotations

import os
import socket
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from sdactivate import stdio
from sdactivate.terminal import escape as escape
from sdactivate.terminal import escape_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
_NAMES = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info"}

# The journal's socket for structured entries (https://systemd.io/JOURNAL_NATIVE_PROTOCOL)
_JOURNAL = "/run/systemd/journal/socket"

on_exception: Callable[[BaseException], None] | None = None
"""If set, it is called with each exception that is logged."""

_is_journal: bool | None = None
_journal: socket.socket | None = None


def start() -> None:
    """Prepare to log. Call it before the application is imported, which may replace streams.

    From then on sys.stdout and sys.stderr don't wait for their readers either.
    """
    is_journal()
    stdio.take_over(_out, _err)


def is_journal() -> bool:
    """Whether standard error is connected to the journal."""
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
    # One write, so that the lines of several threads and processes don't mix; and directly to the
    # descriptor, since the application may replace sys.stderr.
    _err.write(text.encode("utf-8", "backslashreplace"))


def _notice(dropped: int) -> bytes:
    prefix = f"<{WARNING}>" if is_journal() else f"sdactivate: {_NAMES[WARNING]}: "
    lines = "an entry was" if dropped == 1 else f"{dropped} entries were"
    return f"{prefix}{lines} dropped here: the reader of this log did not keep up\n".encode()


_out, _err = stdio.Outlet(1, _notice), stdio.Outlet(2, _notice)


def catch_up() -> bool:
    """Report how many entries were dropped, if any; return whether that is done."""
    return _err.catch_up()


def record(message: str, fields: Mapping[str, object]) -> None:
    """Write `message` at INFO; the journal gets `fields` beside it (systemd.journal-fields(7)).

    Elsewhere the message is an ordinary line. The fields are escaped like the message.
    """
    if is_journal():
        own = {"MESSAGE": message, "PRIORITY": INFO, "SYSLOG_IDENTIFIER": "sdactivate"}
        pairs = [f"{name}={escape(value)}\n" for name, value in (*own.items(), *fields.items())]
        try:
            _send_to_journal("".join(pairs).encode("utf-8", "backslashreplace"))
            return
        except BlockingIOError:
            _err.dropped += 1
            return
        except OSError:
            pass  # no journal socket here, or the entry is too long for it
    say(INFO, escape(message))


def _send_to_journal(entry: bytes) -> None:
    """Send an entry without waiting, unlike sd_journal_sendv(3). Raises OSError."""
    global _journal
    if _journal is None:
        _journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    _journal.sendto(entry, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, _JOURNAL)


def is_silent(since: float) -> bool:
    """Whether this thread is known to have written nothing to standard error since `since`.

    since: seconds on the monotonic clock. False if it is not known: if standard error is a file or
    a terminal, Python writes to it directly.
    """
    return stdio.is_taken_over() and _err.written.get(get_ident(), 0.0) < since


def leave_reason_to_later() -> None:
    """Let `is_silent` be False for this thread's present request: its reason is logged later."""
    _err.written[get_ident()] = monotonic()


def say_exception(message: str, error: BaseException) -> None:
    """Write `message` and the traceback of `error`."""
    try:
        import traceback

        text = "".join(traceback.format_exception(error)).rstrip("\n")
    except (ImportError, OSError):  # no file descriptor is left for the import
        text = f"{type(error).__name__}: {error}"
    say(ERROR, f"{escape(message)}\n{text}")
    has_raised(error)


def has_raised(error: BaseException) -> None:
    """Call `on_exception` with an exception that has been logged, or is about to be."""
    if on_exception is not None:
        on_exception(error)


def dump_stacks_on_crash() -> None:
    """Have a crash in C code, and SIGABRT, write the Python stacks to standard error."""
    import faulthandler

    try:
        faulthandler.enable(all_threads=True)
    except (OSError, ValueError, RuntimeError):
        pass  # there is no standard error
