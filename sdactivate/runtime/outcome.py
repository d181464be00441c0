"""Who asked for a reload, and how it went: told by signals.

The command of ExecReload= runs as the service's own user, in its sandbox: it can reach neither
the system bus nor, without a file that somebody would have to remove, the serving process. But
the kernel says who sent a signal (siginfo_t, sigaction(2)), and a user may signal his own
processes. So whoever wants to know the outcome sends ASK before HUP; ASK is blocked in the
serving process and waits there, with its sender's PID, until HUP is acted on. The answer is DONE
or FAILED. The reason of a failure is in the journal and in `systemctl status`.
"""

import os
import signal
import time
from collections.abc import Iterable, Mapping

ASK = signal.SIGRTMIN
DONE = signal.SIGUSR1
FAILED = signal.SIGUSR2
# Where a process becomes a fresh interpreter, it is that one which answers
ASKERS = "_SDACTIVATE_ASKERS"


def prepare() -> None:
    """In the serving process, before it has threads: let ASK wait until it is looked for."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {ASK})


def askers() -> list[int]:
    """Return the PIDs of those who have asked since the last time."""
    found = []
    while (info := signal.sigtimedwait({ASK}, 0)) is not None:
        found.append(info.si_pid)
    return found


def handed_on() -> list[int]:
    """Return the PIDs of those who asked this process before it became a fresh interpreter."""
    return [int(pid) for pid in os.environ.pop(ASKERS, "").split() if pid.isdigit()]


def to_hand_on(pids: Iterable[int]) -> Mapping[str, str]:
    """Return the environment in which a fresh interpreter answers them."""
    return {ASKERS: " ".join(map(str, pids))}


def answer(pids: Iterable[int], succeeded: bool) -> None:
    """Tell those who asked."""
    for pid in pids:
        try:
            os.kill(pid, DONE if succeeded else FAILED)
        except OSError:
            pass  # it has stopped waiting


def ask(pid: int, seconds: float) -> bool | None:
    """Let process `pid` reload; whether it succeeded, None if there was no answer in time.

    Raises ProcessLookupError or PermissionError where there is no such process, or it is
    another user's.
    """
    answers = {DONE, FAILED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, answers)
    try:
        os.kill(pid, ASK)
        os.kill(pid, signal.SIGHUP)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # Not one long wait: a process that dies without an answer is to be noticed
            info = signal.sigtimedwait(answers, min(left, 0.5))
            if info is not None and info.si_pid == pid:
                return info.si_signo == DONE
            if info is None:
                os.kill(pid, 0)
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
