"""Readiness and liveness checks for a load balancer or an orchestrator, over TCP.

The server itself answers a trusted peer (`--trust`) that requests `ready_path` or `live_path` on a
TCP socket: the application is not called, and nothing is counted or logged. Other peers' requests
for these paths go to the application like any other.

While a thread is free, it accepts and answers such a request like any other. When all threads are
busy nothing is accepted, and a probe would wait behind other requests until the load balancer
declared the machine dead at its highest load. So the main thread, which serves no requests, then
accepts the waiting connections: it answers the probes and queues the rest for the threads, in order
of arrival, up to the limit `connections`. It checks only the first request of a connection. With
several worker processes none of them does this, since another one could be free to serve those
connections: there a probe waits, or uses the metrics socket (`runtime/metrics.py`), which also
answers these paths.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

from sdactivate import backends
from sdactivate.errors import UsageError
from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.http import Http
from sdactivate.servers.native.keepalive import KeepAlive
from sdactivate.servers.native.listener import Accepted, Acceptor, Listener
from sdactivate.servers.native.wsgi import Response
from sdactivate.settings import Settings
from sdactivate.systemd.listen_fds import InheritedSocket

LOOK = 0.1
"""Seconds between two checks by the main thread whether all others are busy."""
_QUIET_LOOK = 0.5
# Seconds that a connection may take to send its first byte before it is left to the threads
_TO_SPEAK = 1.0
_PEEK = 8192
_END = b"\r\n\r\n"
INTERNET = (socket.AF_INET, socket.AF_INET6)
_METHODS = ("GET", "HEAD")


def check(sockets: Sequence[InheritedSocket], settings: Settings) -> None:
    """Raise UsageError if no health check could be answered."""
    option = "ready_path" if settings.ready_path else "live_path"
    if "http" not in backends.find(settings.server).protocols:
        raise UsageError(f"{option}: the check uses HTTP, which {settings.server} does not speak")
    protocols = [
        settings.protocol if settings.protocol != "auto" else inherited.name
        for inherited in sockets
        if inherited.sock.family in INTERNET
    ]
    others = {*backends.find(settings.server).protocols} - {"http"}
    if not settings.metrics and not any(name not in others for name in protocols):
        raise UsageError(
            f"{option}: the check is answered by HTTP on TCP sockets, and none was inherited"
        )
    if not settings.metrics and not settings.trust:
        raise UsageError(
            f"{option}: the check is answered only to peers in --trust, which is empty: give the "
            "load balancer's address or network"
        )


def status(settings: Settings, path: str, *, is_ready: bool) -> str | None:
    """Return the status to answer at `path`; None if it is none of the paths of `settings`."""
    if not path or path not in (settings.ready_path, settings.live_path):
        return None
    is_well = is_ready or path != settings.ready_path
    return "200 OK" if is_well else "503 Service Unavailable"


class Probes:
    """The paths that a server answers itself, and its answers.

    settings: `ready_path` and `live_path` are used; "": none.

    announced: whether a stop is announced: not ready, although everything is still served.
    """

    def __init__(self, settings: Settings) -> None:
        self.announced = False
        self._settings = settings
        self._beginnings = tuple(
            f"{method} {path}".encode("ascii")
            for method in _METHODS
            for path in (settings.ready_path, settings.live_path)
            if path
        )
        self._silent: list[tuple[float, Listener, int, Any]] = []  # accepted, nothing received yet
        self._left: set[Accepted] = set()  # left to the threads, and not taken by one yet

    def kind(self, found: type[Connection] | None, family: int) -> type[Connection] | None:
        """Return the class for a socket's connections; `found` is the one without probes."""
        return ProbedHttp if found is Http and family in INTERNET else found

    def status(self, path: str) -> str | None:
        """Return the status to answer at `path`; None if the application answers."""
        return status(self._settings, path, is_ready=not self.announced)

    def may_begin(self, data: bytes) -> bool:
        """Whether a peer's data begins like a probe."""
        return data.startswith(self._beginnings)

    def _is_one(self, data: bytes) -> bool:
        """Whether `data` is exactly one complete probe."""
        if not (self.may_begin(data) and data.find(_END) == len(data) - len(_END)):
            return False
        return self.status(_path(data.split(b" ", 2)[1].decode("latin-1"))) is not None

    # What the main thread does

    def look(self, server: Acceptor, listeners: Iterable[Listener]) -> float | None:
        """If every thread is busy, accept the waiting connections, and answer the probes.

        Returns seconds to the next look, None: there is none.
        """
        if self._settings.workers > 1 or not server.accepting:
            return None
        now = monotonic()
        waited, self._silent = self._silent, []
        for since, listener, fd, address in waited:
            self._take(server, listener, fd, address, since, now)
        taken = len(server.loop.connections) + len(self._silent) + len(self._left)
        for listener in listeners:
            while listener.pinned is ProbedHttp and taken < server.settings.connections:
                if server.pool.asleep or (accepted := listener.accept_one()) is None:
                    break
                taken += 1
                self._take(server, listener, *accepted, now, now)
        is_quiet = len(server.pool.asleep) == server.pool.running and not self._silent
        return _QUIET_LOOK if is_quiet else LOOK

    def leave(self, server: Acceptor) -> None:
        """At a stop: leave the connections that have sent nothing yet to the threads."""
        waited, self._silent = self._silent, []
        for _, listener, fd, address in waited:
            self._leave(server, listener, fd, address)

    def cut(self) -> int:
        """Close the connections that no thread has taken; return how many there were."""
        closed = 0
        while True:
            try:
                self._left.pop().close()
            except KeyError:
                return closed
            closed += 1

    def _leave(self, server: Acceptor, listener: Listener, fd: int, address: Any) -> None:
        left = _Left(self._left, listener, (fd, address))
        self._left.add(left)
        server.loop.put_off(left)

    def _take(
        self, server: Acceptor, listener: Listener, fd: int, address: Any, since: float, now: float
    ) -> None:
        """Answer a probe; wait briefly for a silent peer; leave all others to the threads."""
        is_trusted = server.trust.believes(address)
        data = _peek(fd) if is_trusted else b""
        if data is None and now - since < _TO_SPEAK:
            self._silent.append((since, listener, fd, address))
        elif data and self._is_one(data) and (server.gate is None or server.gate.admits(fd)):
            os.set_blocking(fd, False)
            connection = ProbedHttp(server, fd, address)
            try:
                connection.received(os.read(fd, len(data)))
            except Exception as error:  # the main thread must go on
                connection.close()
                server.fault(error)
        else:
            self._leave(server, listener, fd, address)


