"""Serve metrics, readiness and liveness on sockets of their own, in the main loop.

The protocol is HTTP, with one request for each connection.

The main process answers, with one server or several worker processes. That needs no thread and no
worker, so the metrics can be read when everything else is busy. Nothing here blocks: a slow peer is
dropped after a while, and the oldest one if there are too many.

Who may read: on a unix socket every peer that may connect, on TCP the peers that `--trust` names.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sdactivate.errors import UsageError
from sdactivate.runtime.openmetrics import CONTENT_TYPE
from sdactivate.servers.native.forwarded import Trust
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wire.http import Parser

if TYPE_CHECKING:
    from sdactivate.runtime.main_loop import MainLoop
    from sdactivate.settings import Settings
    from sdactivate.systemd.listen_fds import InheritedSocket

PATH = "/metrics"
# Seconds for a peer to send its request and to read the answer
_PATIENCE = 5.0
_CONNECTIONS = 16
_REST = 0.5  # seconds to pause if there are no file descriptors
_HEADER_BYTES, _HEADER_COUNT, _LINE = 8192, 100, 4096
# Larger than any answer, so that sending never has to wait for the peer
_ROOM = 65536


def split(
    sockets: Sequence[InheritedSocket], settings: Settings
) -> tuple[list[InheritedSocket], list[InheritedSocket]]:
    """Return the sockets of the application and those of the metrics.

    Raises UsageError if the setting `metrics` names no socket, or leaves none for the application.
    """
    name = settings.metrics
    figures = [inherited for inherited in sockets if name and inherited.name == name]
    others = [inherited for inherited in sockets if inherited not in figures]
    if name and not (figures and others):
        names = ", ".join(dict.fromkeys(inherited.name for inherited in sockets))
        why = "no inherited socket has this name" if others else "no other socket was inherited"
        raise UsageError(
            f"metrics={name}: {why} (inherited: {names}). Add a socket unit with "
            f"FileDescriptorName={name} for the metrics: gen --listen "
            f"{name}=/run/SITE-{name}.sock, in addition to the site's own --listen"
        )
    if figures and not settings.trust and all(i.sock.family != socket.AF_UNIX for i in figures):
        raise UsageError(
            f"metrics={name}: on TCP only peers in --trust may read the metrics, and it is empty: "
            "give their addresses"
        )
    return others, figures


class Metrics:
    """The listener on those sockets.

    loop: the main process's loop. figures: returns the metrics as text. probe: returns the HTTP
    status for the ready and live paths of the settings, None for every other path.
    """

    def __init__(
        self,
        sockets: Sequence[InheritedSocket],
        settings: Settings,
        loop: MainLoop,
        figures: Callable[[], str],
        probe: Callable[[str], str | None],
    ) -> None:
        self._probe = probe
        self._sockets = sockets
        self._trust = Trust(settings)
        self._loop = loop
        self._figures = figures
        self._peers: dict[int, _Peer] = {}
        self._rests_until = 0.0  # 0: it accepts

    def start(self) -> None:
        """Start to accept."""
        self._listen()
        self._loop.add(self._look)

    def _listen(self) -> None:
        for inherited in self._sockets:
            sock = inherited.sock
            sock.setblocking(False)
            self._loop.watch(sock.fileno(), lambda sock=sock: self._accept(sock))  # type: ignore[misc]

    def stop(self) -> None:
        """Stop accepting, and leave new connections to another process."""
        self._rest()
        for peer in list(self._peers.values()):
            self._drop(peer)

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, address = listening.accept()
        except BlockingIOError:
            return  # the peer has disconnected already
        except OSError:
            # Usually out of file descriptors. Without a pause the loop would spin
            self._rest()
            self._rests_until = time.monotonic() + _REST
            self._loop.add(self._look)
            return
        sock.setblocking(False)
        while len(self._peers) >= _CONNECTIONS:
            self._drop(next(iter(self._peers.values())))
        peer = _Peer(sock, self._trust.believes("" if sock.family == socket.AF_UNIX else address))
        if not self._peers:
            self._loop.poke()  # start the timeout of the new peer
        self._peers[sock.fileno()] = peer
        self._loop.watch(sock.fileno(), lambda: self._hear(peer))

    def _rest(self) -> None:
        for inherited in self._sockets:
            self._loop.forget(inherited.sock.fileno())
        self._rests_until = 0.0

    def _hear(self, peer: _Peer) -> None:
        try:
            data = peer.sock.recv(_ROOM)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or peer.has_answer:
            if not data:
                self._drop(peer)
            return
        answer = peer.answer(data, self._figures, self._probe)
        if answer is None:
            return
        try:
            peer.sock.send(answer)
            # Wait for the peer to close: closing here could cut the answer off
            peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(peer)

    def _drop(self, peer: _Peer) -> None:
        number = peer.sock.fileno()
        self._loop.forget(number)
        self._peers.pop(number, None)
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RDWR)  # a forked worker process has it open, too
        peer.sock.close()

    def _look(self) -> float | None:
        """Drop slow peers; accept again after a pause."""
        now = time.monotonic()
        for peer in list(self._peers.values()):
            if now >= peer.until:
                self._drop(peer)
        if self._rests_until:
            if now < self._rests_until:
                return self._rests_until - now
            self._rests_until = 0.0
            self._listen()
        return 1.0 if self._peers else None


class _Peer:
    """A peer that reads the metrics."""

    def __init__(self, sock: socket.socket, may_read: bool) -> None:
        self.sock = sock
        self.until = time.monotonic() + _PATIENCE
        self.has_answer = False
        self._may_read = may_read
        self._parser: Any = Parser(_HEADER_BYTES, _HEADER_COUNT, _LINE)
        self._parser.base = {}

    def answer(
        self, data: bytes, figures: Callable[[], str], probe: Callable[[str], str | None]
    ) -> bytes | None:
        """Read its request, and return the answer; None: the request is not complete yet."""
        try:
            self._parser.feed(data)
        except Malformed as error:
            self.has_answer = True
            return _response(error.status)
        if not self._parser.requests:
            return None
        self.has_answer = True
        environ = self._parser.requests[0].environ
        method = environ["REQUEST_METHOD"]
        if not self._may_read:
            return _response("403 Forbidden", "metrics are only for peers in --trust\n")
        status = probe(environ["PATH_INFO"])
        if status is None and environ["PATH_INFO"] != PATH:
            return _response("404 Not Found", f"metrics are at {PATH}\n")
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", fields="Allow: GET, HEAD\r\n")
        if status is not None:
            return _response(status, is_head=method == "HEAD")
        return _response("200 OK", figures(), f"Content-Type: {CONTENT_TYPE}\r\n", method == "HEAD")


def _response(status: str, text: str = "", fields: str = "", is_head: bool = False) -> bytes:
    """Return a response that ends its connection (RFC 9112)."""
    body = (text or f"{status}\n").encode()
    fields = fields if "Content-Type" in fields else f"{fields}Content-Type: text/plain\r\n"
    head = (
        f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + (b"" if is_head else body)
