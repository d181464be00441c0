"""Decide how many threads may serve at the same time: a pure function of observations.

This module has no clocks, threads or locks. Every few milliseconds the pool passes its observations
(a `Look`) and applies the result (a `State`):

- Two are allowed at rest: a request that comes while another waits is served at once, and a burst
  of requests that compute begins with hardly more threads than it needs.
- If the threads want a whole CPU or more for some looks, half as many are allowed, but one more
  than have been at the same request for long: short requests overtake long ones.
- If all that are allowed have been at the same requests for long, twice as many are allowed.
- If together they want less than a CPU for some looks, or hardly any at one, and none of them or
  only one is free, they wait for something else, and twice as many are allowed.
- When things have been calm for some looks, nobody needs to look. Two are allowed again, or all
  where several wait for something.
"""

from typing import NamedTuple

# Threads that are allowed at rest
REST = 2
# Seconds between two looks, while threads overlap and while all is well
TICK = 0.004
SLOW_TICK = 0.02
# Shares of one CPU: above, a thread too many; below, room for more
FULL = 0.95
_ROOM = 0.80
_CALM = 0.30
# Looks in a row: one alone may be chance
_SURE = 2
_CALM_LOOKS = 20
# Seconds in the same request, from which on it is a long one
LONG = 0.05


class Look(NamedTuple):
    """Observations of the pool's threads.

    busy: threads in a request, without those that wait for their peers. running: threads that are
    neither parked nor wait for their peers. demand: the share of one CPU that the process has
    wanted since the last look: what it ran, and what its busy threads stood in the scheduler's
    queue. long: the busy threads that have been in the same request for more than LONG seconds.
    """

    busy: int
    running: int
    demand: float
    long: int


class State(NamedTuple):
    """The result of a look.

    allowed: threads that may run. calm: looks in a row at which things were calm. trend: looks in a
    row at which there was room, or as a negative number at which a whole CPU was wanted. again:
    seconds to the next look, None: when threads overlap again.
    """

    allowed: int
    calm: int = 0
    trend: int = 0
    again: float | None = TICK


def decide(size: int, state: State, look: Look) -> State:
    """Return the state of a pool of `size` threads that follows from a look at it."""
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
