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
"""How many of the last bytes of a command's output are kept."""
LINES = 25
"""How many of the last lines an error shows."""


class StepFailed(Error):
    """`sdactivate release`: a step's command failed.

    The message has the end of its output, and how to run it again.
    """

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output
        """The end of the command's output."""


def run(
    argv: list[str],
    what: str,
    again: Path | None = None,
    stdin: "int | IO[bytes]" = subprocess.DEVNULL,
) -> str:
    """Run a systemd-run(1) command that waits for its unit; return the end of its output.

    `what` is the command as shown to the reader; `again` is the script to write on failure, which
    runs it again. Raises StepFailed if it fails, with the end of its output and that script.
    """
    with subprocess.Popen(  # noqa: S603 - built here from the administrator's options
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
        # 0600: the command line contains the unit's environment.
        atomic_write.replace(again, File(again.name, script, 0o600))
        repeat = f"\nTo run it again: sudo sh {again}"
    raise StepFailed(f"`{what}` failed (exit {code}){': ' if last else ''}{last}{repeat}", text)
