"""The launcher's messages on standard error."""

import os
from contextlib import suppress

from sdactivate.terminal import escape_lines


def say(text: str) -> None:
    """Write a line to standard error, if there is one that takes it.

    A full disk, or a logger that has left, is no reason for a site to stay away.
    """
    with suppress(OSError):
        os.write(2, escape_lines(f"sdactivate launch: {text}\n").encode())
