"""A command inside a machine that has a terminal: what somebody types, and what they see."""

import contextlib
import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time

import pytest

from tests.machine.machine import ENVIRON, Machine

GUARD = 60  # seconds until a hanging command fails its test


class Terminal:
    """A command inside with a terminal of its own; what it prints is read as it comes."""

    def __init__(self, machine: Machine, *argv: str, user: str | None = None) -> None:
        self.master, slave = pty.openpty()

        def take_the_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            machine.command(*argv, user=user),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**ENVIRON, "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=take_the_terminal,
        )
        os.close(slave)
        self.said = ""

    def expect(self, pattern: str) -> str:
        """Read until what is new matches, and return that."""
        deadline = time.monotonic() + GUARD
        while not (found := re.search(pattern, self.said)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.said!r}"
            if select.select([self.master], [], [], 1)[0]:
                try:
                    self.said += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    pytest.fail(f"it ended without {pattern!r}: {self.said!r}")
        self.said = self.said[found.end() :]
        return found[0]

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while os.read(self.master, 4096):
                pass
        code = self.process.wait(GUARD)
        os.close(self.master)
        return code
