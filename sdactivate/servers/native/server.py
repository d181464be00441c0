"""The loop of the native server: one epoll set, and threads that each take what is ready.

    thread: take an event -> accept or read -> call the application -> write -> next

There is no thread that only accepts or only dispatches: whoever is free sleeps in epoll_wait,
and the kernel wakes the one that slept last, whose caches are warm. A small request is accepted,
read, served, written and closed by one thread in five system calls. With several worker processes
EPOLLEXCLUSIVE wakes one of them at a time.

Nothing is accepted unless a thread is free to serve it: the kernel's backlog is the only queue.
A connection that is accepted and has not said enough yet costs a descriptor and no thread.

The first byte of a connection tells its protocol: a digit begins an SCGI netstring, 1 is
FastCGI's version, 0 (or 100, a ping) uwsgi's modifier, and a letter begins an HTTP method. PROXY
protocol headers, which begin with the letters PROXY or with a line break, belong to HTTP.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import select
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from threading import get_ident
from time import monotonic
from typing import Any, ClassVar

from sdactivate.runtime import log
from sdactivate.runtime.activation import InheritedSocket
from sdactivate.runtime.serving import Figures
from sdactivate.servers.native import forwarded
from sdactivate.servers.native.base import base_environ
from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.fastcgi import FastCgi
from sdactivate.servers.native.http import Http
from sdactivate.servers.native.listener import Listener
from sdactivate.servers.native.plain import Scgi, Uwsgi
from sdactivate.servers.native.pool import Pool, Worker
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wsgi import Application, Response
from sdactivate.settings import Settings

PROTOCOLS: dict[str, type[Connection]] = {
    "scgi": Scgi,
    "fastcgi": FastCgi,
    "uwsgi": Uwsgi,
    "http": Http,
}
_LETTERS = range(0x41, 0x5B)
BY_FIRST_BYTE: dict[int, type[Connection]] = {
    **dict.fromkeys(range(0x30, 0x3A), Scgi),
    1: FastCgi,
    0: Uwsgi,
    100: Uwsgi,
    **dict.fromkeys(_LETTERS, Http),
    **dict.fromkeys((0x0D, 0x0A), Http),
}
# How long accepting rests when there are no descriptors left
_REST = 0.1
# Deadlines are looked at so often, seconds
_SWEEP = 1.0


class Waker:
    """An eventfd in the epoll set: each write to it wakes one sleeping thread."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def wake(self) -> None:
        """Nothing to be done: the thread is awake, and looks round."""

    def write(self) -> None:
        os.eventfd_write(self.fd, 1)


