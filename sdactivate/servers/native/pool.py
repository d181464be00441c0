"""The thread pool: start, park, lend and stop threads.

Python runs one thread at a time. In an application that computes, a second thread only delays the
first: throughput stays the same, and the slowest requests become eight times slower. In one that
waits (for a database, for another service), a waiting thread costs nothing, and another can run in
its place. Administrators should not have to know which kind a site is, and most are both. So the
pool observes what its threads do:

- Two of them are `allowed` at first, and while the site is quiet: an arriving request wakes one
  thread that sleeps in epoll_wait, a second one at the same time the other.
- When requests overlap, a controller checks every few milliseconds and decides how many are
  allowed (`concurrency.py`). A thread beyond that number parks before it would take another
  request.

A thread that waits for its own peer, because the application generates the response piece by piece
or reads a streamed body, lends its place: another thread, if needed an extra one, takes requests
meanwhile. The number of lent places is limited; beyond it the slowest peer is disconnected. An
interpreter without the global lock keeps all its threads allowed.

A pool of one thread also lends it, but its application relies on being called by one thread at a
time. So from then on the threads take turns: one that returns from a slow peer waits until the
other has finished its request or lends its own place.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread, get_ident
from typing import Any, Protocol

from sdactivate.servers.native.concurrency import FULL, LONG, REST, TICK, Look, State, decide

# Seconds to wait for a peer before it can count as the slowest, if there is another one
_MOMENT = 2.0
RECENT = 256
"""Requests of a thread whose durations are kept: a power of two."""


class Job(Protocol):
    """The work of a thread, and its connection."""

    @property
    def connection(self) -> Any: ...

    def where(self) -> str: ...


class SlowPeer(Protocol):
    """The peer that a lent thread waits for."""

    def rate(self, now: float) -> float:
        """Bytes per second that it has read or sent during the wait."""

    def cut(self, why: str) -> None:
        """Disconnect it, which ends the thread's wait."""


class Worker:
    """A thread of the pool and what it is doing.

    response: what it is serving, None between requests. since: when that began, or when the last
    one ended, on the monotonic clock. moved: when it last sent or received a piece of a body.
    served: the number of finished requests. recent: the durations of the latest RECENT of them in
    seconds, unordered; 0.0: unused. lent: since when it waits for its peer, 0.0: it does not.
    has_turn: whether it excludes other threads from the application.
    """

    __slots__ = (
        *("_schedstat", "gate", "has_turn", "lent", "moved", "parked", "recent", "response"),
        *("served", "since", "thread"),
    )

    def __init__(self) -> None:
        self.thread: Thread | None = None
        self.response: Job | None = None
        self.since = time.monotonic()
        self.moved = 0.0
        self.served = 0
        self.recent = [0.0] * RECENT
        self.parked = False
        self.lent = 0.0
        self.has_turn = False
        self.gate = Lock()
        self.gate.acquire()
        self._schedstat = -1

    def queued(self) -> int:
        """Nanoseconds that the thread has waited in the scheduler's queue so far (proc(5))."""
        try:
            if self._schedstat < 0:
                assert self.thread is not None
                path = f"/proc/self/task/{self.thread.native_id}/schedstat"
                self._schedstat = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return int(os.pread(self._schedstat, 64, 0).split()[1])
        except (OSError, IndexError):
            return 0  # not available here: only the time that it ran counts


