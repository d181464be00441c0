"""How many threads may run, by what was seen of them: the controller as a table, and simulated.

The simulation has no clock and no threads: it counts milliseconds. Threads that compute take turns
of 5 ms, as the interpreter's lock gives them, and the controller waits for its turn behind them.
"""

import random
import statistics
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from sdactivate.servers.native.concurrency import (
    LONG,
    REST,
    SLOW_TICK,
    TICK,
    Look,
    State,
    decide,
)

SIZE = 8


@pytest.mark.parametrize(
    ("before", "look", "after"),
    [
        # They want more than a CPU, for two looks in a row: half as many, but at least one
        (State(8), Look(2, 8, 1.5, 0), State(8, 0, -1, TICK)),
        (State(8, 0, -1), Look(2, 8, 1.5, 0), State(4, 0, -2, TICK)),
        (State(4, 0, -2), Look(4, 4, 1.5, 0), State(2, 0, -3, TICK)),
        (State(2, 0, -1), Look(2, 2, 0.96, 0), State(1, 0, -2, TICK)),
        (State(1, 0, -1), Look(2, 2, 1.5, 0), State(1, 0, -2, TICK)),
        (State(8, 0, 1), Look(2, 8, 1.5, 0), State(8, 0, -1, TICK)),
        # One that computes is alone: the file has no userss way
        (State(8, 0, -5), Look(1, 8, 1.0, 0), State(8, 1, -6, TICK)),
        # Those that are at it for long, and one more
        (State(8, 0, -1), Look(5, 8, 1.0, 3), State(4, 0, -2, TICK)),
        (State(8, 0, -1), Look(8, 8, 1.0, 5), State(6, 0, -2, TICK)),
        (State(6, 0, -2), Look(6, 6, 1.0, 5), State(6, 0, -3, TICK)),
        (State(1, 0, -9), Look(2, 2, 1.0, 2), State(4, 0, -10, TICK)),
        (State(1, 0, 0), Look(1, 1, 0.9, 1), State(2, 0, 0, TICK)),
        (State(1, 0, 0), Look(1, 1, 0.9, 0), State(1, 0, 0, TICK)),
        (State(8, 0, -9), Look(8, 8, 1.0, 8), State(8, 0, -10, TICK)),
        # All that may run are in requests and wait for something else: twice as many
        (State(1), Look(1, 1, 0.5, 0), State(1, 0, 1, TICK)),
        (State(1, 0, 1), Look(1, 1, 0.5, 0), State(2, 1, 2, TICK)),
        (State(2, 0, 0), Look(2, 2, 0.1, 0), State(4, 1, 1, SLOW_TICK)),
        (State(3, 0, 1), Look(3, 3, 0.79, 0), State(6, 0, 2, TICK)),
        (State(6, 0, 2), Look(6, 6, 0.5, 0), State(8, 0, 3, TICK)),
        # One is free: at rest that is enough, where several wait it is soon taken
        (State(2, 0, 1), Look(1, 2, 0.5, 0), State(2, 1, 2, TICK)),
        (State(4, 0, 1), Look(3, 4, 0.5, 0), State(8, 0, 2, TICK)),
        (State(8, 0, 1), Look(6, 8, 0.5, 0), State(8, 0, 2, TICK)),
        # Calm: fewer looks, in the end none
        (State(4, 3), Look(1, 4, 0.1, 0), State(4, 4, 1, SLOW_TICK)),
        (State(4, 19), Look(1, 4, 0.1, 0), State(REST, 0, 0, None)),
        (State(8, 19), Look(4, 8, 0.1, 4), State(SIZE, 0, 0, None)),
        (State(4, 19), Look(2, 4, 0.5, 0), State(4, 0, 1, TICK)),
        (State(4, 5), Look(1, 4, 0.9, 0), State(4, 6, 0, TICK)),
        (State(2, 5), Look(1, 2, 0.9, 0), State(2, 0, 0, TICK)),
        (State(2, 5), Look(1, 2, 0.7, 0), State(2, 6, 1, TICK)),
    ],
)
def test_what_follows_from_a_look(before: State, look: Look, after: State) -> None:
    assert decide(SIZE, before, look) == after


@dataclass
class Request:
    """One that waits for `wait` ms and then computes for `cpu` ms."""

    cpu: int
    wait: int = 0
    came: int = 0
    began: int = -1
    ended: int = -1

    @property
    def took(self) -> int:
        return self.ended - self.came


