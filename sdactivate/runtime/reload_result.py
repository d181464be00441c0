"""Report by signals to `sdactivate reload` whether a reload worked, for its exit code.

The command of ExecReload= runs as the service's own user, in its sandbox: it can't reach the system
bus, and could reach the serving process only through a file that must be cleaned up. But the kernel
tells who sent a signal (siginfo_t, sigaction(2)), and a user can signal their own processes. So a
process that wants to know the result sends ASK before HUP. ASK is blocked in the serving process
and stays pending, with its sender's PID, until HUP is handled. The answer is the signal DONE or
FAILED. The reason of a failure is in the journal and in `systemctl status`.
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
# If the process executes a fresh interpreter, that one answers
ASKERS = "_SDACTIVATE_ASKERS"


class Askers:
    """In the serving process: the processes that wait for the result of the reload."""

    def __init__(self) -> None:
        """Create it before any thread starts: from now on ASK stays pending until collected."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {ASK})
        pids = os.environ.pop(ASKERS, "").split()
        self._pids = [int(pid) for pid in pids if pid.isdigit()]

    def look(self) -> None:
        """Collect the processes that have sent ASK."""
        while (info := signal.sigtimedwait({ASK}, 0)) is not None:
            self._pids.append(info.si_pid)

    def answer(self, succeeded: bool) -> None:
        """Answer those processes."""
        while self._pids:
            try:
                os.kill(self._pids.pop(), DONE if succeeded else FAILED)
            except OSError:
                pass  # it has stopped waiting

    def handed_on(self) -> Mapping[str, str]:
        """Return the environment that makes a fresh interpreter answer them."""
        return {ASKERS: " ".join(map(str, self._pids))}


def ask(pid: int, seconds: float) -> bool | None:
    """Have process `pid` reload; return whether it succeeded, None without an answer in time.

    Raises ProcessLookupError if there is no such process, PermissionError if it belongs to another
    user, and Error if it does not serve: the signals would kill it.
    """
    _refuse_others(pid)
    answers = {DONE, FAILED}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, answers)
    try:
        os.kill(pid, ASK)
        os.kill(pid, signal.SIGHUP)
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # Several short waits, to notice a process that dies without an answer
            info = signal.sigtimedwait(answers, min(left, 0.5))
            if info is not None and info.si_pid == pid:
                return info.si_signo == DONE
            if info is None:
                os.kill(pid, 0)
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _refuse_others(pid: int) -> None:
    """Raise Error if `pid` does not handle ASK and HUP: their effect on it is unknown.

    It does so, too, if this process belongs to a service and `pid` to another one: the PID in
    $MAINPID may have been reused since. Raises PermissionError if `pid` could not answer: kill(2).

    PID 1 is systemd, for which both are commands and which blocks them (systemd(1), signalfd(2)),
    or a container's server, which has a handler for HUP. A server that executes a fresh interpreter
    blocks HUP meanwhile.
    """
    try:
        with open(f"/proc/{pid}/status") as stream:
            lines = dict(line.rstrip().split(":", 1) for line in stream)
    except FileNotFoundError:
        return  # it has exited, or /proc hides it: kill(2) will tell
    unit, other = _unit("self"), _unit(str(pid))
    if unit.endswith(".service") and unit != other:
        raise Error(
            f"process {pid} belongs to {other or 'no unit'}, not to {unit}, which runs this "
            "command; sent no signal. To reload another site use `sdactivate reload NAME`"
        )
    blocked, caught = int(lines["SigBlk"], 16), int(lines["SigCgt"], 16)
    hangup = caught if pid == 1 else caught | blocked
    if not (blocked >> (ASK - 1) & 1 and hangup >> (signal.SIGHUP - 1) & 1):
        raise Error(
            f"process {pid} is not an `sdactivate serve` process, and a signal could kill it; "
            "sent no signal. `systemctl show -P MainPID NAME` prints the right PID"
        )
    if int(lines["Uid"].split()[0]) != os.getuid():
        raise PermissionError  # root may signal it, but it may not signal root


def _unit(pid: str) -> str:
    """Return the unit that a process belongs to; "" for none."""
    try:
        with open(f"/proc/{pid}/cgroup") as stream:
            return unit_of(stream.read())
    except OSError:
        return ""
