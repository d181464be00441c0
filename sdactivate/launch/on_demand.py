"""Start a command at the first connection, and again after it has exited (--on-demand).

The activator holds the listening sockets and polls them only while no command runs. The command
accepts connections, the activator never does. A connection that arrives while the command exits
waits in the backlog, and the next poll() reports it, so no request is lost or sent twice. Between
events the activator sleeps in poll(), without a timer and without using the processor.

A command that fails is not restarted for every connection: each failure doubles the pause before
the next start. A run that succeeds after more than a second resets the pause. A command that exits
at once, with any exit status, has not served the connection, and counts as a failure, too.

TERM and INT are passed to the command, and the activator exits after the command. HUP restarts the
command without losing requests: the command gets TERM, finishes its accepted requests, and the next
connection, which waits in the backlog, starts it again; HUP also ends a pause. USR1, USR2 and WINCH
are passed on. If the activator is killed, the kernel sends the command TERM.

From the fork until the child has its own handlers, both block these signals: the child's inherited
handlers would write them to the activator's pipe.
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
SERVED = 1.0  # a shorter run counts as a failure

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
        """Run until TERM or INT; return the exit code."""
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
            say(f"{how}; waiting {pause:g} s before the next start")
            self._wait((), time.monotonic() + pause)
            if self._restarting:
                pause = 0.0

    def _run_once(self) -> tuple[bool, str]:
        """Start the command and wait for its exit; return whether it served, and how it exited."""
        began = time.monotonic()
        try:
            self._start()
        except OSError as error:  # out of memory, or the user's process limit is reached
            return False, f"can't start a process ({error.strerror})"
        status = self._finish()
        lasted = time.monotonic() - began
        served = status == 0 and lasted >= SERVED
        return served, f"process exited {_how(status)} after {lasted:.1f} s"

    def _wait(self, descriptors: Iterable[int], until: float | None) -> None:
        """Sleep until a descriptor is readable, the time `until`, HUP, or a stop."""
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
        """Handle the signals that have arrived: each byte of the pipe is a signal number."""
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
        """In the child: execute the command, with the activator's inherited signal handling."""
        try:
            # A session of its own: ^C at the terminal reaches the command once, through the
            # activator, and only the activator has the terminal
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
        """Wait for the child; return its exit status in the form of waitstatus_to_exitcode."""
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
