"""Pause the garbage collector while the application is imported, and before forks.

Imports create many objects that are never freed, so the collector runs often and scans the same
objects again and again: a fifth of a Django site's start. And it writes into each object that it
scans, so forked processes soon stop sharing that memory (fork(2), copy on write).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Container objects, allocated minus freed: ten times what a Django site imports. For an application
# that creates more, or much garbage, the collector still runs.
_MANY = 1_000_000


@contextmanager
def later() -> Iterator[None]:
    """Pause the collector while an application is imported.

    Its objects then count as old: they are scanned with the old generation and not during the first
    request. Settings that the application makes itself are kept.
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
            gc.freeze()  # into the permanent generation, which is never scanned,
            gc.unfreeze()  # and from there to the oldest generation


def share() -> None:
    """Exclude all existing objects from collection, since forks are about to share them."""
    gc.collect()
    gc.freeze()