@dataclass
class Site:
    """A pool, milliseconds, and what is done in them. stolen: every second one is another's."""

    size: int = SIZE
    stolen: bool = False
    now: int = 0
    waiting: deque[Request] = field(default_factory=deque)
    busy: list[Request] = field(default_factory=list)
    computing: deque[Request] = field(default_factory=deque)
    done: list[Request] = field(default_factory=list)
    turn: int = 0
    next_look: int | None = None
    looked: int = 0
    wanted: int = 0
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(min(self.size, REST))

    def ask(self, request: Request) -> Request:
        request.came = self.now
        self.waiting.append(request)
        return request

    def step(self) -> None:
        """One millisecond."""
        while self.waiting and len(self.busy) < self.state.allowed:
            request = self.waiting.popleft()
            request.began = self.now
            self.busy.append(request)
            if not request.wait:
                self.computing.append(request)
        if len(self.busy) > 1 and self.next_look is None and self.size > 1:
            self.next_look, self.looked, self.wanted = self.now, self.now, 0
        self._compute()
        self.now += 1
        for request in list(self.busy):
            if request.wait:
                request.wait -= 1
                if not request.wait and request.cpu:
                    self.computing.append(request)
            if not request.wait and not request.cpu:
                request.ended = self.now
                self.busy.remove(request)
                self.done.append(request)
        if self.next_look is not None and self.now >= self.next_look:
            self._look()

    def _compute(self) -> None:
        if not self.computing:
            return
        self.wanted += 1  # the other's milliseconds are stood in the scheduler's queue
        if self.stolen and self.now % 2:
            return
        request = self.computing[0]
        request.cpu -= 1
        self.turn += 1
        if not request.cpu:
            self.computing.popleft()
            self.turn = 0
        elif self.turn >= 5:
            self.computing.rotate(-1)
            self.turn = 0

    def _look(self) -> None:
        again: float | None = TICK
        if self.now > self.looked:
            demand = self.wanted / (self.now - self.looked)
            long = sum(self.now - request.began > LONG * 1000 for request in self.busy)
            running = max(len(self.busy), self.state.allowed)
            look = Look(len(self.busy), running, demand, long)
            self.state = decide(self.size, self.state, look)
            again = self.state.again
        self.looked, self.wanted = self.now, 0
        late = 5 * len(self.computing)
        self.next_look = None if again is None else self.now + round(again * 1000) + late

    def closed_loop(self, clients: int, milliseconds: int, request: Callable[[], Request]) -> int:
        """Let each of the clients ask again and again; how many requests were answered."""
        until, before = self.now + milliseconds, len(self.done)
        for _ in range(clients):
            self.ask(request())
        while self.now < until:
            already = len(self.done)
            self.step()
            for _ in self.done[already:]:
                self.ask(request())
        return len(self.done) - before

    def rest(self, milliseconds: int) -> None:
        for _ in range(milliseconds):
            self.step()


def p99(requests: list[Request]) -> float:
    return statistics.quantiles([request.took for request in requests], n=100)[-1]


@pytest.mark.parametrize("after", [0, 10, 50, 100, 500])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_requests_that_compute_for_long_leave_room_for_a_quick_one(count: int, after: int) -> None:
    site = Site()
    for _ in range(count):
        site.ask(Request(3000))
    site.rest(after)
    quick = site.ask(Request(1))
    while quick.ended < 0 and site.now < 20_000:
        site.step()
    assert quick.took <= 200  # beside which the lock's turns, one for each system call, have room


def bursts(size: int, clients: int, milliseconds: int, stolen: bool) -> Iterator[float]:
    """The slowest hundredth of each burst, ms."""
    site = Site(size, stolen)
    for _ in range(3):
        site.closed_loop(clients, milliseconds, lambda: Request(2))
        yield p99(site.done)
        site.rest(5000)
        site.done.clear()


@pytest.mark.parametrize("stolen", [False, True], ids=["alone", "half a core"])
@pytest.mark.parametrize("milliseconds", [300, 5000])
@pytest.mark.parametrize("clients", [4, 8, 16, 64])
def test_eight_threads_that_compute_are_hardly_slower_than_one(
    clients: int, milliseconds: int, stolen: bool
) -> None:
    several = statistics.median(bursts(SIZE, clients, milliseconds, stolen))
    one = statistics.median(bursts(1, clients, milliseconds, stolen))
    assert several <= 1.5 * one


@pytest.mark.parametrize("clients", [8, 16])
def test_threads_that_wait_are_all_used(clients: int) -> None:
    site = Site()
    answered = site.closed_loop(clients, 5000, lambda: Request(0, 5))
    # In steps of a millisecond a client asks again one too late
    ideal = 5000 / (5 if clients > SIZE else 6) * SIZE
    assert answered >= 0.95 * ideal


def test_quick_requests_beside_some_that_wait_for_long() -> None:
    site, chance = Site(), random.Random(1)
    quick = []
    for _ in range(60_000):
        if chance.random() < 0.02:
            is_quick = chance.random() < 0.9
            asked = site.ask(Request(1) if is_quick else Request(0, 1000))
            if is_quick:
                quick.append(asked)
        site.step()
    site.rest(5000)
    assert p99(quick) <= 3 * statistics.median(each.took for each in quick)
