"""The event loop: one epoll set, and threads that each take what is ready.

    thread: take an event -> accept or read -> call the application -> write -> next

There is no thread that only accepts or only dispatches: a free thread sleeps in epoll_wait,
and the kernel wakes the one that fell asleep last, whose caches are warm. One thread accepts,
reads, serves, writes and closes a small request, in five system calls. With several worker
processes EPOLLEXCLUSIVE wakes one of them at a time.

All descriptors are registered once, edge-triggered, so each event is reported only once: one that a
thread does not handle at once must be kept. Kept events are in `_ready`, listeners whose backlog
may not be empty are in `more`, and a free thread checks both before it sleeps. The order of these
checks and of marking itself asleep makes this correct: see `_take_turns`.

Every watched object has an `fd` and a `wake()`, which any thread may call at any time.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from sdactivate import log
from sdactivate.servers.native.pool import Pool, Worker


class Wakeable(Protocol):
    """What can be kept for later."""

    def wake(self) -> None: ...


class Watchable(Wakeable, Protocol):
    """What can be watched."""

    fd: int


# A peer has closed its side, or the connection has ended
_ENDS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
W = TypeVar("W", bound=Watchable)


class Waker:
    """An eventfd in the epoll set: each write to it wakes one sleeping thread."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def wake(self) -> None:
        """Do nothing: the thread is awake now, and checks for kept events."""

    def write(self) -> None:
        os.eventfd_write(self.fd, 1)


class Loop(Generic[W]):
    """The events that the threads of a server wait for and handle.

    threads, lendable, poke: see `Pool`. fault: called with an exception from handling an event,
    which never comes from the application.

    pool: the threads. connections: those that wait for their peers, by descriptor. more:
    listeners whose backlog may not be empty. draining: whether the threads end after the last
    connection.
    """

    def __init__(
        self,
        threads: int,
        lendable: int,
        poke: Callable[[], None],
        fault: Callable[[Exception], None],
    ) -> None:
        self.pool = Pool(threads, lendable, self._run, poke)
        self.connections: dict[int, W] = {}
        self.more: dict[Watchable, None] = {}
        self.draining = False
        self._fault = fault
        self._epoll = select.epoll()
        self._ready: deque[Wakeable] = deque()
        self._watched: dict[int, Any] = {}
        self._waker = Waker()

    def start(self) -> None:
        """Start the threads. Raises RuntimeError if the system can't start one."""
        self._watched[self._waker.fd] = self._waker
        self._epoll.register(self._waker.fd, select.EPOLLIN | select.EPOLLET)
        self.pool.start()

    def drain(self) -> None:
        """Have the threads end when no connection is left."""
        self.draining = True
        self.pool.stop()
        self._waker.write()

    # What is watched

    def start_listening(self, listener: Watchable) -> None:
        """Wake `listener` whenever a peer connects."""
        self._watched[listener.fd] = listener
        self._epoll.register(listener.fd, select.EPOLLIN | select.EPOLLET | select.EPOLLEXCLUSIVE)

    def stop_listening(self, listener: Watchable) -> None:
        """Leave the backlog of `listener` to other processes."""
        self._watched.pop(listener.fd, None)
        try:
            self._epoll.unregister(listener.fd)
        except OSError:
            pass  # the application has closed it

    def watch(self, connection: W) -> None:
        """Wake `connection` whenever its peer has sent data or closed the connection."""
        self.replace(connection)
        self._epoll.register(connection.fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def expect_room(self, connection: W, expected: bool = True) -> None:
        """Wake `connection` also when its peer can accept more output, or stop doing that.

        Only while output is pending: otherwise every response would cause events.
        """
        events = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
        self._epoll.modify(connection.fd, events | select.EPOLLOUT if expected else events)

    def replace(self, connection: W) -> None:
        """Make `connection` the owner of its watched descriptor."""
        self.connections[connection.fd] = self._watched[connection.fd] = connection

    def forget(self, fd: int) -> None:
        """Stop watching a connection that is about to be closed."""
        self.connections.pop(fd, None)
        self._watched.pop(fd, None)
        if self.draining and not self.connections:
            self._waker.write()

    # What is kept for later

    def put_off(self, target: Wakeable) -> None:
        """Have a thread that is or becomes free wake `target`."""
        self._ready.append(target)
        if self.pool.asleep:
            self._waker.write()

    def hear(self, but: int = -1) -> None:
        """Keep the events that have occurred by now, except those of descriptor `but`."""
        self._keep([event for event in self._epoll.poll(0) if event[0] != but])

    def rouse(self) -> None:
        """Wake a thread if events are kept: more threads may be allowed than before."""
        pool = self.pool
        if pool.asleep and (self._ready or self.more or pool.running > pool.allowed):
            self._waker.write()

    def _keep(self, events: list[tuple[int, int]]) -> None:
        for fd, mask in events:
            target = self._watched.get(fd)
            if target is not None:
                if mask & _ENDS:
                    target.half_closed = True
                self._ready.append(target)

    # What threads do

    def _run(self, worker: Worker) -> None:
        """The main function of a thread: handle events until the server stops."""
        while not (self.draining and self._is_empty()):
            try:
                self._take_turns(worker)
            except Exception as error:
                self.pool.asleep.pop(worker, None)
                worker.response = None
                self._fault(error)
                self._check_epoll()
        self._waker.write()  # so that the next thread ends, too

    def _is_empty(self) -> bool:
        return not self.connections and not self._ready

    def _take_turns(self, worker: Worker) -> None:
        pool, ready, watched, more = self.pool, self._ready, self._watched, self.more
        asleep, alone = pool.asleep, pool.size == 1
        wait = self._epoll.poll
        target: Any
        while not (self.draining and self._is_empty()):
            if pool.running > pool.allowed:
                # A sleeping thread must handle the kept events, or park as well
                if asleep and (ready or more or pool.running > pool.allowed + 1):
                    self._waker.write()
                pool.park(worker)  # returns at once at a stop: what is left must be served
            if ready:
                try:
                    target = ready.popleft()
                except IndexError:
                    continue
                if ready and asleep:
                    self._waker.write()  # events that came together may have woken only one thread
            elif more:
                try:
                    target, _ = more.popitem()
                except KeyError:
                    continue
            else:
                asleep[worker] = None
                # A thread that adds to `ready` or `more` checks `asleep` afterwards
                idle = not (ready or more)
                events = wait(-1, 1 if pool.allowed > 1 else 16) if idle else []
                del asleep[worker]
                if not events:
                    continue
                fd, mask = events[0]
                target = watched.get(fd)
                if mask & _ENDS and target is not None:
                    target.half_closed = True
                if len(events) > 1:
                    self._keep(events[1:])
            if target is not None:
                if not (alone or pool.watched) and pool.running - len(asleep) > 1:
                    pool.overlap()
                target.wake()

    def _check_epoll(self) -> None:
        """Exit if this process can't get events any more."""
        try:
            self._keep(self._epoll.poll(0))  # edge-triggered: they are not reported again
        except OSError:
            log.say(
                log.ERROR,
                "The application has closed file descriptors of the server, as os.closerange() "
                "and daemonising libraries do. This process can't serve any more",
            )
            os._exit(1)
