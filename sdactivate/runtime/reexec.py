"""How this process was started, and how to start the same again, through a release link too.

The directory is the one that $PWD names, if it is the one we are in: where a release is a
symbolic link, what is started later finds the new one. The command is looked up again in the
same way.
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

# However the sockets came to this process, they go on announced; and a process that waits to hear
# that the service is ready has heard it. The environment outranks the command line in both.
_SETTLED = {"SDACTIVATE_FD": "", "SDACTIVATE_NOTIFY_FD": "0"}

PRIVATE = "_SDACTIVATE_"
"""How the variables begin that one process of a service leaves to the next, and no further."""


class Invocation(NamedTuple):
    """The command line, the environment and the directory of a fresh interpreter."""

    argv: list[str]
    environ: dict[str, str]
    directory: str

    @classmethod
    def now(cls) -> Invocation:
        """Return this process's own; to be taken down before anything changes it."""
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

        more: what its environment has besides.
        For supervisors that know a service by its PID and nothing of MAINPID=: there is a pause
        of one start, in which connections wait in the backlog.
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
    """The working directory by the name it was asked for, symbolic links and all."""
    named = environ.get("PWD", "")
    try:
        if named.startswith("/") and os.path.samefile(named, "."):
            return named
    except OSError:
        pass
    return os.getcwd()
