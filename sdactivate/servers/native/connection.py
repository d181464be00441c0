"""A connection to a peer: its descriptor, its turns, and what every protocol shares.

Whose turn it is. A connection that waits for its peer belongs to nobody; its descriptor is in
the server's epoll set, edge-triggered, once and for all. Any thread may be handed an event for
it, and `wake` makes sure that one of them at a time takes it forward: who comes second leaves a
note (`again`) and goes. A spurious event is harmless: there is nothing to read, and that is all.

Reading never blocks a thread while a request's header, or a body of reasonable size, is still
coming. Only where the application reads a large body, or the peer is slow to take a response,
does the thread wait for it (`_wait`), and then it lends its place to another.

All descriptors are non-blocking and used raw, without socket objects: that halves the cost of
a small request.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Mapping
from threading import Lock
from time import monotonic
from typing import Any, Protocol

from sdactivate.runtime import log
from sdactivate.servers import forks
from sdactivate.servers.native.forwarded import Trust
from sdactivate.servers.native.loop import Loop
from sdactivate.servers.native.pool import Pool
from sdactivate.servers.native.quiet import shut_if_silent
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wsgi import PeerGone, Response
from sdactivate.settings import Settings

CHUNK = 65536
# Below this, copying a body behind its head is cheaper than a second buffer for the kernel
_COPY = 16384
# After a refusal or an unread body: how much of what the peer still sends is thrown away, and
# for how long, so that it sees our answer rather than a reset
_LINGER_BYTES = 64 << 20
_LINGER_SECONDS = 5.0

_close = os.close
_read = os.read
_write = os.write


def _shutdown(fd: int, how: int) -> None:
    sock = socket.socket(fileno=fd)
    try:
        sock.shutdown(how)
    except OSError:
        pass  # the peer was quicker
    finally:
        sock.detach()


class Owner(Protocol):
    """What connections ask of the server that they belong to."""

    settings: Settings
    loop: Loop[Connection]
    pool: Pool
    base: dict[str, Any]
    trust: Trust
    fastcgi_values: dict[str, str]
    errors: int

    @property
    def draining(self) -> bool: ...
    @property
    def by_first_byte(self) -> Mapping[int, type[Connection]]: ...
    def http_base(self, address: Any, local: Any) -> dict[str, Any]: ...
    def check_length(self, length: int) -> None: ...
    def watch(self, connection: Connection) -> None: ...
    def has_been_quiet(self, since: float) -> bool: ...
    def respond(self, response: Response) -> None: ...
    def fault(self, error: Exception) -> None: ...


def local_address(fd: int, peer: Any) -> tuple[Any, ...] | None:
    """Return the address and port of the TCP connection `fd` on this side, None on other sockets.

    peer: its peer's address, as accept(2) gave it.
    """
    if not isinstance(peer, tuple) or not isinstance(peer[0], str):
        return None
    sock = socket.socket(fileno=fd)
    try:
        found: tuple[Any, ...] = sock.getsockname()
    finally:
        sock.detach()
    return found


class Connection:
    """One accepted connection; the protocols derive from it.

    server: whose it is. fd: its descriptor, -1 once closed. address: the peer's, as accept(2)
    gives it. since, deadline: when the wait for the peer began and when it ends, on the monotonic
    clock; 0: none did.
    done: the response under way has been sent to its end.
    """

    protocol = "?"
    # What stands in front of a response's status
    status_line = "Status: "
    # Whether a body goes over the wire as it is, so that a file may be copied by sendfile(2)
    raw_body = False

    # Until something else is said
    since = 0.0
    deadline = 0.0
    done = False
    _lock: Lock | None = None
    _again = False
    _lingered = -1
    half_closed = False  # the peer has closed its side, or both are: an end is to be read

    def __init__(self, server: Owner, fd: int, address: Any) -> None:
        self.server = server
        self.fd = fd
        self.address = address

    # What each protocol gives

    def received(self, data: bytes) -> None:
        """Take bytes from the peer; serve what has become complete."""
        raise NotImplementedError

    def head(self, status: str, fields: str, response: Response) -> bytes:
        """Return the head of a response: its status and fields, each with its line break."""
        return f"{self.status_line}{status}\r\n{fields}\r\n".encode("latin-1")

    def frame(self, data: bytes) -> bytes:
        """Return a piece of a response's body as it goes over the wire."""
        return data

    def beginning(self, head: bytes, data: bytes) -> bytes:
        """Return a head and the first piece of a body, if any, as they go over the wire."""
        return head + self.frame(data) if data else head

    def send_last(self, head: bytes, body: bytes, response: Response) -> None:
        """Send all that is left of a response: its head, its whole body, its end."""
        raise NotImplementedError

    def send_tail(self, response: Response) -> None:
        """Send the end of a response whose head and body are sent."""
        raise NotImplementedError

    def expired(self) -> None:
        """The deadline has passed: end the connection in the protocol's way."""
        self.close()

    # Turns

    def wait(self, seconds: float) -> None:
        """Leave the connection until its peer says more, for `seconds` at most."""
        self.since = monotonic()
        self.deadline = self.since + seconds
        if self._lock is None:
            self._lock = lock = Lock()
            with lock:  # until the kernel knows the descriptor, nobody may close it
                self.server.watch(self)
            if self._again:
                self.server.loop.put_off(self)

    def wake(self) -> None:
        """Take the connection forward, unless another thread is at it, which then goes on."""
        self._again = True
        lock = self._lock
        while self._again and lock is not None and lock.acquire(False):
            self._again = False
            try:
                if self.fd >= 0:
                    self._advance()
            except BaseException:
                self.close()
                raise
            finally:
                lock.release()

    def expire(self, now: float) -> None:
        """End the connection if its deadline has passed and no thread is at it.

        Unless its peer has spoken in time and no thread has been free to listen.
        """
        lock = self._lock
        if lock is not None and lock.acquire(False):
            try:
                if self.fd >= 0 and 0 < self.deadline <= now:
                    if self._lingered >= 0:
                        self.close()
                    elif not self.has_spoken():
                        self.expired()
            except Exception as error:  # this thread looks after all the others
                self.close()
                self.server.fault(error)
            finally:
                lock.release()
            if self._again:
                self.server.loop.put_off(self)

    def has_spoken(self) -> bool:
        """Whether there is something to read, which a thread will be told of, or has been."""
        return self._poll(select.POLLIN, 0)

    def _advance(self) -> None:
        """Read what there is and take it."""
        while True:
            try:
                data = _read(self.fd, CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            if not data:
                self.ended()
                return
            if self._lingered >= 0:
                self._lingered += len(data)
                if self._lingered > _LINGER_BYTES:
                    self.close()
                    return
            else:
                self.received(data)
            # A short read has emptied the socket, but for an end that came in the same event;
            # what comes later is an event of its own
            if self.fd < 0 or (len(data) < CHUNK and not self.half_closed):
                return

    def ended(self) -> None:
        """The peer has closed its side."""
        self.close()

    def close(self) -> None:
        """Close the connection; nothing happens to one that is closed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            if self._lock is not None:
                self.server.loop.forget(fd)
            if forks.happened:
                _shutdown(fd, socket.SHUT_RDWR)
            _close(fd)

    def linger(self) -> None:
        """Close the connection, but let the peer finish talking so that it reads our answer.

        Closing with unread bytes resets the connection, and fronts then throw the response
        away that came before.
        """
        if self.fd >= 0 and self._lingered < 0:
            self._lingered = 0
            self.shutdown(socket.SHUT_WR)
            self.wait(_LINGER_SECONDS)

    def shutdown(self, how: int) -> None:
        """shutdown(2) on this connection, which is no concern of anybody else's."""
        _shutdown(self.fd, how)

    def retire(self) -> None:
        """The server takes no more requests: end the connection if none is under way.

        One that was sent in part has begun, whether it has been read or not: the rest is waited
        for. A connection with a request under way ends with its response, and one whose peer was
        heard a moment ago is looked at again: see `quiet`.
        """
        lock = self._lock
        if lock is not None and lock.acquire(False):
            shut = False
            try:
                if self.fd >= 0 and self.idle and self.server.has_been_quiet(self.since):
                    shut = shut_if_silent(self.fd)
            finally:
                lock.release()
            if shut or self._again:
                self.server.loop.put_off(self)  # its end is for a thread of the pool to read

    def give_way(self, why: str) -> bool:
        """Close the connection to make room, unless a thread is at it; whether it was closed.

        Not if its peer has said what nobody has heard yet. Who has begun a request, and is slow
        to go on, is told that there is no room for it.
        """
        lock = self._lock
        if lock is None or not lock.acquire(False):
            return False
        try:
            if self.fd < 0:
                return False  # it has been closed meanwhile, or has become another
            if self._lingered < 0 and self.has_spoken():
                return False
            try:
                if self._lingered < 0 and not self.idle:
                    self.refuse(Malformed(f"gives way to others: {why}", "503 Service Unavailable"))
            finally:
                self.close()
        finally:
            lock.release()
        return True

    def hand_over(self, successor: Connection) -> None:
        """Let `successor` have the descriptor; the time that its peer has begins anew."""
        successor.since = self.since
        successor._lock = self._lock
        successor._again = self._again
        successor.half_closed = self.half_closed
        if self._lock is not None:
            self.server.loop.replace(successor)
        self.fd = -1

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return False

    @property
    def has_begun(self) -> bool:
        """Whether a request has begun, if only by its first byte, and has not been answered."""
        return self._lingered < 0 and not self.idle

    def refuse(self, error: Malformed) -> None:
        """Answer what the peer got wrong, say so once, and end the connection."""
        log.say(log.WARNING, f"{self.peer_name()}: {log.escape(error)}; answered {error.status}")
        self.server.errors += 1
        try:
            self.answer(error.status)
        except PeerGone:
            self.close()
            return
        self.linger()

    def answer(self, status: str) -> None:
        """Send a response of the server's own. Raises PeerGone."""
        self.send_now(self.plain(status))

    def plain(self, status: str, fields: str = "") -> bytes:
        """Return a response that says its status, with `fields` besides."""
        body = f"{status}\n"
        fields += f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        return f"{self.status_line}{status}\r\n{fields}\r\n{body}".encode("ascii")

    def peer_name(self) -> str:
        """Who the peer is, for the log."""
        address = self.address
        if isinstance(address, tuple):
            return f"{address[0]}:{address[1]} ({self.protocol})"
        return f"unix peer ({self.protocol})"

    # Bytes out and in, by a thread that serves a request

    def send(self, data: bytes) -> None:
        """Send all of `data`. Raises PeerGone where the peer is gone or takes too long."""
        try:
            sent = _write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise PeerGone from error
        if sent != len(data):
            self._send_rest(memoryview(data)[sent:])

    def send_now(self, data: bytes) -> None:
        """Send a few bytes that are not worth waiting for. Raises PeerGone if they can't go now.

        For refusals: whoever looks after deadlines must not be held up.
        """
        try:
            sent = _write(self.fd, data)
        except OSError as error:
            raise PeerGone from error
        if sent != len(data):
            raise PeerGone

    def send_both(self, head: bytes, body: bytes) -> None:
        """Send a head and a body together, without copying a long one. Raises PeerGone."""
        if len(body) < _COPY:
            self.send(head + body)
            return
        try:
            sent = os.writev(self.fd, (head, body))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise PeerGone from error
        if sent < len(head):
            self.send(head[sent:])
            sent = len(head)
        if sent != len(head) + len(body):
            self._send_rest(memoryview(body)[sent - len(head) :])

    def send_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None:
        """Send a head and `count` bytes of a file from `offset` on. Raises PeerGone."""
        self.send(head)
        end = offset + count
        while offset < end:
            try:
                sent = os.sendfile(self.fd, descriptor, offset, min(end - offset, 1 << 30))
            except BlockingIOError:
                self._wait_to_write()
                continue
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET):
                    raise PeerGone from error
                raise
            if not sent:
                raise OSError(f"the file ended {end - offset} bytes before its size")
            offset += sent

    def _send_rest(self, data: memoryview) -> None:
        while data:
            self._wait_to_write()
            try:
                sent = _write(self.fd, data)
            except BlockingIOError:
                continue
            except OSError as error:
                raise PeerGone from error
            data = data[sent:]

    def read(self) -> bytes:
        """Read some bytes of a body, waiting for them.

        Raises PeerGone where the peer has vanished or closed its side, Malformed where it says
        nothing for `body_timeout`.
        """
        timeout = self.server.settings.body_timeout
        while True:
            try:
                data = _read(self.fd, CHUNK)
            except BlockingIOError:
                if not self._wait(select.POLLIN, timeout):
                    raise Malformed(
                        f"the body has stopped for {timeout:g} s", "408 Request Timeout"
                    ) from None
                continue
            except OSError as error:
                raise PeerGone("the peer went away in the middle of the body") from error
            if not data:
                raise PeerGone("the peer closed the connection in the middle of the body")
            return data

    def _wait_to_write(self) -> None:
        timeout = self.server.settings.write_timeout
        if not self._wait(select.POLLOUT, timeout):
            taking = f"{self.peer_name()}: takes nothing for {timeout:g} s"
            log.say(log.WARNING, f"{taking}; connection closed")
            raise PeerGone

    def _wait(self, events: int, seconds: float) -> bool:
        """Wait for the peer with the thread's place lent to another; whether it is ready."""
        with self.server.pool.lending():
            return self._poll(events, seconds)

    def _poll(self, events: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.fd, events)
        return bool(poll.poll(seconds * 1000))
