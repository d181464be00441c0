"""Leave root's terminal, so that the application cannot type into it or read what is typed.

A process whose controlling terminal is root's can push characters into its input, with TIOCSTI of
ioctl_tty(2): root's shell then runs them. A descriptor that can be read hands over what root types.
Three steps close both, and ^C at the terminal still stops the site:

1. Standard input that is a terminal becomes /dev/null. Standard output and standard error that are
   terminals are opened anew, for writing only.
2. TIOCNOTTY gives the controlling terminal up. The process stays in its process group, and the
   terminal signals that group, so ^C still arrives. setsid(2) would lose it.
3. The leader of a session would take the terminal from the whole session by that, and the group
   with it. So a leader (`ssh -t HOST sdactivate launch …`) stays behind as a process without any
   privilege. It passes signals on and ends as the command ends.

`launch --on-demand` needs the first step only: the launcher itself runs no code of the site's, and
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
"""What the terminal itself sends to the whole process group."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def close_standard_descriptors() -> None:
    """Let nobody read from a terminal by descriptor 0, 1 or 2.

    Needs the rights of the terminal's owner, so it comes before root is given up. Raises Error for
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
    """Return a descriptor of the controlling terminal, None where this process has none.

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
    """Give the controlling terminal up, of which `terminal` is a descriptor; see the module.

    Returns in the process that is to become the command. Raises Error where the terminal stays.
    """
    try:
        if os.getsid(0) == os.getpid():
            _stand_aside(terminal)
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    except OSError as error:
        raise Error(f"the controlling terminal can't be left: {error.strerror}") from None
    try:
        os.tcgetpgrp(terminal)
    except OSError:
        os.close(terminal)  # ENOTTY: it is not ours any more
        return
    raise Error("the controlling terminal is still there after it was left (TIOCNOTTY)")


def _stand_aside(terminal: int) -> None:
    """Fork: returns in the child, while this process waits for its end and ends likewise."""
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
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the sockets are the command's alone
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
        code = 128 - code  # as PID 1 of a container, which its own signals do not end
    os._exit(code)
