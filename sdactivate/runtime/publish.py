"""Publish the state of a process for `sdactivate status`: see `status_record`."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from sdactivate.status_record import NAME, SIZE, Record

if TYPE_CHECKING:
    from sdactivate.servers.api import Figures, Lately

# fcntl(2): the file keeps its size, which readers rely on
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Publisher:
    """The record of this process. A forked child has none until it creates its own."""

    def __init__(self) -> None:
        self._fd = -1
        self._is: tuple[int, int] | None = None  # the file's device and inode
        self._sequence = 0
        self._works = True
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        if self._is_ours():
            os.close(self._fd)
        self._fd, self._is = -1, None

    def publish(self, record: Record) -> None:
        """Write the record. Does nothing if it can't be created (no memory, a sandbox)."""
        if not self._works:
            return
        try:
            if self._fd < 0:
                self._fd = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(self._fd, SIZE)
                fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
                found = os.fstat(self._fd)
                self._is = found.st_dev, found.st_ino
            elif not self._is_ours():
                # The application has closed it, and the descriptor is now another file
                self._works = False
                return
            self._sequence += 1
            os.pwrite(self._fd, record.pack(self._sequence), 0)
        except OSError:
            self._works = False

    def _is_ours(self) -> bool:
        try:
            found = os.fstat(self._fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._is


def record_of(figures: Figures, lately: Lately) -> Record:
    """Return a record with the figures of a server."""
    return Record(
        oldest=figures.oldest,
        requests=figures.requests,
        errors=figures.errors,
        busy=figures.busy,
        threads=figures.threads,
        workers=figures.workers,
        backlog=figures.backlog,
        seconds=lately.seconds,
        minutes=lately.minutes,
        durations=lately.durations,
    )
