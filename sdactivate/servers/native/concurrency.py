"""Decide how many threads may serve at the same time: a pure function of observations.

This module has no clocks, threads or locks. Every few milliseconds the pool passes its observations
(a `Look`) and applies the result (a `State`):

- Two are allowed at rest: a request that arrives while another waits is served at once, and a burst
  of CPU-bound requests begins with hardly more threads than it needs.
- If the threads demand a whole CPU or more for several looks, half as many are allowed, but at
  least one more than have been in the same request for long: short requests overtake long ones.
- If all allowed threads have been in the same requests for long, twice as many are allowed.
- If together they demand less than a CPU for several looks, or hardly any in one, and at most one
  of them is free, they wait for something else, and twice as many are allowed.
- If the load has been low for several looks, the looks stop. Two are allowed again, or all of them
  if several threads wait for something.
"""

from typing import NamedTuple

# Threads that are allowed at rest
REST = 2
# Seconds between two looks, while demand is high and while it is low
TICK = 0.004
SLOW_TICK = 0.02
# Shares of one CPU: above FULL there are too many threads; below _ROOM there is room for more
FULL = 0.95
_ROOM = 0.80
_CALM = 0.30
# Looks in a row: a single one may be accidental
_SURE = 2
_CALM_LOOKS = 20
# A request that has taken more seconds than this is a long one
LONG = 0.05


class Look(NamedTuple):
    """Observations of the pool's threads.

    busy: threads in a request, without those that wait for their peers. running: threads that are
    not parked and do not wait for their peers. demand: the share of one CPU that the process has
    demanded since the last look: the time that it ran, and that its busy threads waited in the
    scheduler's queue. long: busy threads that have been in the same request for more than LONG
    seconds.
    """

    busy: int
    running: int
    demand: float
    long: int


class State(NamedTuple):
    """The result of a look.

    allowed: threads that may run. calm: looks in a row with low load. trend: looks in a row with
    room for more threads, or, as a negative number, with a whole CPU demanded. again: seconds to
    the next look, None: when threads overlap again.
    """

    allowed: int
    calm: int = 0
    trend: int = 0
    again: float | None = TICK


def decide(size: int, state: State, look: Look) -> State:
    """Return the new state of a pool of `size` threads after a look at it."""
    allowed = state.allowed
    busy, running, demand, long = look
    trend = 0
    if demand > FULL:
        trend = min(state.trend, 0) - 1
    elif demand < _ROOM:
        trend = max(state.trend, 0) + 1
    if long and long >= running:
        allowed = max(allowed, 2 * long)
    elif trend <= -_SURE and busy - long > 1:
        allowed = min(allowed, max(allowed // 2, long + 1))
    elif (trend >= _SURE or demand < _CALM) and (busy >= running or busy + 1 == running > REST):
        allowed *= 2
    allowed = min(allowed, size)
    unused = busy < 2 and (allowed > 2 or (allowed == 2 and demand < _ROOM))
    calm = state.calm + 1 if demand < _CALM or unused else 0
    if calm < _CALM_LOOKS:
        return State(allowed, calm, trend, TICK if demand > _CALM else SLOW_TICK)
    return State(min(REST, size) if busy < 2 else size, 0, 0, None)
