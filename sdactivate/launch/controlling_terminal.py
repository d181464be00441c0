"""Detach from root's terminal, so that the application can't type into it or read input.

A process whose controlling terminal is root's can insert characters into its input, with TIOCSTI of
ioctl_tty(2), and root's shell then runs them. With a readable descriptor of the terminal it can
read what root types. Three steps prevent both, and ^C at the terminal still stops the site:

1. Standard input that is a terminal becomes /dev/null. Standard output and standard error that are
   terminals are reopened, for writing only.
2. TIOCNOTTY gives the controlling terminal up. The process stays in its process group, and the
   terminal signals that group, so ^C still arrives. setsid(2) would lose it.
3. If the process is a session leader (`ssh -t HOST sdactivate launch …`), step 2 would take the
   terminal from the whole session, and its group with it. So a leader stays as a process without
   privileges. It passes signals on and exits as the command exits.

`launch --on-demand` needs only the first step: the launcher itself runs no code of the site, and
the command gets a session of its own.
"""

import fcntl
import os
import signal
import sys
import termios
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from sdactivate.errors import Error
from sdactivate.launch import syscalls

_TYPED = (signal.SIGINT, signal.SIGQUIT)
"""Signals that the terminal sends to the whole process group."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def close_standard_descriptors() -> None:
    """Make descriptors 0, 1 and 2 unusable for reading from a terminal.

    This needs the rights of the terminal's owner, so call it before dropping root. Raises Error for
    a terminal that can't be opened for writing.
    """
    for fd, name in enumerate(("input", "output", "error")):
        if not os.isatty(fd):
            continue
        path = f"/proc/self/fd/{fd}" if fd else os.devnull
        try:
            opened = os.open(path, os.O_WRONLY | os.O_NOCTTY if fd else os.O_RDONLY)
        except OSError as error:
            raise Error(
                f"standard {name} is a terminal and can't be opened for writing only "
                f"({error.strerror}); redirect it to a file or a pipe"
            ) from None
        os.dup2(opened, fd)
        os.close(opened)


def find() -> int | None:
    """Return a descriptor of the controlling terminal; None if this process has none.

    Raises Error for a terminal that can't be opened.
    """
    stat = Path("/proc/self/stat").read_text()
    if int(stat.rpartition(")")[2].split()[4]) == 0:  # tty_nr, proc_pid_stat(5)
        return None
    try:
        return os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError as error:
        raise Error(
            f"this process has a controlling terminal, and /dev/tty can't be opened "
            f"({error.strerror}): start it with setsid(1)"
        ) from None


def leave(terminal: int) -> None:
    """Give up the controlling terminal, of which `terminal` is a descriptor; see the module.

    Returns in the process that will become the command. Raises Error if the terminal can't be given
    up.
    """
    try:
        if os.getsid(0) == os.getpid():
            _stand_aside(terminal)
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    except OSError as error:
        raise Error(f"can't give up the controlling terminal: {error.strerror}") from None
    try:
        os.tcgetpgrp(terminal)
    except OSError:
        os.close(terminal)  # ENOTTY: it is not our controlling terminal any more
        return
    raise Error("the process still has its controlling terminal after TIOCNOTTY")


def _stand_aside(terminal: int) -> None:
    """Fork and return in the child; the parent waits for it and exits in the same way."""
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(terminal)
        _wait(child, mask)
    syscalls.signal_at_parents_death(signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if os.getppid() != parent:
        os._exit(1)


def _wait(child: int, mask: Iterable[int]) -> NoReturn:
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # only the command keeps the sockets
    for number in _TYPED:
        signal.signal(number, signal.SIG_IGN)
    for number in _PASSED_ON:
        signal.signal(number, lambda told, _: os.kill(child, told))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        with suppress(OSError):  # SIGKILL has no other action
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
        code = 128 - code  # as PID 1 of a container, which its own signals can't kill
    os._exit(code)
