"""Whether a reload worked: told by signals to `sdactivate reload`, whose exit code it becomes.

The command of ExecReload= runs as the service's own user, in its sandbox: it can reach neither
the system bus nor, without a file that somebody would have to remove, the serving process. But
the kernel says who sent a signal (siginfo_t, sigaction(2)), and a user may signal his own
processes. So a process that wants to know the outcome sends ASK before HUP; ASK is blocked in the
serving process and waits there, with its sender's PID, until HUP is acted on. The answer is DONE
or FAILED. The reason of a failure is in the journal and in `systemctl status`.
"""

import os
import signal
import time
from collections.abc import Mapping

from sdactivate.errors import Error
from sdactivate.systemd.cgroup import unit_of

ASK = signal.SIGRTMIN
DONE = signal.SIGUSR1
FAILED = signal.SIGUSR2
# Where a process becomes a fresh interpreter, it is that one which answers
ASKERS = "_SDACTIVATE_ASKERS"


class Askers:
    """Those who wait, in the serving process, to hear how the reload went."""

    def __init__(self) -> None:
        """Make one before there are threads: from now on ASK waits until it is looked for."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {ASK})
        pids = os.environ.pop(ASKERS, "").split()
        self._pids = [int(pid) for pid in pids if pid.isdigit()]

    def look(self) -> None:
        """See who has asked."""
        while (info := signal.sigtimedwait({ASK}, 0)) is not None:
            self._pids.append(info.si_pid)

    def answer(self, succeeded: bool) -> None:
        """Tell those who have."""
        while self._pids:
            try:
                os.kill(self._pids.pop(), DONE if succeeded else FAILED)
            except OSError:
                pass  # it has stopped waiting

    def handed_on(self) -> Mapping[str, str]:
        """Return the environment in which a fresh interpreter answers them."""
        return {ASKERS: " ".join(map(str, self._pids))}


def ask(pid: int, seconds: float) -> bool | None:
    """Let process `pid` reload; whether it succeeded, None if there was no answer in time.

    Raises ProcessLookupError or PermissionError where there is no such process, or it is
    another user's, and Error where it is not one that serves: the signals would end it.
    """
    _refuse_others(pid)
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


def _refuse_others(pid: int) -> None:
    """Raise Error where `pid` is seen not to await ASK and HUP: what they mean to it is unknown.

    The same for a process of another service, where this one is a service's: $MAINPID may be a
    number that has been given to another process since. And PermissionError where it could not
    answer: kill(2).

    PID 1 is systemd, which takes both for commands and blocks them (systemd(1), signalfd(2)), or
    a container's server, which has a handler for HUP. A server that becomes a fresh interpreter
    blocks HUP for that while.
    """
    try:
        with open(f"/proc/{pid}/status") as stream:
            lines = dict(line.rstrip().split(":", 1) for line in stream)
    except FileNotFoundError:
        return  # it has gone, or /proc hides it: kill(2) tells
    unit, other = _unit("self"), _unit(str(pid))
    if unit.endswith(".service") and unit != other:
        raise Error(
            f"process {pid} is not of {unit}, which asks, but of {other or 'no unit'}; nothing was "
            "sent. To reload another site use `sdactivate reload NAME`"
        )
    blocked, caught = int(lines["SigBlk"], 16), int(lines["SigCgt"], 16)
    hangup = caught if pid == 1 else caught | blocked
    if not (blocked >> (ASK - 1) & 1 and hangup >> (signal.SIGHUP - 1) & 1):
        raise Error(
            f"process {pid} does not serve by `sdactivate serve`, and a signal could end it; "
            "nothing was sent. `systemctl show -P MainPID NAME` has the right number"
        )
    if int(lines["Uid"].split()[0]) != os.getuid():
        raise PermissionError  # root may signal it; but it may not signal root


def _unit(pid: str) -> str:
    """Return the unit that a process belongs to, "" for none."""
    try:
        with open(f"/proc/{pid}/cgroup") as stream:
            return unit_of(stream.read())
    except OSError:
        return ""
