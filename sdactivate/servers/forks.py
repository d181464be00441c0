"""Detect that this process has forked, so that a child may hold its connections open.

A connection ends for its peer when its last descriptor is closed. A child process that an
application forks, and that keeps running, has copies of all open descriptors. So from the first
fork on, connections are shut down (shutdown(2)) before they are closed. Executed programs, as with
`subprocess`, get no copies: the descriptors are closed on exec.
"""

import os

happened = False


def _note() -> None:
    global happened
    happened = True


def _forget() -> None:
    global happened
    happened = False  # in the child, such as a worker process: it will have its own connections


os.register_at_fork(before=_note, after_in_child=_forget)
