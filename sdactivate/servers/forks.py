"""Detect that this process has forked, so that a child may hold its connections open.

A connection ends for its peer when the last descriptor of it is closed. A child process that an
application forks and that lives on has copies of all that were open, so from the first fork on
connections are shut down (shutdown(2)) before they are closed. Programs that are executed, as by
`subprocess`, get none: descriptors are closed on execution.
"""

import os

happened = False


def _note() -> None:
    global happened
    happened = True


def _forget() -> None:
    global happened
    happened = False  # a worker process: its connections are its own


os.register_at_fork(before=_note, after_in_child=_forget)
