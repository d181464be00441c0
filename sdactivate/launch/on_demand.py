"""Start a command at the first connection, and again after it has exited (--on-demand).

The activator holds the listening sockets and looks at them only while no command runs: the
command accepts, the activator never does. A connection that comes while the command is
leaving waits in the backlog and is what poll() sees next, so nothing is lost and nothing is
asked twice. Between events it sleeps in poll(): no timer, no processor time.

A command that fails is not started as fast as connections come: each failure doubles the
pause before the next start, a run that ends well after its first second ends the pauses. A
command that leaves at once, whatever its exit status, did not serve what it was started for,
and counts as a failure too.

TERM and INT are passed to the command, and the activator leaves when the command has. HUP is a
restart that loses nothing: the command is told TERM, finishes what it has accepted, and the next
connection, which has waited in the socket, starts it anew; a pause ends at once. USR1, USR2 and
WINCH are passed on. If the activator is killed, the kernel sends the command TERM.

From fork until the child has handlers of its own, both block these signals: the child would
write what it is told to the pipe that the activator reads.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

from sdactivate.launch import syscalls
from sdactivate.launch.talk import say

FIRST_PAUSE = 1.0  # seconds, after the first failure
LONGEST_PAUSE = 60.0
SERVED = 1.0  # a run shorter than this has served nobody

_STOP = (signal.SIGTERM, signal.SIGINT)
_FORWARD = (*_STOP, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_HANDLED = (*_FORWARD, signal.SIGCHLD)


class Activator:
    """Runs `execute` in a child process whenever one of `descriptors` has a connection waiting."""

    def __init__(self, descriptors: Iterable[int], execute: Callable[[], object]) -> None:
        self._descriptors = tuple(descriptors)
        self._execute = execute
        self._child = 0
        self._stopping = False
        self._restarting = False
        self._signals, self._wakeup = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(self._wakeup, False)

    def run(self) -> int:
        """Serve until TERM or INT; returns the exit code."""
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, lambda *_: None)
        pause = 0.0
        while True:
            self._wait(self._descriptors, None)
            if self._stopping:
                return 0
            self._restarting = False
            served, how = self._run_once()
            if self._stopping:
                return 0
            if served or self._restarting:
                pause = 0.0
                say(f"{how}; waiting for a connection")
                continue
            pause = min(max(FIRST_PAUSE, pause * 2), LONGEST_PAUSE)
            say(f"{how}; no new start for {pause:g} s")
            self._wait((), time.monotonic() + pause)
            if self._restarting:
                pause = 0.0

    def _run_once(self) -> tuple[bool, str]:
        """Start the command and wait for its end; returns whether it served, and how it ended."""
        began = time.monotonic()
        try:
            self._start()
        except OSError as error:  # no memory, or as many processes as the user may have
            return False, f"no process could be started ({error.strerror})"
        status = self._finish()
        lasted = time.monotonic() - began
        served = status == 0 and lasted >= SERVED
        return served, f"process ended {_how(status)} after {lasted:.1f} s"

    def _wait(self, descriptors: Iterable[int], until: float | None) -> None:
        """Sleep until a descriptor is readable, `until` is reached or HUP ends it, or a stop."""
        poll = select.poll()
        for fd in (*descriptors, self._signals):
            poll.register(fd, select.POLLIN)
        while not (self._stopping or (until and self._restarting)):
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            ready = [fd for fd, _ in poll.poll(left)]
            if self._signals in ready:
                self._pass_on()
            elif ready or left == 0:
                return

    def _pass_on(self) -> None:
        """Handle the signals that have come: each byte of the pipe is one's number."""
        for number in os.read(self._signals, 4096):
            self._stopping |= number in _STOP
            self._restarting |= number == signal.SIGHUP
            if self._child and number in _FORWARD:
                os.kill(self._child, signal.SIGTERM if number == signal.SIGHUP else number)

    def _start(self) -> None:
        parent = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            self._child = os.fork()
            if not self._child:
                self._become(parent, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        say(f"a connection is waiting: started process {self._child}")

    def _become(self, parent: int, mask: Iterable[int]) -> NoReturn:
        """In the child: be the command, with the signals as the activator found them."""
        try:
            # A ^C at the terminal reaches it through the activator, once; and the terminal is
            # the activator's alone
            os.setsid()
            syscalls.signal_at_parents_death(signal.SIGTERM)
            for number in _HANDLED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if os.getppid() == parent:
                self._execute()
        except BaseException as error:
            say(str(error))
        finally:
            os._exit(1)

    def _finish(self) -> int:
        """Wait for the child; returns its exit status as waitstatus_to_exitcode gives it."""
        while True:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            if pid:
                self._child = 0
                return os.waitstatus_to_exitcode(status)
            poll = select.poll()
            poll.register(self._signals, select.POLLIN)
            poll.poll()
            self._pass_on()


def _how(status: int) -> str:
    return f"with status {status}" if status >= 0 else f"by signal {signal.Signals(-status).name}"
