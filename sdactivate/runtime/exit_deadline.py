"""Exit by a deadline, even if threads or exit handlers of the application don't finish.

An interpreter does not exit before every non-daemon thread has ended and every exit handler has run
(threading, atexit). If the application never ends such a thread, a process that has handed over
would stay forever. So there is a deadline for the exit, too.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from sdactivate import log, stdio

# The least time for exit handlers, in seconds
_LEAST = 5.0

_guarded = 0  # the PID of the process whose guard runs


class Process(Protocol):
    """A process's work until its exit. deadline: for the exit, on the monotonic clock."""

    deadline: float

    def run(self) -> int: ...


def run(process: Process) -> int:
    """Run `process` and return its exit code; from then on its deadline is enforced."""
    code = 1
    try:
        code = process.run()
    finally:
        end_by(process.deadline, code)
    return code


def end_by(deadline: float, code: int = 1) -> None:
    """Make this process exit by `deadline` (time.monotonic), with `code` if it must be forced.

    Only the first call has an effect: a forked child that exits runs its parent's code as well.
    """
    global _guarded
    if _guarded == os.getpid():
        return
    _guarded = os.getpid()
    deadline = max(deadline, time.monotonic() + _LEAST)
    left = _left_running()
    if left:
        log.say(log.NOTICE, f"waiting for the application's threads to end: {left}")

    def cut() -> None:
        time.sleep(deadline - time.monotonic())
        what = _left_running() or "exit handlers"
        log.say(log.WARNING, f"exited while the application was still running: {what}")
        stdio.flush()
        os._exit(code)

    try:
        threading.Thread(target=cut, name="end", daemon=True).start()
    except RuntimeError:
        os._exit(code)  # no thread can be started, so exit now


def _left_running() -> str:
    main = threading.main_thread()
    threads = (thread for thread in threading.enumerate() if not thread.daemon)
    return ", ".join(log.escape(thread.name) for thread in threads if thread is not main)
