"""The native server: listeners, limits, deadlines, figures, and protocol detection.

`loop.py` has its threads and their events. An accepted connection is a `Connection` of its
protocol, which calls the server for each response.

Nothing is accepted unless a thread is free to serve it: the kernel's backlog is the only queue. An
accepted connection without a complete request costs a descriptor but no thread.

On a unix socket the first byte of a connection tells its protocol: a digit begins an SCGI
netstring, 1 is FastCGI's version, 0 (or 100, a ping) is uwsgi's modifier, and any other token
character begins an HTTP method. PROXY protocol headers, which begin with the letters PROXY or with
a line break, belong to HTTP. On TCP and vsock anyone may connect, and the other protocols carry
facts about a client that only a front may set: there the protocol is HTTP unless the socket is
pinned to another one (`sdactivate.trust`).
"""

from __future__ import annotations

import errno
import math
import os
import resource
import socket
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from threading import Lock, get_ident
from time import monotonic
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

from sdactivate import backends, log, trust
from sdactivate.servers.api import LOOK_AT_IDLE, QUIET, Figures, Lately
from sdactivate.servers.native import forwarded, http, one_shot, twin
from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.environ_base import base_environ
from sdactivate.servers.native.fastcgi import FastCgi
from sdactivate.servers.native.held_bodies import Held, spool_directory
from sdactivate.servers.native.http import Http
from sdactivate.servers.native.listener import Listener
from sdactivate.servers.native.loop import Loop
from sdactivate.servers.native.one_shot import Scgi, Uwsgi
from sdactivate.servers.native.pool import RECENT
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wire.http import BEGINNINGS
from sdactivate.servers.native.wsgi import Application
from sdactivate.settings import Settings
from sdactivate.status_record import Ring, histogram
from sdactivate.systemd.listen_fds import InheritedSocket

PROTOCOLS: dict[str, type[Connection]] = {
    "scgi": Scgi,
    "fastcgi": FastCgi,
    "uwsgi": Uwsgi,
    "http": Http,
}
BY_FIRST_BYTE: dict[int, type[Connection]] = {
    **dict.fromkeys(BEGINNINGS, Http),
    **dict.fromkeys(range(0x30, 0x3A), Scgi),
    1: FastCgi,
    0: Uwsgi,
    100: Uwsgi,
}
# Read before the application is imported, which may clear the environment
_SPOOL_DIRECTORY = spool_directory(os.environ)
_RECENT = RECENT - 1  # a mask
# Seconds to pause accepting when there are no descriptors left
_REST = 0.1
# Seconds between two checks of the deadlines
_SWEEP = 1.0
# Seconds without a byte after which a peer counts as slow
_SLOW = 2.0
# The least seconds between two log lines about the number of slow peers
_TELL = 60.0


