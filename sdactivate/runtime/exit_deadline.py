"""End the process by a deadline, whatever threads and exit handlers the application leaves.

An interpreter does not exit before every thread that is no daemon has ended and every exit handler
has run (threading, atexit). An application may have started such threads and never end them: a
process that has handed over would then stay for ever. So there is a deadline for the exit, too.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from sdactivate import log, stdio

# Seconds that exit handlers have at least
_LEAST = 5.0

_guarded = 0  # the process that has its guard


class Process(Protocol):
    """What a process does until it exits. deadline: for its exit, on the monotonic clock."""

    deadline: float

    def run(self) -> int: ...


def run(process: Process) -> int:
    """Run `process` and return its exit code; from then on it is held to its deadline."""
    code = 1
    try:
        code = process.run()
    finally:
        end_by(process.deadline, code)
    return code


def end_by(deadline: float, code: int = 1) -> None:
    """See to it that this process exits by then (time.monotonic), with `code` if it must be cut.

    Only the first call counts: a forked child that leaves passes its parent's as well.
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
        log.say(log.WARNING, f"left in spite of what the application has running: {what}")
        stdio.flush()
        os._exit(code)

    try:
        threading.Thread(target=cut, name="end", daemon=True).start()
    except RuntimeError:
        os._exit(code)  # no thread to be had, so no other way to keep the promise


def _left_running() -> str:
    main = threading.main_thread()
    threads = (thread for thread in threading.enumerate() if not thread.daemon)
    return ", ".join(log.escape(thread.name) for thread in threads if thread is not main)
