"""Pass descriptors to a program that is executed: LISTEN_FDS and LISTEN_PID.

The descriptors are put on 3, 4, … in the order given, and announced in the environment of the
program: LISTEN_PID (the receiver), LISTEN_FDS (how many) and LISTEN_FDNAMES (their names). There
are two ways to start the program:

- `execute`: this process becomes it.
- `spawn_orphan`: it becomes a child of PID 1. A relay process in between, an interpreter without
  modules, forks and exits. This process itself can't fork: it has threads, and the child could
  inherit a locked lock.

The other half, taking them, is in `listen_fds`.
"""

import errno
import fcntl
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NoReturn

from sdactivate.errors import Error

FIRST = 3  # SD_LISTEN_FDS_START


def targets(count: int) -> range:
    """Return the numbers under which `count` descriptors are passed."""
    return range(FIRST, FIRST + count)


def _park(fds: Sequence[int], beyond: Iterable[int] = ()) -> list[int]:
    """Duplicate `fds` to numbers above every target and `beyond`, so that none is overwritten."""
    above = max((*targets(len(fds)), *beyond, FIRST)) + 1
    return [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]


def place(fds: Sequence[int], beyond: Iterable[int] = ()) -> range:
    """Put copies of `fds` on the descriptors from 3 on, inheritable; return those numbers.

    What was open there is closed. beyond: descriptors that stay as they are, and whose numbers are
    not used for temporary copies. Raises OSError if one is not open or no more can be opened.
    """
    placed = targets(len(fds))
    for parked, target in zip(_park(fds, beyond), placed, strict=True):
        os.dup2(parked, target, inheritable=True)
        os.close(parked)
    return placed


def close_others(keep: Iterable[int]) -> None:
    """Close every descriptor from 3 on that is not in `keep`."""
    kept = set(keep)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd >= FIRST and fd not in kept:
            with suppress(OSError):  # the one that listed the directory is closed already
                os.close(fd)


def _announced(environ: Mapping[str, str], count: int, names: Sequence[str]) -> dict[str, str]:
    """Return `environ` with LISTEN_FDS and, if there are names, LISTEN_FDNAMES."""
    announced = {**environ, "LISTEN_FDS": str(count)}
    if names:
        announced["LISTEN_FDNAMES"] = ":".join(names)
    return announced


def execute(
    command: Sequence[str], environ: Mapping[str, str], count: int, names: Sequence[str]
) -> NoReturn:
    """Become `command`, with the `count` descriptors from 3 on announced to it.

    environ: its other environment. names: the descriptors' names, or nothing.

    Raises Error if it can't be executed.
    """
    announced = {**_announced(environ, count, names), "LISTEN_PID": str(os.getpid())}
    # Python ignores these two, and an ignored signal stays ignored across exec
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), announced)  # noqa: S606  # no shell, on purpose
    except OSError as error:
        path = environ.get("PATH", os.defpath)
        searched = "" if "/" in command[0] else f" (looked for in {path})"
        raise Error(
            f"{command[0]} can't be executed: {error.strerror}{searched}"
            f"{_WHY_NOT.get(error.errno or 0, '')}"
        ) from None


_WHY_NOT = {
    errno.EACCES: ". The application's own user must be able to reach it: an interpreter under "
    "/root, for example, is closed to it",
    errno.ENOENT: ". If it exists, the interpreter that its first line names does not",
    errno.ENOEXEC: ". It is neither a program for this machine nor a script that begins with #!",
}
"""The cause of the usual errors of execve(2)."""

# The descriptors and the environment are set already, except LISTEN_PID, which is not known before
# the fork. argv: the number of announced descriptors (after them comes one on which the relay
# writes the number of the process it has started), the working directory, and the command.
_RELAY = """\
import os, sys
channel, directory, command = 3 + int(sys.argv[1]), sys.argv[2], sys.argv[3:]
for fd in map(int, os.listdir("/proc/self/fd")):
    if fd > channel:
        try:
            os.close(fd)
        except OSError:
            pass
pid = os.fork()
if pid:
    os.write(channel, b"%d\\n" % pid)
    os._exit(0)
for name in {"LISTEN_PID"} | {"WATCHDOG_PID"} & set(os.environ):
    os.environ[name] = str(os.getpid())
try:
    os.chdir(directory)
    os.execvp(command[0], command)
except OSError as error:
    os.write(channel, f"{error.filename or command[0]}: {error.strerror}\\n".encode())
    os._exit(1)
"""


def spawn_orphan(
    command: Sequence[str],
    environ: Mapping[str, str],
    directory: str,
    fds: Sequence[int],
    names: Sequence[str],
    channel: int,
) -> int:
    """Start `command`, a Python interpreter, in `directory` as a child of PID 1.

    fds, names: descriptors that are announced to it, and their names. channel: passed after them,
    unannounced; on it the relay writes the PID of `command` as a line, or the child a
    line with the reason why it can't be executed. The only others passed on are 0 (/dev/null), 1
    and 2.

    Returns the relay's PID, for the caller to wait for: it exits at once. Raises
    OSError if no process can be started.
    """
    parked = _park([*fds, channel])
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            *(
                (os.POSIX_SPAWN_DUP2, fd, target)
                for fd, target in zip(parked, targets(len(parked)), strict=True)
            ),
        ]
        return os.posix_spawn(
            _program(command[0], environ, directory),
            [command[0], "-I", "-S", "-c", _RELAY, str(len(fds)), directory, *command],
            _announced(environ, len(fds), names),
            file_actions=actions,
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    finally:
        for fd in parked:
            os.close(fd)


def _program(name: str, environ: Mapping[str, str], directory: str) -> str:
    """Return the path of program `name` as execvp(3) would find it in `directory`."""
    if "/" in name:
        return os.path.join(directory, name)
    candidates = (os.path.join(directory, place, name) for place in os.get_exec_path(environ))
    return next((path for path in candidates if os.access(path, os.X_OK)), name)
