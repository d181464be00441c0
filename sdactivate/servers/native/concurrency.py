"""Decide how many threads may serve at the same time: a pure function of what was seen.

No clocks, no threads and no locks in here. Every few milliseconds the pool says what it sees (a
`Look`) and obeys what it is told (a `State`):

- If the threads want a whole CPU or more, one fewer is allowed.
- If every allowed thread is in a request and together they want less than a CPU, they wait for
  something else, and twice as many are allowed. If they do want it but have been at the same
  requests for long, one more is, so that short requests overtake long ones.
- When things have been calm for some looks, all are allowed, and nobody needs to look.
"""

from typing import NamedTuple

# Seconds between two looks, while threads overlap and while all is well
TICK = 0.004
SLOW_TICK = 0.02
# Shares of one CPU: above, a thread too many; below, room for more
_FULL = 0.95
_ROOM = 0.80
_CALM = 0.30
_CALM_LOOKS = 20
# In its request for so many seconds, a thread that computes makes room for another as well
_LONG = 0.1


class Look(NamedTuple):
    """What the pool's threads are doing.

    busy: threads in a request, without those that wait for their peers. running: threads that are
    neither parked nor wait for their peers. demand: the share of one CPU that the process has
    wanted since the last look: what it ran, and what its busy threads stood in the scheduler's
    queue. youngest: seconds that the busy thread with the newest request has been in it, infinite
    if none is busy.
    """

    busy: int
    running: int
    demand: float
    youngest: float


class State(NamedTuple):
    """What follows from a look.

    allowed: threads that may run. calm: looks in a row at which things were calm. again: seconds
    to the next look, None: when threads overlap again.
    """

    allowed: int
    calm: int = 0
    again: float | None = TICK


def decide(size: int, state: State, look: Look) -> State:
    """Return the state of a pool of `size` threads that follows from a look at it."""
    allowed = state.allowed
    busy, running, demand, youngest = look
    if demand > _FULL and busy > 1 and allowed > 1:
        allowed -= 1
    elif busy >= running and allowed < size:
        if demand < _ROOM:
            allowed *= 2
        elif youngest > _LONG:
            allowed += 1
    allowed = min(allowed, size)
    calm = state.calm + 1 if demand < _CALM or busy < 2 < allowed else 0
    if calm < _CALM_LOOKS:
        return State(allowed, calm, TICK if demand > _CALM else SLOW_TICK)
    return State(size, 0, None)