class Pool:
    """The threads of a server; each runs `work(worker)` until the server stops.

    size: the most threads that may serve at the same time. lendable: the most additional threads
    that may wait for slow peers. poke: called by any thread to wake the controller.

    lent: the threads that wait for slow peers. takes_turns: whether only one thread at a time may
    be in the application; it must call `take_turn` before and `end_turn` afterwards.
    """

    def __init__(
        self,
        size: int,
        lendable: int,
        work: Callable[[Worker], None],
        poke: Callable[[], None],
    ) -> None:
        self.size = size
        self.lendable = lendable
        self.lent: dict[Worker, SlowPeer] = {}
        self.takes_turns = False
        self._turn = Lock()
        self._adapts = size > 1 and getattr(sys, "_is_gil_enabled", lambda: True)()
        self.allowed = min(size, REST) if self._adapts else size
        self.running = 0  # threads neither parked nor lent
        self.workers: dict[int, Worker] = {}  # by thread identity
        self.asleep: dict[Worker, None] = {}  # those that wait for an event
        self.watched = False  # whether the controller looks every few milliseconds
        self._work = work
        self._poke = poke
        self._mutex = Lock()
        self._started = 0
        self._parked: list[Worker] = []
        self._stopping = False
        self._state = State(self.allowed)
        self._at = 0  # the time of the last look; with the figures then, in nanoseconds
        self._ran = 0
        self._queued: dict[Worker, int] = {}

    def start(self) -> None:
        """Start the threads. Raises RuntimeError if the system can't start one."""
        for _ in range(self.size):
            self._add()

    def _add(self) -> None:
        worker = Worker()
        self._started += 1
        name = f"request-{self._started}"
        worker.thread = Thread(target=self._run, args=(worker,), name=name, daemon=True)
        self.running += 1
        try:
            worker.thread.start()
        except BaseException:
            self.running -= 1
            self._started -= 1
            raise

    def _run(self, worker: Worker) -> None:
        self.workers[get_ident()] = worker
        self._work(worker)

    def overlap(self) -> None:
        """Wake the controller. Called when several threads are busy."""
        if self._adapts and not self.watched:
            self.watched = True
            self._poke()

    def park(self, worker: Worker) -> None:
        """If too many threads run, wait until this one is needed again."""
        with self._mutex:
            if self.running <= self.allowed or self._stopping:
                return
            self.running -= 1
            worker.parked = True
            self._parked.append(worker)
        worker.gate.acquire()

    @contextmanager
    def lending(self, peer: SlowPeer) -> Iterator[None]:
        """Let another thread serve while this one waits for `peer` in the block."""
        worker = self.workers.get(get_ident())
        if not self.lendable or worker is None:
            yield
            return
        with self._mutex:
            self.takes_turns = self.size == 1
            self.running -= 1
            worker.lent = time.monotonic()
            if len(self.lent) >= self.lendable:
                self._cut_slowest()
            self.lent[worker] = peer
            self.end_turn(worker)
            self._fill()
        try:
            yield
        finally:
            with self._mutex:
                self.lent.pop(worker, None)
                self.running += 1  # maybe one too many now; the next free thread parks
                worker.lent = 0.0
            worker.moved = time.monotonic()
            if self.takes_turns and worker.response is not None:
                self.take_turn(worker)

    def take_turn(self, worker: Worker) -> None:
        """Wait until no other thread is in the application."""
        self._turn.acquire()
        worker.has_turn = True

    def end_turn(self, worker: Worker) -> None:
        """Let another thread enter the application, if this one excluded it."""
        if worker.has_turn:
            worker.has_turn = False
            self._turn.release()

    def _cut_slowest(self) -> None:
        now = time.monotonic()
        # A peer whose wait has just begun has had no time to read or send anything
        slow = [worker for worker in self.lent if now - worker.lent >= _MOMENT]
        worker = min(slow or [next(iter(self.lent))], key=lambda each: self.lent[each].rate(now))
        self.lent.pop(worker).cut(
            f"the slowest of {self.lendable} peers that each hold a thread (lent_threads)"
        )

    def progress(self) -> None:
        """Record that the calling thread has sent or received a piece of a body."""
        worker = self.workers.get(get_ident())
        if worker is not None:
            worker.moved = time.monotonic()

    def _fill(self) -> None:
        """Unpark or start threads up to the allowed number. The caller must hold the mutex."""
        while self.running < self.allowed and self._parked:
            worker = self._parked.pop()
            worker.parked = False
            self.running += 1
            worker.gate.release()
        if self.running < self.allowed and self._started < self.size + self.lendable:
            try:
                self._add()
            except RuntimeError:
                pass  # no thread can be started: continue with the existing ones

    def stop(self) -> None:
        """Unpark every thread, so that it notices that the server stops."""
        with self._mutex:
            self._stopping = True
            self.allowed = len(self.workers) + 1
            while self._parked:
                worker = self._parked.pop()
                worker.parked = False
                self.running += 1
                worker.gate.release()

    def join(self, deadline: float) -> bool:
        """Wait for the threads until `deadline` (monotonic); return whether all have ended."""
        for worker in list(self.workers.values()):
            assert worker.thread is not None
            worker.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(w.thread.is_alive() for w in self.workers.values() if w.thread)

    def tick(self) -> float | None:
        """Do one check of the controller. Returns seconds to the next; None: wait to be poked."""
        if not self.watched:
            return None
        now = time.monotonic()
        busy = [w for w in list(self.workers.values()) if w.response and not w.lent]
        demand = self._demand(busy)
        if demand is None:
            return TICK
        long = sum(now - worker.since > LONG for worker in busy)
        look = Look(len(busy), self.running, demand, long)
        self._state = state = decide(self.size, self._state, look)
        if state.allowed != self.allowed:
            self._allow(state.allowed)
        if state.again is None:
            self.watched = False
            # Threads that wake up from now on poke. One that woke up before, and is not in a
            # request yet, has not.
            if self.allowed < self.size and self.running - len(self.asleep) > 1:
                self.watched = True
                return TICK
            self._at = 0
        return state.again

    def _allow(self, count: int) -> None:
        with self._mutex:
            if not self._stopping:
                self.allowed = count
                self._fill()

    def _demand(self, busy: list[Worker]) -> float | None:
        """The share of a CPU that was demanded since the last look; None: not known yet.

        If the threads have had a whole CPU, their waits in the scheduler's queue are not read: each
        read is a system call, after which this thread waits for the interpreter's lock until every
        other one has had it for 5 ms.
        """
        now = time.monotonic_ns()
        ran = time.process_time_ns()
        at, share = self._at, 0.0
        if at:
            share = (ran - self._ran) / (now - at)
        self._at, self._ran = now, ran
        if share > FULL:
            self._queued = {}
            return share
        before = self._queued
        self._queued = queued = {worker: worker.queued() for worker in busy}
        if not at or (busy and not before):
            return None
        waited = sum(max(0, queued[w] - before[w]) for w in busy if w in before)
        return share + waited / (now - at)
