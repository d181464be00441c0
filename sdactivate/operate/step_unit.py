"""Run one step's command, keep the end of its output, and say how to run it again."""

import shlex
import subprocess
from pathlib import Path
from typing import IO

from sdactivate.errors import Error
from sdactivate.generate.output import File
from sdactivate.install import atomic_write
from sdactivate.terminal import escape

KEPT = 65536
"""Bytes of a command's output that are kept: the last."""
LINES = 25
"""Lines of them that an error shows."""


class StepFailed(Error):
    """A step's command failed. The message has its last words, and how to run it again."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output
        """The end of what it said."""


def run(
    argv: list[str],
    what: str,
    again: Path | None = None,
    stdin: "int | IO[bytes]" = subprocess.DEVNULL,
) -> str:
    """Run a command of systemd-run(1) that ends with the unit; return the end of its output.

    `what` is the command in the reader's words; `again` the file that will run it again. Raises
    StepFailed where it fails, with its last words and that file.
    """
    with subprocess.Popen(  # noqa: S603 - made by us, of what the administrator says
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        kept = b""
        while data := process.stdout.read1(KEPT):  # type: ignore[attr-defined]
            kept = (kept + data)[-KEPT:]
        code = process.wait()
    text = kept.decode(errors="replace")
    if not code:
        return text
    last = "\n".join(text.rstrip().splitlines()[-LINES:])
    repeat = ""
    if again:
        # One line: a second one would not be a comment any more.
        script = f"#!/bin/sh\n# {escape(what)}\nexec {shlex.join(argv)}\n"
        # What the unit's environment has in it is nobody else's.
        atomic_write.replace(again, File(again.name, script, 0o600))
        repeat = f"\nTo run it again: sudo sh {again}"
    raise StepFailed(f"`{what}` failed (exit {code}){': ' if last else ''}{last}{repeat}", text)
