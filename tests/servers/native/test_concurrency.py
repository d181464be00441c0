"""How many threads may run, by what was seen of them: the controller as a table."""

import pytest

from sdactivate.servers.native.concurrency import SLOW_TICK, TICK, Look, State, decide

SIZE = 8


@pytest.mark.parametrize(
    ("before", "look", "after"),
    [
        # They want more than a CPU: one fewer, but never none
        (State(8), Look(2, 8, 1.5, 0.0), State(7, 0, TICK)),
        (State(2), Look(2, 2, 0.96, 0.0), State(1, 0, TICK)),
        (State(1), Look(2, 2, 1.5, 0.0), State(1, 0, TICK)),
        # One that computes is alone: nobody is in its way
        (State(8), Look(1, 8, 1.0, 0.0), State(8, 1, TICK)),
        # All that may run are in requests and wait for something else: twice as many
        (State(1), Look(1, 1, 0.5, 0.0), State(2, 0, TICK)),
        (State(3), Look(3, 3, 0.79, 0.0), State(6, 0, TICK)),
        (State(6), Look(6, 6, 0.5, 0.0), State(8, 0, TICK)),
        # They compute, each for long: one more, for what is short
        (State(1), Look(1, 1, 0.9, 0.11), State(2, 0, TICK)),
        (State(1), Look(1, 1, 0.9, 0.09), State(1, 0, TICK)),
        # One is free: enough
        (State(4), Look(3, 4, 0.5, 1.0), State(4, 0, TICK)),
        # Never more than there are
        (State(8), Look(8, 8, 0.5, 1.0), State(8, 0, TICK)),
        # Calm: fewer looks, in the end none, and all are allowed
        (State(4, 3), Look(1, 4, 0.1, 0.0), State(4, 4, SLOW_TICK)),
        (State(4, 19), Look(1, 4, 0.1, 0.0), State(8, 0, None)),
        (State(4, 19), Look(2, 4, 0.5, 0.0), State(4, 0, TICK)),
        (State(4, 5), Look(1, 4, 0.9, 0.0), State(4, 6, TICK)),
        (State(1, 5), Look(0, 1, 0.2, 0.0), State(1, 6, SLOW_TICK)),
    ],
)
def test_what_follows_from_a_look(before: State, look: Look, after: State) -> None:
    assert decide(SIZE, before, look) == after
