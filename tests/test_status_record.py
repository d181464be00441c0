"""What a process publishes is read again; what anything else has written is read as something."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sdactivate.status_record import (
    BUCKETS,
    SIZE,
    SLOTS,
    Record,
    Ring,
    histogram,
    percentile,
    unpack,
)


@given(st.binary(min_size=SIZE, max_size=SIZE) | st.binary(), st.booleans())
def test_anything_may_be_written_there(data: bytes, magic: bool) -> None:
    if magic and len(data) == SIZE:
        good = Record().pack(1)
        data = good[:16] + data[16:-8] + good[-8:]  # whole, as far as its ends tell
    found = unpack(data)
    if magic and len(data) == SIZE:
        assert found is not None
    if found is not None:
        assert all(math.isfinite(each) for each in (found.since, found.reloaded, found.oldest))
        assert all(0 <= each <= 1e10 for each in (found.since, found.reloaded, found.oldest))
        assert found.seconds.since(0) <= SLOTS << 32
        assert percentile(found.durations, 0.99) != 0
        assert len(found.reason) <= 200


@given(st.lists(st.integers(0, 300)), st.integers(0, 300))
def test_a_ring_counts_what_is_recent(numbers: list[int], since: int) -> None:
    ring = Ring()
    for number in sorted(numbers):
        ring.add(number)
    last = max(numbers, default=0)
    oldest = max(since, last - SLOTS + 1)
    assert ring.since(since) == sum(n for each, n in Counter(numbers).items() if each >= oldest)


def test_what_is_published_is_read_again() -> None:
    seconds = Ring()
    seconds.add(4711)
    durations = (*range(BUCKETS),)
    written = Record(1.5, 2.5, 3.5, 4, 5, 6, 7, 8, 9, 1, None, seconds, Ring(), durations, "why ü")
    found = unpack(written.pack(7))
    assert found is not None
    assert found._replace(seconds=written.seconds, minutes=written.minutes) == written
    assert found.seconds.since(4711) == 1
    torn = written.pack(7)[:-8] + written.pack(8)[-8:]
    assert unpack(torn) is None


@given(st.floats(0, 3600))
def test_a_duration_is_told_within_an_eighth(seconds: float) -> None:
    found = percentile(histogram([seconds, 0.0, seconds]), 0.5)
    assert (found is None) == (not seconds)
    if found is not None and 1e-6 <= seconds <= 1800:
        assert 0.88 <= found / seconds <= 1.13
    assert percentile((0,) * BUCKETS, 0.5) is None