class Server:
    """One process's native server.

    application: a WSGI callable. sockets: the listening sockets it shares with its supervisor.
    settings: see `sdactivate.settings`. poke: called by any thread when `tick` is wanted and
    its caller sleeps. gate: decides which peers are served, None: all.

    A server of other codecs derives from it: `protocols` are those that a socket can be pinned
    to, `by_first_byte` what a connection of any other socket becomes.
    """

    protocols: ClassVar[Mapping[str, type[Connection]]] = PROTOCOLS
    by_first_byte: ClassVar[Mapping[int, type[Connection]]] = BY_FIRST_BYTE

    def __init__(
        self,
        application: Application,
        sockets: Sequence[InheritedSocket],
        settings: Settings,
        poke: Any = lambda: None,
        gate: Any = None,
    ) -> None:
        self.application = application
        self.settings = settings
        self.gate = gate
        self.errors = 0  # requests that failed or were refused
        self.accepting = False
        self.draining = False
        self.base = base_environ(settings)
        self.trusted = forwarded.networks(settings.trust)
        self.fastcgi_values = {
            "FCGI_MAX_CONNS": str(settings.connections * settings.workers),
            "FCGI_MAX_REQS": str(settings.connections * settings.workers),
            "FCGI_MPXS_CONNS": "0",
        }
        self._http_base = {**self.base, "REMOTE_ADDR": forwarded.UNKNOWN}
        del self._http_base["CONTENT_LENGTH"]
        self.failed: str | None = None  # a process of threads goes on as long as it lives
        self.unobserved = False  # the steward sleeps until the next request
        self.pool = Pool(settings.threads, self._work, poke)
        self._poke = poke
        self._epoll = select.epoll()
        # What a thread that is free looks at before it sleeps: what is to be woken, and listeners
        # whose backlog may not be empty
        self._ready: deque[Any] = deque()
        self.more: dict[Listener, None] = {}
        self._watched: dict[int, Any] = {}
        self._waker = Waker()
        self._connections: dict[int, Connection] = {}
        self._resting_until = 0.0
        self._complained = -math.inf
        self._swept = 0.0
        self.listeners = [
            Listener(self, inherited, self.pinned(inherited.name)) for inherited in sockets
        ]

    def pinned(self, name: str) -> type[Connection] | None:
        """The one protocol of the socket called `name`: by the setting, by its name, or None."""
        if self.settings.protocol != "auto":
            return self.protocols[self.settings.protocol]
        return self.protocols.get(name)

    # Life

    def start(self) -> None:
        """Begin to accept. The inherited sockets become non-blocking, as systemd made them."""
        self._make_room()
        et = select.EPOLLIN | select.EPOLLET
        self._watched[self._waker.fd] = self._waker
        self._epoll.register(self._waker.fd, et)
        self.accepting = True
        for listener in self.listeners:
            listener.sock.setblocking(False)
            self._watched[listener.fd] = listener
            self._epoll.register(listener.fd, et | select.EPOLLEXCLUSIVE)
        self.pool.start()

    def _make_room(self) -> None:
        """Raise the soft limit of descriptors as far as the connections need, and may.

        No further than that: select(2), which a library may still use, ends at 1023.
        """
        connections, threads = self.settings.connections, self.settings.threads
        # A thread's peer, and what an application opens in a request; the rest of the process
        wanted = connections + 16 * threads + 128
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        except (OSError, ValueError):
            limit = soft  # a sandbox forbids it
        if limit < connections:
            log.say(
                log.WARNING,
                f"connections={connections}, but this process may have only {limit} descriptors: "
                "set LimitNOFILE= in the service unit, or fewer connections",
            )

    def drain(self) -> None:
        """Accept no more; finish what was accepted. The backlog is left to the next process."""
        self.accepting = False
        self.draining = True
        for listener in self.listeners:
            self._watched.pop(listener.fd, None)
            try:
                self._epoll.unregister(listener.fd)
            except OSError:
                pass  # the application has closed it
        self.pool.stop()
        for connection in list(self._connections.values()):
            connection.retire()
        self._waker.write()

    def join(self, seconds: float) -> bool:
        """Wait so long for the threads to end; whether they have."""
        return self.pool.join(monotonic() + seconds)

    def cut(self) -> None:
        """Close what is left, whatever it is doing."""
        for connection in list(self._connections.values()):
            connection.close()

    # Figures

    def figures(self) -> Figures:
        """Return how the server is doing."""
        now = monotonic()
        workers = list(self.pool.workers.values())
        busy = [worker for worker in workers if worker.response is not None]
        return Figures(
            requests=sum(worker.served for worker in workers),
            errors=self.errors,
            busy=len(busy),
            threads=self.settings.threads,
            oldest=max((now - worker.since for worker in busy), default=0.0),
            idle=min((now - worker.since for worker in workers), default=0.0),
            backlog=self._backlog(),
        )

    def _backlog(self) -> int | None:
        """Connections that wait to be accepted; the kernel tells of TCP's only (tcp(7))."""
        waiting = [
            int.from_bytes(info[24:28], sys.byteorder)  # tcpi_unacked, of a listening socket
            for listener in self.listeners
            if listener.is_tcp
            and (info := listener.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))
        ]
        return sum(waiting) if waiting else None

    def stalled(self, seconds: float) -> bool:
        """Whether every thread has been in the same request for so long."""
        now = monotonic()
        workers = [worker for worker in list(self.pool.workers.values()) if not worker.parked]
        return bool(workers) and all(
            worker.response is not None and now - worker.since > seconds for worker in workers
        )

    def stacks(self, seconds: float) -> list[str]:
        """Return the requests that have taken longer than `seconds`, each with its stack."""
        import traceback

        now = monotonic()
        frames = sys._current_frames()
        return [
            f"{worker.response.where()}\n{''.join(traceback.format_stack(frames[ident]))}".rstrip()
            for ident, worker in list(self.pool.workers.items())
            if worker.response is not None and now - worker.since > seconds and ident in frames
        ]

    @property
    def open_connections(self) -> int:
        """How many connections wait for their peers."""
        return len(self._connections)

    def tick(self) -> float | None:
        """Do what is due. Returns seconds to the next time, None: when it is poked."""
        now = monotonic()
        due = self.pool.tick()
        if self.pool.asleep and (self._ready or self.more):
            self._waker.write()  # somebody may have been allowed since
        if self._resting_until:
            if now >= self._resting_until:
                self._resting_until = 0.0
                for listener in self.listeners:
                    self.put_off(listener)
            due = _sooner(due, _REST)
        if self._connections:
            if now - self._swept >= _SWEEP:
                self._swept = now
                for connection in list(self._connections.values()):
                    if self.draining:
                        connection.retire()  # those that were being accepted when it began
                    if 0 < connection.deadline <= now:
                        connection.expire(now)
            due = _sooner(due, _SWEEP)
        return due

    # What threads do

    def _work(self, worker: Worker) -> None:
        """Take events until the server stops: the life of a thread."""
        while not (self.draining and self._finished()):
            try:
                self._take_turns(worker)
            except Exception as error:
                self.pool.asleep.pop(worker, None)
                worker.response = None
                self.fault(error)
                self._check_epoll()
        self._waker.write()  # and the next one

    def _check_epoll(self) -> None:
        """End a process that can hear of nothing any more."""
        try:
            self._keep(self._epoll.poll(0))  # edge-triggered: nobody is told of them again
        except OSError:
            log.say(
                log.ERROR,
                "The application has closed descriptors that are not its own, as os.closerange() "
                "and daemonising libraries do. This process can serve no longer",
            )
            os._exit(1)

    def fault(self, error: Exception) -> None:
        """Say that this server itself has failed: it costs a connection, and no thread."""
        self.errors += 1
        log.say_exception("a fault in sdactivate itself; please report it", error)

    def _take_turns(self, worker: Worker) -> None:
        pool, ready, watched, more = self.pool, self._ready, self._watched, self.more
        asleep = pool.asleep
        wait = self._epoll.poll
        target: Any
        while not (self.draining and self._finished()):
            if pool.running > pool.allowed:
                pool.park(worker)  # not at a stop: what is left must be served
            if ready:
                try:
                    target = ready.popleft()
                except IndexError:
                    continue
                if ready and asleep:
                    self._waker.write()  # what was left at the same time may have woken one only
            elif more:
                try:
                    target, _ = more.popitem()
                except KeyError:
                    continue
            else:
                asleep[worker] = None
                # Who puts something into `ready` or `more` looks at `asleep` next
                idle = not (ready or more)
                events = wait(-1, 1 if pool.allowed > 1 else 16) if idle else []
                del asleep[worker]
                if not events:
                    continue
                fd, mask = events[0]
                target = watched.get(fd)
                if mask != select.EPOLLIN and target is not None:
                    target.half_closed = True
                if len(events) > 1:
                    self._keep(events[1:])
                if not pool.watched and pool.running - len(asleep) > 1:
                    pool.overlap()
            if target is not None:
                target.wake()

    def _keep(self, events: list[tuple[int, int]]) -> None:
        """Leave what has happened besides for after this turn."""
        for fd, mask in events:
            target = self._watched.get(fd)
            if target is not None:
                if mask != select.EPOLLIN:
                    target.half_closed = True
                self._ready.append(target)

    def _finished(self) -> bool:
        return not self._connections and not self._ready

    def respond(self, response: Response) -> None:
        """Let the application answer."""
        worker = self.pool.workers[get_ident()]
        began = worker.since = monotonic()
        worker.response = response
        if self.unobserved:  # asked only now: who looks sees the response
            self.unobserved = False
            self._poke()
        response.run(self.application)
        worker.response = None
        worker.served += 1
        worker.since = monotonic()
        if self.settings.access_log:
            response.record((worker.since - began) * 1000)

    def http_base(self, address: Any) -> dict[str, Any]:
        """The variables of an HTTP connection whose peer, or its client, is at `address`."""
        if not isinstance(address, tuple) or not isinstance(address[0], str):
            return self._http_base
        return {**self._http_base, "REMOTE_ADDR": address[0], "REMOTE_PORT": str(address[1])}

    def lending(self) -> AbstractContextManager[None]:
        """See Pool.lending."""
        return self.pool.lending()

    def hear(self, but: int) -> None:
        """Note what has happened meanwhile, other than to descriptor `but`."""
        self._keep([event for event in self._epoll.poll(0) if event[0] != but])

    def put_off(self, target: Any) -> None:
        """Let a thread that is or becomes free wake `target`."""
        self._ready.append(target)
        if self.pool.asleep:
            self._waker.write()

    def watch(self, connection: Connection) -> None:
        """Wake `connection` whenever its peer has said something."""
        connections, limit = self._connections, self.settings.connections
        fd = connection.fd
        connections[fd] = self._watched[fd] = connection
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        while len(connections) > limit and self.evict(f"connections={limit}, and all are taken"):
            pass
        if len(connections) == 1:
            self._poke()

    def forget(self, fd: int) -> None:
        """A watched connection is about to be closed."""
        self._connections.pop(fd, None)
        self._watched.pop(fd, None)
        if self.draining and not self._connections:
            self._waker.write()

    def replace(self, connection: Connection) -> None:
        """A watched descriptor is another object's from now on."""
        self._connections[connection.fd] = self._watched[connection.fd] = connection

    def evict(self, why: str, until: float = math.inf) -> bool:
        """Close the connection that has waited longest, if since before `until`; whether it was."""
        waiting = list(self._connections.values())  # others change it meanwhile
        waiting.sort(key=lambda each: each.since)
        return any(each.since < until and each.give_way(why) for each in waiting)

    def rest(self, error: OSError) -> None:
        """Accept nothing for a moment: there are no descriptors or no memory left."""
        now = monotonic()
        if now - self._complained > 60:
            self._complained = now
            hint = ". LimitNOFILE= in the service unit sets how many descriptors there are"
            log.say(
                log.ERROR,
                f"cannot accept: {error.strerror}; connections wait in the backlog"
                + (hint if error.errno == errno.EMFILE else ""),
            )
        self._resting_until = now + _REST
        self._poke()

    def check_length(self, length: int) -> None:
        """Refuse a body of `length` bytes where that is over the limit."""
        limit = self.settings.body_bytes
        if limit and length > limit:
            raise Malformed(
                f"a body of {length} bytes, over the limit of {limit}", "413 Content Too Large"
            )


def _sooner(a: float | None, b: float) -> float:
    return b if a is None else min(a, b)


assert sys.platform == "linux", "epoll and eventfd are Linux's"
