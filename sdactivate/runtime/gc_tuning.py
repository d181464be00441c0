"""When the garbage collector waits: while the application is imported, and before forks.

Imports make objects that stay. They are many, so the collector runs often, and looks again and
again at what it has seen before: a fifth of the time in which a Django site starts. And it writes
into each object that it looks at, so that processes which have come from one by fork(2) do not
share them for long.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Objects with references to others, beyond those freed: ten times what Django's own sites import.
# An application that makes more, or much garbage, is still looked after.
_MANY = 1_000_000


@contextmanager
def later() -> Iterator[None]:
    """Let the collector wait while an application is imported.

    What that has made counts as old then: it is looked at with the rest when it is due, and not
    in the first request. What the application sets for itself, holds.
    """
    before = gc.get_threshold()
    patient = (_MANY, *before[1:])
    gc.set_threshold(*patient)
    try:
        yield
    finally:
        if gc.get_threshold() == patient:
            gc.set_threshold(*before)
        if not gc.get_freeze_count():
            gc.freeze()  # into the generation that is never looked at,
            gc.unfreeze()  # and from there to the oldest one


def share() -> None:
    """Keep the collector off all that there is: it is about to be shared by forks."""
    gc.collect()
    gc.freeze()
