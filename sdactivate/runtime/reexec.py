"""How this process was started, and how to start it again, also through a release link.

The directory is $PWD if that is the current directory. So if a release is a symbolic link, a later
process is started in the new release. The command is looked up again in the same way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from sdactivate import stdio
from sdactivate.systemd import pass_fds
from sdactivate.systemd.listen_fds import SOURCES

if TYPE_CHECKING:
    from sdactivate.systemd.listen_fds import InheritedSocket

# The next process gets the sockets announced, however this one got them, and must not report
# readiness again to a notify descriptor. In both the environment overrides the command line.
_SETTLED = {"SDACTIVATE_FD": "", "SDACTIVATE_NOTIFY_FD": "0"}

PRIVATE = "_SDACTIVATE_"
"""Prefix of the variables that one process of a service passes to the next one only."""


class Invocation(NamedTuple):
    """The command line, the environment and the directory of a fresh interpreter."""

    argv: list[str]
    environ: dict[str, str]
    directory: str

    @classmethod
    def now(cls) -> Invocation:
        """Return those of this process. Call it before anything changes them."""
        announced = {name for source in SOURCES for name in source.variables}
        environ = {
            name: value
            for name, value in _first_environ().items()
            if name not in announced and not name.startswith(PRIVATE)
        }
        directory = _logical_directory(environ)
        return cls(list(sys.orig_argv), environ | _SETTLED, directory)

    def become(self, sockets: Sequence[InheritedSocket], more: Mapping[str, str]) -> NoReturn:
        """Become a fresh interpreter with `sockets`, under the same PID.

        more: additional environment variables. For supervisors that know a service only by its PID
        and don't support MAINPID=. While the new interpreter starts, connections wait in the
        backlog.
        """
        pass_fds.place([inherited.sock.fileno() for inherited in sockets])
        names = [inherited.name for inherited in sockets]
        stdio.flush()
        os.chdir(self.directory)
        pass_fds.execute(self.argv, {**self.environ, **more}, len(sockets), names)


def _first_environ() -> dict[str, str]:
    """The environment that exec gave this process: os.environ may have been changed since."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def _logical_directory(environ: dict[str, str]) -> str:
    """Return the working directory by the name it was given, with symbolic links."""
    named = environ.get("PWD", "")
    try:
        if named.startswith("/") and os.path.samefile(named, "."):
            return named
    except OSError:
        pass
    return os.getcwd()
