"""A listening socket: accept connections, and detect the protocol from the first byte.

Listening sockets are watched edge-triggered: connections that arrive together may cause only one
event, for one thread. So a thread that is about to serve, perhaps for long, must make sure that the
backlog is not forgotten meanwhile. If other threads sleep, it accepts once more. Usually nothing is
left, which it would have to find out afterwards anyway; otherwise it wakes one of them with the
connection, which does the same. If no thread sleeps, it records in `more` that the backlog may not
be empty, and a thread that becomes free checks that before it sleeps.
"""

from __future__ import annotations

import errno
import os
import socket
from time import monotonic
from typing import Any, Protocol

from sdactivate.servers.native.accel import module
from sdactivate.servers.native.connection import CHUNK, Connection, Owner
from sdactivate.servers.native.shut_idle import shut_if_silent
from sdactivate.servers.native.wire import Malformed
from sdactivate.systemd.listen_fds import InheritedSocket

_read = os.read if module is None else module.receive
# After accepting this many connections in a row, a thread handles other events
_IN_A_ROW = 32
# accept(2) reports errors that a connection got while it waited
_OF_THE_PEER = frozenset(
    {
        *(errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINTR),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET),
        *(errno.EPERM, errno.ETIMEDOUT),
    }
)
_NO_SOCKET = (errno.EBADF, errno.ENOTSOCK, errno.EINVAL)
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# Seconds that an accepted connection may take to send its first byte: at a stop, and before it is
# closed to make room for others
_TO_SPEAK = 1.0


class Acceptor(Owner, Protocol):
    """What a listener additionally needs of its server."""

    accepting: bool
    gate: Any
    failed: str | None

    def evict(self, why: str, until: float = ...) -> bool: ...
    def rest(self, error: OSError) -> None: ...


class Listener:
    """A listening socket, and the protocol of its connections (None: detect it for each)."""

    def __init__(
        self, server: Acceptor, inherited: InheritedSocket, protocol: type[Connection] | None
    ) -> None:
        self.server = server
        self.name = inherited.name
        self.sock = inherited.sock
        self.fd = self.sock.fileno()
        self.is_tcp = self.sock.family in (socket.AF_INET, socket.AF_INET6)
        # accept(2) without the cost of a socket object: the descriptor and the peer's address
        self._accept = self.sock._accept  # type: ignore[attr-defined]
        # The same, compiled, for unix sockets, whose peers have no address; returns None if no
        # connection waits
        self._take = None if module is None or self.sock.family != socket.AF_UNIX else module.accept
        self.pinned = protocol

    def wake(self, accepted: tuple[int, Any] | None = None) -> None:
        """Accept and serve until nothing is left, or until other events must be handled.

        `accepted`: the first connection, if it is accepted already.
        """
        server, accept, pinned, is_tcp = self.server, self._accept, self.pinned, self.is_tcp
        by_first_byte, asleep, more = server.by_first_byte, server.pool.asleep, server.loop.more
        take, set_blocking = self._take, os.set_blocking
        for _ in range(_IN_A_ROW):
            if accepted is None:
                if not server.accepting:
                    return
                # Before accept(), not after: an entry that others make in the meantime must stay
                more.pop(self, None)
                try:
                    if take is not None:
                        found = take(self.fd)
                        if found is None:
                            return
                        fd, address = found, ""
                    else:
                        fd, address = accept()
                        set_blocking(fd, False)
                except BlockingIOError:
                    return
                except OSError as error:
                    if self._bear(error):
                        continue
                    return
            else:
                fd, address = accepted
                accepted = None
                set_blocking(fd, False)
            if is_tcp:
                _without_delay(fd)
            if server.gate is not None and not server.gate.admits(fd):
                os.close(fd)
                continue
            try:
                data = _read(fd, CHUNK)  # usually the request has arrived with the connection
            except BlockingIOError:
                newcomer = Undetermined(server, fd, address, pinned)
                newcomer.wait(server.settings.header_timeout)
                continue
            except OSError:
                data = b""
            if not data:
                os.close(fd)
                continue
            # A thread about to sleep marks itself asleep, then checks `more`. Here the order is the
            # reverse, so that one of the two notices the other
            more[self] = None
            was_last = bool(asleep) and not self._pass_on()
            protocol = pinned or by_first_byte.get(data[0]) or Undetermined
            connection: Connection | None = None
            try:
                connection = protocol(server, fd, address)
                connection.received(data)
            except BaseException:
                if connection is None:
                    os.close(fd)
                else:
                    connection.close()
                raise
            if was_last:
                return
            if server.pool.running > server.pool.allowed:
                break  # this thread must park; another one continues
        # If the backlog never empties, no thread sleeps, and none gets events of kept connections
        server.loop.hear(self.fd)
        server.loop.put_off(self)

    def _pass_on(self) -> bool:
        """Wake a sleeping thread with the next connection; return whether there may be one."""
        self.server.loop.more.pop(self, None)
        if not self.server.accepting:
            return False
        try:
            if self._take is not None:
                fd = self._take(self.fd)
                if fd is None:
                    return False
                accepted = fd, ""
            else:
                accepted = self._accept()
        except BlockingIOError:
            return False
        except OSError:
            self.server.loop.put_off(self)  # another thread handles the error at once
            return True
        self.server.loop.put_off(Accepted(self, accepted))
        return True

    def accept_one(self) -> tuple[int, Any] | None:
        """Return a connection and its peer's address, None if none waits."""
        try:
            return self._accept()  # type: ignore[no-any-return]
        except OSError:
            return None  # a thread will handle any other error

    def accept_last(self, most: int) -> None:
        """Accept at most `most` further connections, for threads to serve.

        When a connection arrives, the kernel wakes one thread of one process (EPOLLEXCLUSIVE). If
        that thread may no longer accept, the connection must not be left to other processes: they
        are asleep and get no second event.
        """
        for _ in range(most):
            try:
                accepted = self._accept()
            except OSError:  # nothing is left, or another process has taken it
                return
            self.server.loop.put_off(Accepted(self, accepted))

    def _bear(self, error: OSError) -> bool:
        """Handle a failed accept(2); return whether to try again at once."""
        if error.errno in _OF_THE_PEER:
            return True
        # A new peer is about to send its request, so keep it; the next one waits in the backlog
        until = monotonic() - _TO_SPEAK
        evict = self.server.evict
        if error.errno in _OUT_OF_RESOURCES and evict(str(error.strerror), until):
            return True
        if error.errno in _NO_SOCKET:
            self.server.failed = (
                f"cannot accept: {error.strerror}. The application has closed or replaced the "
                "listening socket, as os.closerange() and daemonising libraries do"
            )
        self.server.rest(error)
        return False


