"""The exceptions that the kit raises. Every message says what to do next.

The command prints it on standard error, without a traceback, and exits with the
error's code: 1 where something was found wrong or failed, 2 where it was misused.
"""


class Error(Exception):
    """Something is wrong or failed; the command exits 1."""

    exit_code = 1


class UsageError(Error, ValueError):
    """A value or an option that can't be meant; the command exits 2."""

    exit_code = 2


def said(error: Error | OSError) -> str:
    """Return what an error says, for a person: of the system's own, the file and the reason."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    return str(error)
