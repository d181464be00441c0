"""The record of fixed size that a serving process publishes, for `sdactivate status` to read.

It lies in a file in memory (memfd_create(2)) that the process keeps open: it needs no directory and
no permission, works in every sandbox, and is gone with the process. Root reads it by way of
/proc/PID/fd. The application has the same process and may write what it likes there, so that a
reader takes nothing for granted but the size.
"""

import math
import struct
import time
from bisect import bisect
from collections.abc import Iterable
from typing import NamedTuple

NAME = "sdactivate-status"
"""What the file is called: /proc/PID/fd shows it as /memfd:NAME (deleted)."""

_MAGIC = b"sdstat01"
SLOTS = 60
BUCKETS = 96
_REASON = 200
# A sequence number stands at both ends: where they differ, the record was being written
_RECORD = struct.Struct(f"<8sQ 3d 2Q 5I i {SLOTS}I Q {SLOTS}I Q {BUCKETS}I H{_REASON}s Q")
SIZE = _RECORD.size
_MOST = 1 << 62


class Ring:
    """Counts by number (of a second, of a minute), each kept until SLOTS newer numbers have come.

    last: the newest number. slots: each count, at its number modulo SLOTS.
    """

    def __init__(self, last: int = 0, slots: tuple[int, ...] = (0,) * SLOTS) -> None:
        self.last = last
        self.slots = list(slots)

    def add(self, number: int) -> None:
        """Count one more at `number`; one that is older than the newest counts there."""
        for missed in range(max(self.last, number - SLOTS) + 1, number + 1):
            self.slots[missed % SLOTS] = 0
        self.last = max(self.last, number)
        self.slots[self.last % SLOTS] += 1

    def since(self, number: int) -> int:
        """Return how many there have been at `number` and later."""
        oldest = max(number, self.last - SLOTS + 1)
        return sum(self.slots[each % SLOTS] for each in range(oldest, self.last + 1))


class Record(NamedTuple):
    """What one process says of itself.

    since, reloaded: when the service began and when this process took it over, in seconds of the
    epoch; 0: it has not. oldest: seconds that the request under way for longest has taken. backlog:
    None where it is not known. failed_reloads, reason: how many have failed, and why the last one.
    seconds, minutes: when responses were 5xx, by the monotonic clock. durations: how many of the
    latest requests took how long, as `histogram` says.
    """

    since: float = 0.0
    reloaded: float = 0.0
    oldest: float = 0.0
    requests: int = 0
    errors: int = 0
    busy: int = 0
    threads: int = 0
    workers: int = 0
    failed_reloads: int = 0
    is_worker: int = 0
    backlog: int | None = None
    seconds: Ring = Ring()
    minutes: Ring = Ring()
    durations: tuple[int, ...] = (0,) * BUCKETS
    reason: str = ""

    def pack(self, sequence: int) -> bytes:
        """Return the record as it is written. `sequence` grows with each write."""
        reason = self.reason.encode("utf-8", "replace")[:_REASON]
        return _RECORD.pack(
            *(_MAGIC, sequence, self.since, self.reloaded, self.oldest),
            *(self.requests, self.errors),
            *(self.busy, self.threads, self.workers, self.failed_reloads, self.is_worker),
            -1 if self.backlog is None else self.backlog,
            *self.seconds.slots,
            self.seconds.last,
            *self.minutes.slots,
            self.minutes.last,
            *self.durations,
            *(len(reason), reason, sequence),
        )


def unpack(data: bytes) -> Record | None:
    """Return the record in `data`; None where it is none, or is being written.

    Every number is within bounds; the reason is not escaped.
    """
    if len(data) != SIZE:
        return None
    magic, sequence, since, reloaded, oldest, requests, errors, *rest = _RECORD.unpack(data)
    if magic != _MAGIC or rest[-1] != sequence:
        return None
    busy, threads, workers, failed, is_worker, backlog = rest[:6]
    rest = rest[6:]
    rings = []
    for _ in range(2):
        rings.append(Ring(min(rest[SLOTS], _MOST), tuple(rest[:SLOTS])))
        rest = rest[SLOTS + 1 :]
    length, reason = rest[BUCKETS], rest[BUCKETS + 1]
    return Record(
        since=_within(since),
        reloaded=_within(reloaded),
        oldest=_within(oldest),
        requests=requests,
        errors=errors,
        busy=busy,
        threads=threads,
        workers=workers,
        failed_reloads=failed,
        is_worker=min(is_worker, 1),
        backlog=backlog if backlog >= 0 else None,
        seconds=rings[0],
        minutes=rings[1],
        durations=tuple(rest[:BUCKETS]),
        reason=reason[: min(length, _REASON)].decode("utf-8", "replace"),
    )


def utc(moment: float) -> str:
    """Return a time in seconds of the epoch as people are shown it: 2026-11-28 10:15:30 UTC.

    What is local is the application's to say: Django sets the process's zone to its TIME_ZONE.
    """
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def _within(moment: float) -> float:
    """Return a time that can be shown: until the year 2286."""
    return min(max(moment, 0.0), 1e10) if math.isfinite(moment) else 0.0


# A bucket is a quarter wider than the one before: from a microsecond to half an hour
_WIDTH = 1.25
_BOUNDS = [1e-6 * math.pow(_WIDTH, number) for number in range(1, BUCKETS)]


def histogram(durations: Iterable[float]) -> tuple[int, ...]:
    """Return how many of `durations`, in seconds, each bucket has; 0.0 is none."""
    counts = [0] * BUCKETS
    for seconds in durations:
        if seconds:
            counts[bisect(_BOUNDS, seconds)] += 1
    return tuple(counts)


def percentile(durations: tuple[int, ...], part: float) -> float | None:
    """Return what `part` of the durations, 0 to 1, do not exceed, in seconds; None: there are none.

    Within an eighth: it is the middle of a bucket.
    """
    left = math.ceil(sum(durations) * part)
    if not left:
        return None
    number = -1
    while left > 0:
        number += 1
        left -= durations[number]
    return 1e-6 * math.pow(_WIDTH, number + 0.5)