class Accepted:
    """A connection that one thread has accepted for another, which then accepts further ones."""

    def __init__(self, listener: Listener, accepted: tuple[int, Any]) -> None:
        self._listener = listener
        self._accepted = accepted

    def wake(self) -> None:
        """Serve the connection, then accept further ones."""
        self._listener.wake(self._accepted)

    def close(self) -> None:
        """Close the connection without serving it."""
        os.close(self._accepted[0])


class Undetermined(Connection):
    """A connection whose protocol is not known yet.

    If its first byte fits none, it is answered in HTTP, which most peers understand.
    """

    __slots__ = ("_pinned", "_successor")

    status_line = "HTTP/1.1 "

    def __init__(
        self,
        server: Owner,
        fd: int,
        address: Any,
        pinned: type[Connection] | None = None,
    ) -> None:
        super().__init__(server, fd, address)
        self._pinned = pinned
        self._successor: Connection | None = None

    def wake(self) -> None:
        super().wake()
        # An event for this object is now one for its successor
        if self._successor is not None:
            self._successor.wake()

    def received(self, data: bytes) -> None:
        protocol = self._pinned or self.server.by_first_byte.get(data[0])
        if protocol is None:
            hint = "; if it is TLS, let the front handle it" if data[0] == 0x16 else ""
            self.refuse(Malformed(f"no protocol starts with the byte 0x{data[0]:02x}{hint}"))
            return
        self._successor = protocol(self.server, self.fd, self.address)
        self.hand_over(self._successor)
        try:
            self._successor.received(data)
        except BaseException:
            self._successor.close()
            raise

    def answer(self, status: str) -> None:
        self.send_now(self.plain(status, "Connection: close\r\n"))

    @property
    def idle(self) -> bool:
        return True

    def retire(self) -> None:
        """Called at a stop: wait a little longer for this connection's request.

        Its peer has connected and is about to write. If it were disconnected, a front would not
        retry but answer 502.
        """
        self.deadline = min(self.deadline, monotonic() + _TO_SPEAK)

    def expired(self) -> None:
        shut_if_silent(self.fd)  # a request that has just been sent is still read


def _without_delay(fd: int) -> None:
    """Have responses sent at once, even if they are shorter than a TCP segment."""
    sock = socket.socket(fileno=fd)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass
    finally:
        sock.detach()
