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
# While a thread accepts one connection after the other, the rest is looked at every so often
_IN_A_ROW = 32
# accept(2) passes on what has happened to a connection while it waited
_OF_THE_PEER = frozenset(
    {
        *(errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINTR),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET),
        *(errno.EPERM, errno.ETIMEDOUT),
    }
)
_NO_SOCKET = (errno.EBADF, errno.ENOTSOCK, errno.EINVAL)
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
# How long a connection that was accepted may take to speak: once the server is to stop, and before
# it makes room for others
_TO_SPEAK = 1.0


class Acceptor(Owner, Protocol):
    """What a listener asks of its server besides."""

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
        # The same, compiled, where the address tells nothing; it returns None where there is none
        self._take = None if module is None or self.sock.family != socket.AF_UNIX else module.accept
        self.pinned = protocol

    def wake(self, accepted: tuple[int, Any] | None = None) -> None:
        """Accept and serve until nothing is left, or until other events must be handled.

        `accepted`: the first connection, where there is one already.
        """
        server, accept, pinned, is_tcp = self.server, self._accept, self.pinned, self.is_tcp
        by_first_byte, asleep, more = server.by_first_byte, server.pool.asleep, server.loop.more
        take, set_blocking = self._take, os.set_blocking
        for _ in range(_IN_A_ROW):
            if accepted is None:
                if not server.accepting:
                    return
                # Before, and not after: what others note meanwhile must stay
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
                data = _read(fd, CHUNK)  # as a rule the request has come with the connection
            except BlockingIOError:
                newcomer = Undetermined(server, fd, address, pinned)
                newcomer.wait(server.settings.header_timeout)
                continue
            except OSError:
                data = b""
            if not data:
                os.close(fd)
                continue
            # Who is about to sleep says so first, then looks at `more`: the other way round
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
                break  # this thread is to park: another goes on
        # Where the backlog never empties nobody sleeps, and so nobody hears of kept connections
        server.loop.hear(self.fd)
        server.loop.put_off(self)

    def _pass_on(self) -> bool:
        """Let a thread that sleeps go on with the next connection; whether there may be one."""
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
            self.server.loop.put_off(self)  # whatever it is, it must not wait for this thread
            return True
        self.server.loop.put_off(Accepted(self, accepted))
        return True

    def accept_one(self) -> tuple[int, Any] | None:
        """Return a connection and its peer's address, None where none waits."""
        try:
            return self._accept()  # type: ignore[no-any-return]
        except OSError:
            return None  # if it is more than that, a thread will see to it

    def accept_last(self, most: int) -> None:
        """Accept at most so many connections more, for threads to serve.

        When a connection comes the kernel wakes one thread, of one process (EPOLLEXCLUSIVE). One
        that has been woken, and then may not accept any more, must not leave the connection to
        others, who are asleep and are not told of it again.
        """
        for _ in range(most):
            try:
                accepted = self._accept()
            except OSError:  # nothing is left, or it is for the next thread
                return
            self.server.loop.put_off(Accepted(self, accepted))

    def _bear(self, error: OSError) -> bool:
        """Take note that accept(2) failed; whether to try again at once."""
        if error.errno in _OF_THE_PEER:
            return True
        # Who has come just now is about to say something; the next one can wait in the backlog
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
    """A connection that one thread has accepted for another to serve, and then to go on."""

    def __init__(self, listener: Listener, accepted: tuple[int, Any]) -> None:
        self._listener = listener
        self._accepted = accepted

    def wake(self) -> None:
        """Serve the connection, then accept further ones."""
        self._listener.wake(self._accepted)

    def close(self) -> None:
        """Close the connection, which nobody is to serve."""
        os.close(self._accepted[0])


class Undetermined(Connection):
    """A connection whose protocol is not known yet.

    If its first byte fits none, it is answered in the protocol that most peers understand.
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
        # An event that came to the old name is the new one's
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
        """Called at a stop: still wait for this connection's request.

        Its peer has connected and is about to write. If it were disconnected, a front would not
        retry but answer 502.
        """
        self.deadline = min(self.deadline, monotonic() + _TO_SPEAK)

    def expired(self) -> None:
        shut_if_silent(self.fd)  # a request that was sent just now is still read


def _without_delay(fd: int) -> None:
    """A response goes out at once, though it is shorter than a TCP segment."""
    sock = socket.socket(fileno=fd)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass
    finally:
        sock.detach()