class Server:
    """One process's native server.

    application: a WSGI callable. sockets: the listening sockets it shares with its supervisor.
    settings: see `sdactivate.settings`. poke: called by any thread to have `tick` called soon.
    gate: decides which peers are served, None: all.

    A server with other codecs derives from it: `protocols` are those that a socket can be pinned
    to, `by_first_byte` selects the class for the connections of other sockets.
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
        self.lost = 0  # those that were cut off
        self._counting = Lock()
        self._failed_seconds, self._failed_minutes = Ring(), Ring()
        self.accepting = False
        self.base = base_environ(settings)
        self.variables = twin.variables(self.base)
        self.trust = forwarded.Trust(settings)
        self.fastcgi_values = {
            "FCGI_MAX_CONNS": str(settings.connections * settings.workers),
            "FCGI_MAX_REQS": str(settings.connections * settings.workers),
            "FCGI_MPXS_CONNS": "0",
        }
        self.http_base = {**self.base, "REMOTE_ADDR": forwarded.UNKNOWN}
        del self.http_base["CONTENT_LENGTH"]
        self.failed: str | None = None  # why it can't accept any more
        self.unobserved = False  # the figures are not read again before the next request
        self.held = Held(settings.held_bytes, _SPOOL_DIRECTORY)
        # In the form of PATH_INFO: each byte as a character (PEP 3333, "Unicode Issues")
        self._streamed = tuple(
            unquote_to_bytes(f"{path.rstrip('/')}/").decode("latin-1") for path in settings.stream
        )
        self.loop: Loop[Connection] = Loop(
            settings.threads, settings.lent_threads, poke, self.fault
        )
        self.pool = self.loop.pool
        self.handler = twin.handler(self.variables, one_shot.responder, http.responder, self)
        self.probes: Probes | None = None
        if settings.ready_path or settings.live_path:
            from sdactivate.servers.native.probes import Probes

            self.probes = Probes(settings)
        self._poke = poke
        self._has_threads = False
        self._resting_until = 0.0
        self._complained = -math.inf
        self._swept = 0.0
        self._drained = math.inf  # when it was told to drain
        self._quiet = QUIET
        self._told = -math.inf
        self.listeners = [Listener(self, inherited, self._kind(inherited)) for inherited in sockets]

    def pinned(self, name: str, family: int) -> type[Connection] | None:
        """The fixed protocol of the socket called `name`, None if each connection chooses.

        The setting decides, else the socket's name, else its family.
        """
        if self.settings.protocol != "auto":
            return self.protocols[self.settings.protocol]
        default = trust.UNIX if family == socket.AF_UNIX else trust.OTHER
        return self.protocols.get(name) or self.protocols.get(default.protocol)

    def _kind(self, inherited: InheritedSocket) -> type[Connection] | None:
        """The class of a socket's connections, None if each connection chooses."""
        family = inherited.sock.family
        found = self.pinned(inherited.name, family)
        return found if self.probes is None else self.probes.kind(found, family)

    # Start and stop

    def start(self) -> None:
        """Start to accept. The inherited sockets become non-blocking, as systemd made them."""
        self._make_room()
        self.accepting = True
        for listener in self.listeners:
            listener.sock.setblocking(False)
            self.loop.start_listening(listener)
        self._start_threads()

    def _start_threads(self) -> None:
        if not self._has_threads:
            self._has_threads = True
            self.loop.start()

    def adopt(self, sock: socket.socket) -> str:
        """Serve a connected socket, as if the first listener had accepted it.

        If each of that listener's connections chooses its protocol, this server's first one is
        used.
        """
        kind = self.listeners[0].pinned
        if kind is None:
            kind = self.protocols[backends.find(self.settings.server).protocols[0]]
        self._start_threads()
        sock.setblocking(False)
        kind(self, sock.detach(), "").wait(self.settings.header_timeout)
        return kind.protocol

    def _make_room(self) -> None:
        """Raise the soft limit of descriptors to what the connections need, up to the hard limit.

        Not higher than needed, since a library may still use select(2), which is limited to 1023.
        """
        connections, threads = self.settings.connections, self.settings.threads
        # A connection and its temporary file; for each thread what the application opens in a
        # request; the rest of the process
        wanted = 2 * connections + 16 * threads + self.settings.lent_threads + 128
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

    def announce(self) -> None:
        """Report not ready to health checks; go on serving."""
        if self.probes is not None:
            self.probes.announced = True

    def drain(self, quiet: float = QUIET) -> None:
        """Stop accepting, and finish the accepted requests; leave the backlog to the next process.

        Connections that threads of this process have been woken for are still accepted. The order
        matters: once no thread here is woken or accepts any more, none of these can be missed.
        """
        for listener in self.listeners:
            self.loop.stop_listening(listener)
        self.accepting = False
        workers = list(self.pool.workers.values())
        woken = self.pool.size if self.loop.more else sum(w.response is None for w in workers)
        for listener in self.listeners:
            listener.accept_last(woken)
        if self.probes is not None:
            self.probes.leave(self)
        self._drained = monotonic()
        self._quiet = quiet
        self.loop.drain()
        for connection in list(self.loop.connections.values()):
            connection.retire()

    @property
    def draining(self) -> bool:
        """Whether no further requests are accepted on kept-alive connections."""
        return self.loop.draining

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the threads to end; return whether they have."""
        return self.pool.join(monotonic() + seconds)

    def cut(self) -> None:
        """Close all remaining connections."""
        connections = list(self.loop.connections.values())
        begun: set[object] = {connection for connection in connections if connection.has_begun}
        begun.update(
            worker.response.connection
            for worker in list(self.pool.workers.values())
            if worker.response is not None
        )
        self.lost += len(begun)
        if self.probes is not None:
            self.lost += self.probes.cut()
        for connection in connections:
            connection.close()

    # Figures

    def figures(self) -> Figures:
        """Return the current figures."""
        now = monotonic()
        workers = list(self.pool.workers.values())
        busy = [w for w in workers if w.response is not None and not w.lent]
        slow = self.held.uploads or self.held.responses or self.pool.lent
        threads = self.settings.threads
        return Figures(
            requests=sum(worker.served for worker in workers),
            errors=self.errors,
            # A thread that returns from a slow peer can briefly exceed the number
            busy=min(len(busy), threads),
            threads=threads,
            oldest=max((now - max(w.since, w.moved) for w in busy), default=0.0),
            idle=0.0 if slow else min((now - worker.since for worker in workers), default=0.0),
            backlog=self._backlog(),
        )

    def _backlog(self) -> int | None:
        """Connections that wait to be accepted; the kernel reports them only for TCP (tcp(7))."""
        waiting = [
            int.from_bytes(info[24:28], sys.byteorder)  # tcpi_unacked, of a listening socket
            for listener in self.listeners
            if listener.is_tcp
            and (info := listener.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28))
        ]
        return sum(waiting) if waiting else None

    def stalled(self, seconds: float) -> bool:
        """Whether every thread has been in one request, and moved none of its body, for `seconds`.

        Threads that wait for slow peers don't count: others serve in their place.
        """
        now = monotonic()
        workers = [w for w in list(self.pool.workers.values()) if not (w.parked or w.lent)]
        return bool(workers) and all(
            w.response is not None and now - max(w.since, w.moved) > seconds for w in workers
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

    def tick(self) -> float | None:
        """Do what is due. Returns the seconds to the next call, None: when it is poked."""
        now = monotonic()
        due = self.pool.tick()
        self.loop.rouse()
        if self.probes is not None:
            again = self.probes.look(self, self.listeners)
            due = due if again is None else _sooner(due, again)
        if self._resting_until:
            if now >= self._resting_until:
                self._resting_until = 0.0
                for listener in self.listeners:
                    self.loop.put_off(listener)
            due = _sooner(due, _REST)
        if self.loop.connections:
            if now - self._swept >= _SWEEP:
                self._swept = now
                for connection in list(self.loop.connections.values()):
                    if 0 < connection.deadline <= now:
                        connection.expire(now)
                if now - self._told >= _TELL:
                    self._tell_of_slow_peers(now)
            due = _sooner(due, _SWEEP)
            if self.draining:
                for connection in list(self.loop.connections.values()):
                    connection.retire()
                due = _sooner(due, LOOK_AT_IDLE)
        return due

    def _tell_of_slow_peers(self, now: float) -> None:
        """Log the number of slow peers, if there are more than the threads could wait for."""
        held, lent, settings = self.held, len(self.pool.lent), self.settings
        waiting = sum(
            connection.since < now - _SLOW
            for connection in list(self.loop.connections.values())
            if connection.output is not None or connection.upload is not None
        )
        if waiting + lent < max(settings.threads, 2):
            return
        self._told = now
        log.say(
            log.NOTICE,
            f"slow peers: {held.responses} read a response and {held.uploads} send a body without "
            f"a thread, of connections={settings.connections}; {lent} occupy a thread, of "
            f"lent_threads={settings.lent_threads}; {held.used >> 10} KiB are buffered for them, "
            f"of held_bytes={held.limit >> 10}K",
        )

    # What threads ask for

    def fault(self, error: Exception) -> None:
        """Log an error in the server itself, which costs one connection but no thread."""
        self.errors += 1
        log.say_exception("internal error in sdactivate; please report it", error)

    def respond(self, response: Any) -> None:
        """Call the application and send its response."""
        pool = self.pool
        worker = pool.workers[get_ident()]
        began = worker.since = monotonic()
        worker.response = response
        if self.unobserved:  # checked only now: a reader of the figures then sees this request
            self.unobserved = False
            self._poke()
        if pool.takes_turns:
            pool.take_turn(worker)
        try:
            response.run(self.application)
        finally:  # also after an error in the server: release the turn, and don't seem busy
            worker.response = None
            if pool.takes_turns:
                pool.end_turn(worker)
            worker.served += 1
            worker.since = now = monotonic()
            worker.recent[worker.served & _RECENT] = now - began
            if response.failed or response.is_error:
                self.count_failure(response, began)
        if self.settings.access_log:
            response.record((worker.since - began) * 1000)

    def count_failure(self, response: Any, began: float) -> None:
        """Count and log a response that began at `began`, if it is a failure."""
        if response.is_error and not response.failed:  # otherwise Response.run has logged why
            response.say_error(began)
        elif not response.failed:
            return
        now = monotonic()
        with self._counting:
            self.errors += 1
            self._failed_seconds.add(int(now))
            self._failed_minutes.add(int(now) // 60)

    def lately(self) -> Lately:
        """Return the durations of the latest requests, and when some failed."""
        return Lately(self.durations(), self._failed_seconds, self._failed_minutes)

    def durations(self) -> tuple[int, ...]:
        """Return a histogram of the latest durations: `status_record.histogram`."""
        workers = list(self.pool.workers.values())
        return histogram(chain.from_iterable(worker.recent for worker in workers))

    def of_client(self, address: Any, local: Any) -> dict[str, str] | None:
        """The variables of an HTTP connection whose peer, or the peer's client, is at `address`.

        local: the local address of a TCP connection (RFC 3875, sections 4.1.14 and 4.1.15), else
        None.
        """
        if not isinstance(address, tuple):
            return None
        found = {}
        if isinstance(address[0], str):
            found = {"REMOTE_ADDR": address[0], "REMOTE_PORT": str(address[1])}
        if local is not None:
            host, port, *_ = local
            found["SERVER_NAME"] = f"[{host}]" if ":" in host else host
            found["SERVER_PORT"] = str(port)
        return found

    def watch(self, connection: Connection) -> None:
        """Wake `connection` whenever its peer sends data; over the limit, close another one."""
        connections, limit = self.loop.connections, self.settings.connections
        self.loop.watch(connection)
        while len(connections) > limit and self.evict(f"connections={limit}, and all are taken"):
            pass
        if len(connections) == 1:
            self._poke()  # there are deadlines to check now

    def has_been_quiet(self, since: float) -> bool:
        """Whether, at a stop, a peer last heard at `since` has been silent for long enough."""
        return monotonic() - max(since, self._drained) >= self._quiet

    def evict(self, why: str, until: float = math.inf) -> bool:
        """Close the longest waiting connection, if since before `until`; return whether it did."""
        waiting = list(self.loop.connections.values())  # others change it meanwhile
        waiting.sort(key=lambda each: each.since)
        return any(each.since < until and each.give_way(why) for each in waiting)

    def rest(self, error: OSError) -> None:
        """Pause accepting briefly: there are no descriptors or no memory left."""
        now = monotonic()
        if now - self._complained > 60:
            self._complained = now
            hint = ". LimitNOFILE= in the service unit sets the number of descriptors"
            log.say(
                log.ERROR,
                f"cannot accept: {error.strerror}; connections wait in the backlog"
                + (hint if error.errno == errno.EMFILE else ""),
            )
        self._resting_until = now + _REST
        self._poke()

    def is_streamed(self, environ: Mapping[str, Any]) -> bool:
        """Whether a large body of this request is streamed to the application."""
        if not self._streamed:
            return False
        path = f"{environ['SCRIPT_NAME']}{environ['PATH_INFO']}/"
        return path.startswith(self._streamed)

    def check_length(self, length: int) -> None:
        """Raise Malformed if a body of `length` bytes is over the limit."""
        limit = self.settings.body_bytes
        if limit and length > limit:
            raise Malformed(
                f"a body of {length} bytes, over the limit of {limit}", "413 Content Too Large"
            )


def _sooner(a: float | None, b: float) -> float:
    return b if a is None else min(a, b)
