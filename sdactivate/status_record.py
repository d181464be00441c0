"""The fixed-size record that a serving process publishes and `sdactivate status` reads.

It is in a memory file (memfd_create(2)) that the process keeps open: it needs no directory or
permission, works in every sandbox, and disappears with the process. Root reads it through
/proc/PID/fd. The application shares the process and can write anything there, so a reader trusts
nothing except the size.
"""

import math
import struct
import time
from bisect import bisect
from collections.abc import Iterable
from typing import NamedTuple

NAME = "sdactivate-status"
"""The file's name: /proc/PID/fd shows it as /memfd:NAME (deleted)."""

_MAGIC = b"sdstat01"
SLOTS = 60
BUCKETS = 96
_REASON = 200
# A sequence number is at both ends: if they differ, the record was being written
_RECORD = struct.Struct(f"<8sQ 3d 2Q 5I i {SLOTS}I Q {SLOTS}I Q {BUCKETS}I H{_REASON}s Q")
SIZE = _RECORD.size
_MOST = 1 << 62


class Ring:
    """Counts by a number (of a second, of a minute), for the latest SLOTS numbers.

    last: the newest number. slots: the counts, each at its number modulo SLOTS.
    """

    def __init__(self, last: int = 0, slots: tuple[int, ...] = (0,) * SLOTS) -> None:
        self.last = last
        self.slots = list(slots)

    def add(self, number: int) -> None:
        """Add one at `number`, or at the newest number if `number` is older."""
        for missed in range(max(self.last, number - SLOTS) + 1, number + 1):
            self.slots[missed % SLOTS] = 0
        self.last = max(self.last, number)
        self.slots[self.last % SLOTS] += 1

    def since(self, number: int) -> int:
        """Return the sum of the counts from `number` on."""
        oldest = max(number, self.last - SLOTS + 1)
        return sum(self.slots[each % SLOTS] for each in range(oldest, self.last + 1))


class Record(NamedTuple):
    """The state of one process.

    since, reloaded: when the service started and when this process took over, in seconds since the
    epoch; 0: it has not. oldest: age in seconds of the oldest request in progress. backlog: None if
    unknown. failed_reloads, reason: the number of failed reloads, and the reason of the last one.
    seconds, minutes: counts of 5xx responses, by the monotonic clock. durations: a histogram of the
    durations of the latest requests, see `histogram`.
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
        """Return the record's bytes. `sequence` must increase with each write."""
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
    """Return the record in `data`; None if it is not valid or is being written.

    All numbers are within bounds; the reason is not escaped.
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
    """Format a time in seconds since the epoch: 2026-11-28 10:15:30 UTC.

    UTC, because the local time zone of the process is the application's: Django sets TIME_ZONE.
    """
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def _within(moment: float) -> float:
    """Limit a time to what can be formatted: until the year 2286."""
    return min(max(moment, 0.0), 1e10) if math.isfinite(moment) else 0.0


# Each bucket is a quarter wider than the one before: from a microsecond to half an hour
_WIDTH = 1.25
_BOUNDS = [1e-6 * math.pow(_WIDTH, number) for number in range(1, BUCKETS)]


def histogram(durations: Iterable[float]) -> tuple[int, ...]:
    """Return the count of `durations`, in seconds, in each bucket; 0.0 is not counted."""
    counts = [0] * BUCKETS
    for seconds in durations:
        if seconds:
            counts[bisect(_BOUNDS, seconds)] += 1
    return tuple(counts)


def percentile(durations: tuple[int, ...], part: float) -> float | None:
    """Return the quantile `part`, 0 to 1, of the durations in seconds; None if there are none.

    The result is the middle of a bucket, accurate to an eighth.
    """
    left = math.ceil(sum(durations) * part)
    if not left:
        return None
    number = -1
    while left > 0:
        number += 1
        left -= durations[number]
    return 1e-6 * math.pow(_WIDTH, number + 0.5)
