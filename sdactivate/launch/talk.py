"""The launcher's messages on standard error."""

import os
from contextlib import suppress

from sdactivate.terminal import escape_lines


def say(text: str) -> None:
    """Write a line to standard error, and ignore errors.

    A full disk or a logger that has exited must not keep a site from starting.
    """
    with suppress(OSError):
        os.write(2, escape_lines(f"sdactivate launch: {text}\n").encode())
