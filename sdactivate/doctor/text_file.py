"""Read a file that others have written: bounded, and without waiting for a FIFO's writer."""

import os


def read(path: str, most: int = 1 << 18) -> str | None:
    """Return the text of a file, its first `most` bytes; None if it can't be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(most).decode(errors="replace")
    except (OSError, ValueError):  # ValueError: a path with a NUL
        return None


def lines(data: bytes) -> list[str]:
    """Return the lines of what programs have written; none for nothing.

    Only a newline ends one. str.splitlines() knows more ends, and clients can send those.
    """
    return data.decode(errors="replace").removesuffix("\n").split("\n") if data else []
