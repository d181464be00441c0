"""The exceptions that the kit raises. Every message says what to do next.

The command prints the message on standard error, without a traceback, and exits with the error's
code: 1 if something failed or was found wrong, 2 for a usage error.
"""

from collections.abc import Callable
from typing import TypeVar

_Value = TypeVar("_Value")


class Error(Exception):
    """Something is wrong or failed: the base of the kit's errors.

    `exit_code` is the exit code of a command that it ends: 1, or 2 for a UsageError.
    """

    exit_code = 1


class UsageError(Error, ValueError):
    """An option, a setting or a value is not valid. It is a ValueError, too."""

    exit_code = 2


def said(error: Error | OSError) -> str:
    """Return an error's message; for an OSError, the file and the reason."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    return str(error)


def option_value(option: str, read: Callable[[str], _Value], text: str) -> _Value:
    """Return the value that `read` makes of `text`, which was typed for `option`, such as --listen.

    Raises UsageError, which names the option, if `read` raises it.
    """
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None