class _Left(Accepted):
    """A connection that the main thread has accepted for another thread to serve.

    left: all of these that no thread has taken yet.
    """

    def __init__(self, left: set[Accepted], listener: Listener, accepted: tuple[int, Any]) -> None:
        super().__init__(listener, accepted)
        self._among = left

    def wake(self) -> None:
        try:
            self._among.remove(self)
        except KeyError:
            return  # it has been cut off
        super().wake()


class ProbedHttp(Http):
    """A connection on a TCP socket whose server answers probes."""

    @property
    def may_ask(self) -> bool:
        """Whether its peer gets answers to probes: not the server's own health check."""
        return self.trusted and isinstance(self.address, tuple)

    def wake(self) -> None:
        KeepAlive.wake(self)  # the compiled twin would read the request, and does not know probes

    def received(self, data: bytes) -> None:
        if self.may_ask and self.server.probes.may_begin(data):
            KeepAlive.received(self, data)
        else:
            super().received(data)

    def respond(self, environ: dict[str, Any]) -> None:
        status = None
        if self.may_ask and environ["REQUEST_METHOD"] in _METHODS:
            # The path as it was sent, regardless of a mount that a header field names
            status = self.server.probes.status(_path(environ["REQUEST_URI"]))
        if status is None:
            super().respond(environ)
        else:
            Response(self, environ).run(_Answer(status))


class _Answer:
    """A WSGI application that answers with a status and forbids caching."""

    def __init__(self, status: str) -> None:
        self._status = status

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = f"{self._status}\n".encode("ascii")
        fields = [
            *(("Content-Type", "text/plain"), ("Content-Length", str(len(body)))),
            ("Cache-Control", "no-store"),
        ]
        start_response(self._status, fields)
        return [body]


def _path(target: str) -> str:
    """The path of a request target in origin form (RFC 9112, section 3.2.1)."""
    return target.partition("?")[0]


def _peek(fd: int) -> bytes | None:
    """Return what a peer has sent, without consuming it; None: nothing yet; b"": it is closed."""
    sock = socket.socket(fileno=fd)
    try:
        return sock.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    finally:
        sock.detach()
