"""The sockets on which figures, readiness and liveness are asked for, answered by the main loop.

HTTP, of one request a connection.

The main process answers, of one server as of several workers, whatever serves: no thread and no
worker is needed, so that the figures can be read when everything else is busy. Nothing here waits:
a peer that is slow to ask is dropped after a while, and the oldest when there are too many.

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
# Seconds that a peer has to ask, and to take the answer
_PATIENCE = 5.0
_CONNECTIONS = 16
_REST = 0.5  # seconds, where there are no descriptors
_HEADER_BYTES, _HEADER_COUNT, _LINE = 8192, 100, 4096
# More than any answer, so that it never has to wait for its peer
_ROOM = 65536


def split(
    sockets: Sequence[InheritedSocket], settings: Settings
) -> tuple[list[InheritedSocket], list[InheritedSocket]]:
    """Return the sockets of the application and those of the figures.

    Raises UsageError where the setting `metrics` names no socket, or leaves none to be served.
    """
    name = settings.metrics
    figures = [inherited for inherited in sockets if name and inherited.name == name]
    others = [inherited for inherited in sockets if inherited not in figures]
    if name and not (figures and others):
        names = ", ".join(dict.fromkeys(inherited.name for inherited in sockets))
        why = "no socket that is passed is called so" if others else "no other socket is passed"
        raise UsageError(
            f"metrics={name}: {why} (there is: {names}). Give the figures a socket unit of their "
            f"own with FileDescriptorName={name}: gen --listen {name}=/run/SITE-{name}.sock, "
            "beside the site's own --listen"
        )
    if figures and not settings.trust and all(i.sock.family != socket.AF_UNIX for i in figures):
        raise UsageError(
            f"metrics={name}: on TCP they are read by peers that --trust names, and it names none"
        )
    return others, figures


class Metrics:
    """What listens on those sockets.

    loop: the main process's. figures: returns the text that is read. probe: returns the status that
    is answered at a path of the settings, None for every other path.
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
        """Answer from now on."""
        self._listen()
        self._loop.add(self._look)

    def _listen(self) -> None:
        for inherited in self._sockets:
            sock = inherited.sock
            sock.setblocking(False)
            self._loop.watch(sock.fileno(), lambda sock=sock: self._accept(sock))  # type: ignore[misc]

    def stop(self) -> None:
        """Leave what comes from now on to another process."""
        self._rest()
        for peer in list(self._peers.values()):
            self._drop(peer)

    def _accept(self, listening: socket.socket) -> None:
        try:
            sock, address = listening.accept()
        except BlockingIOError:
            return  # it has gone again
        except OSError:
            # No descriptors, as a rule. It would be heard of again at once, and again
            self._rest()
            self._rests_until = time.monotonic() + _REST
            self._loop.add(self._look)
            return
        sock.setblocking(False)
        while len(self._peers) >= _CONNECTIONS:
            self._drop(next(iter(self._peers.values())))
        peer = _Peer(sock, self._trust.believes("" if sock.family == socket.AF_UNIX else address))
        if not self._peers:
            self._loop.poke()  # there is somebody to lose patience with
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
            peer.sock.shutdown(socket.SHUT_WR)  # its end is waited for: closing would cut it off
        except OSError:
            self._drop(peer)

    def _drop(self, peer: _Peer) -> None:
        number = peer.sock.fileno()
        self._loop.forget(number)
        self._peers.pop(number, None)
        with contextlib.suppress(OSError):
            peer.sock.shutdown(socket.SHUT_RDWR)  # a worker that was forked has it open, too
        peer.sock.close()

    def _look(self) -> float | None:
        """Drop who is slow; accept again after a rest."""
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
    """Somebody who reads the figures."""

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
        """Take what it says, and return what it is due; None: it has not asked yet."""
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
            return _response("403 Forbidden", "the figures are for peers that --trust names\n")
        status = probe(environ["PATH_INFO"])
        if status is None and environ["PATH_INFO"] != PATH:
            return _response("404 Not Found", f"the figures are at {PATH}\n")
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
