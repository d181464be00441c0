"""A connection: its descriptor, reading, writing, deadlines, and the code that protocols share.

Ownership. No thread owns a connection that waits for its peer; its descriptor stays in the server's
epoll set, edge-triggered. Any thread may get an event for it, and `wake` makes sure that only one
thread at a time processes it: a second thread sets the flag `again` and returns. A spurious event
is harmless, since there is nothing to read.

No thread waits for a slow peer if the bytes are available. A request's header and body are
collected as they arrive. The part of a complete response (bytes, a file) that the peer does not
accept at once stays with the connection (`output`) and is sent later. A thread waits only if the
application generates a response piece by piece or reads a streamed body, and then it lends its
place to another.

All descriptors are non-blocking and used without socket objects, which halves the cost of a small
request.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from time import monotonic
from typing import Any, Protocol

from sdactivate import log
from sdactivate.servers import forks
from sdactivate.servers.native.accel import module
from sdactivate.servers.native.forwarded import Trust
from sdactivate.servers.native.held_bodies import Held, Read, Upload
from sdactivate.servers.native.loop import Loop
from sdactivate.servers.native.pending_output import GRACE, FileRange, Output, Pace, Piece
from sdactivate.servers.native.pool import Pool
from sdactivate.servers.native.shut_idle import shut_if_silent
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wsgi import PeerGone, Response
from sdactivate.settings import Settings

CHUNK = 65536
# Below this, copying a body behind its head is cheaper than a second buffer for the kernel
COPY = 16384
# After a refusal or an unread body: how many bytes from the peer are discarded, and for how long,
# so that it reads the answer instead of getting a reset
_LINGER_BYTES = 64 << 20
_LINGER_SECONDS = 5.0
# How many bytes a connection reads or writes before others have their turn
_TURN = 1 << 20
# Seconds between two checks of a slow peer's speed
_LOOK = 5.0

_close = os.close
_read = os.read if module is None else module.receive
_write = os.write


def _shutdown(fd: int, how: int) -> None:
    sock = socket.socket(fileno=fd)
    try:
        sock.shutdown(how)
    except OSError:
        pass  # the peer has closed it already
    finally:
        sock.detach()


class Owner(Protocol):
    """What connections need of their server."""

    settings: Settings
    loop: Loop[Connection]
    pool: Pool
    base: dict[str, Any]
    http_base: dict[str, Any]
    variables: Any  # reads plain requests: see `twin`
    handler: Any  # handles them: see `twin`
    held: Held
    trust: Trust
    fastcgi_values: dict[str, str]
    probes: Any  # answers health checks without the application: see `probes`
    errors: int

    @property
    def draining(self) -> bool: ...
    @property
    def by_first_byte(self) -> Mapping[int, type[Connection]]: ...
    def of_client(self, address: Any, local: Any) -> dict[str, str] | None: ...
    def check_length(self, length: int) -> None: ...
    def is_streamed(self, environ: Mapping[str, Any]) -> bool: ...
    def watch(self, connection: Connection) -> None: ...
    def has_been_quiet(self, since: float) -> bool: ...
    def respond(self, response: Any) -> None: ...
    def fault(self, error: Exception) -> None: ...


def local_address(fd: int, peer: Any) -> tuple[Any, ...] | None:
    """Return the local address and port of the TCP connection `fd`, None for other sockets.

    peer: its peer's address, as returned by accept(2).
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

    server: its server. fd: its descriptor, -1 once closed. address: the peer's, as returned by
    accept(2). since, deadline: when the wait for the peer began and when it ends, on the monotonic
    clock; 0: never. done: whether the current response is complete. output: the part of it that
    the peer has not accepted yet; then: called when it has. upload: a request's body while it
    arrives.
    """

    protocol = "?"
    # The text before a response's status
    status_line = "Status: "
    # Whether a body is sent without framing, so that a file can be copied by sendfile(2)
    raw_body = False

    # The initial state
    since = 0.0
    deadline = 0.0
    done = False
    _lock: Lock | None = None
    _again = False
    _lingered = -1
    # For a streamed body: bytes so far, and seconds spent waiting for its peer
    _streamed = 0
    _waited = 0.0
    output: Output | None = None
    then: Callable[[], None] | None = None
    upload: Upload | None = None
    half_closed = False  # the peer has closed its side, or both are closed: end of file follows

    def __init__(self, server: Owner, fd: int, address: Any) -> None:
        self.server = server
        self.fd = fd
        self.address = address

    # What each protocol implements

    def received(self, data: bytes) -> None:
        """Process bytes from the peer; serve the requests that they complete."""
        raise NotImplementedError

    @property
    def in_body(self) -> bool:
        """Whether the next bytes belong to the collected body, so that `fill` may read them."""
        return False

    def fill(self, upload: Upload) -> Read:
        """Read more of the body that is being collected (`in_body`) into its buffer.

        Raises OSError.
        """
        return upload.receive(self.fd)

    def filled(self, count: int, behind: bytes) -> None:
        """Record that `count` bytes of a body have been read into `upload`, and continue.

        behind: bytes that arrived after the end of the body.
        """
        raise NotImplementedError

    def head(self, status: str, fields: str, response: Response) -> bytes:
        """Return the head of a response: its status and fields, each with its line break."""
        return f"{self.status_line}{status}\r\n{fields}\r\n".encode("latin-1")

    def frame(self, data: bytes) -> bytes:
        """Return a piece of a response's body with the protocol's framing."""
        return data

    def beginning(self, head: bytes, data: bytes) -> bytes:
        """Return a head and the first piece of a body, if any, with the protocol's framing."""
        return head + self.frame(data) if data else head

    def send_last(self, head: bytes, body: bytes, response: Response) -> None:
        """Send a whole response: its head, its body, its end."""
        raise NotImplementedError

    def send_tail(self, response: Response) -> None:
        """Send the end of a response whose head and body are sent."""
        raise NotImplementedError

    def settle(self) -> None:
        """Called when a response is complete: close the connection, unless it is kept alive."""

    def resume(self) -> None:
        """Continue with what had to wait until a response was sent."""

    def ask_to_close(self) -> None:
        """Ask the peer of an idle connection to close it, once, if the protocol can."""

    def expired(self) -> None:
        """Called when the deadline has passed: end the connection as the protocol requires."""
        self.close()

    # Turns

    def wait(self, seconds: float) -> None:
        """Leave the connection until its peer sends more, for `seconds` at most."""
        self.since = monotonic()
        self.deadline = self.since + seconds
        if self._lock is None:
            self._lock = lock = Lock()
            with lock:  # until epoll has the descriptor, no other thread may close it
                self.server.watch(self)
            if self._again:
                self.server.loop.put_off(self)

    def wait_to_send(self) -> None:
        """Leave the connection until its peer can accept more of `output`."""
        self.since = now = monotonic()
        self.deadline = now + min(_LOOK, self.server.settings.write_timeout)
        loop = self.server.loop
        if self._lock is not None:
            loop.expect_room(self)
            return
        self._lock = lock = Lock()
        with lock:
            self.server.watch(self)
            loop.expect_room(self)
        if self._again:
            loop.put_off(self)

    def wake(self) -> None:
        """Process the connection; if another thread is doing so, have that one go on."""
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
        """Close the connection if its deadline has passed and no thread is processing it.

        It stays open if its peer has sent data in time that no thread was free to read.
        """
        lock = self._lock
        if lock is not None and lock.acquire(False):
            try:
                if self.fd >= 0 and 0 < self.deadline <= now:
                    if self._lingered >= 0:
                        self.close()
                    elif self.output is not None:
                        self._look_at_pace(self.output, now)
                    elif not self.has_spoken():
                        self.expired()
            except Exception as error:  # this thread handles the deadlines of all connections
                self.close()
                self.server.fault(error)
            finally:
                lock.release()
            if self._again:
                self.server.loop.put_off(self)

    def has_spoken(self) -> bool:
        """Whether there is unread data. A thread gets an event for it, or has got one already."""
        return self._poll(select.POLLIN, 0)

    def _advance(self, data: bytes | None = None) -> None:
        """Send pending output; then read what has arrived, and process it.

        data: bytes that have been read already.
        """
        if self.output is not None and not self._go_on_sending(self.output):
            return
        end = _TURN
        while True:
            upload, asked, filled, behind = self.upload, CHUNK, 0, b""
            try:
                if data is not None:
                    count = len(data)
                elif upload is not None and upload.room and self.in_body:
                    asked, count, filled, behind = self.fill(upload)
                else:
                    data = _read(self.fd, CHUNK)
                    count = len(data)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            if not count:
                self.ended()
                return
            if self._lingered >= 0:
                self._lingered += count
                if self._lingered > _LINGER_BYTES:
                    self.close()
                    return
            elif data is None:
                self.filled(filled, behind)
            else:
                self.received(data)
            # A short read has emptied the socket, except for an end of file in the same event;
            # what arrives later causes another event
            if self.fd < 0 or (count < asked and not self.half_closed):
                return
            if self.output is not None:
                return  # read no more until the peer has accepted that
            end -= count
            if end <= 0:
                self._take_turns()
                return
            data = None

    def _take_turns(self) -> None:
        """Let other connections be processed before this one goes on."""
        self.server.loop.hear()
        self.server.loop.put_off(self)

    def _go_on_sending(self, output: Output) -> bool:
        """Send more of a response; return whether to read from the peer now."""
        try:
            sent = output.send(self.fd, _TURN)
        except PeerGone:
            self.close()
            return False
        except OSError as error:
            why = f"can't send the rest of the response: {error.strerror}"
            log.say(log.ERROR, f"{self.peer_name()}: {why}; connection closed")
            self.close()
            return False
        if not sent:
            self.since = monotonic()
            if sent is None:
                self._take_turns()
            return False
        self.output = None
        output.close()
        self.server.loop.expect_room(self, False)
        then, self.then = self.then, None
        if then is not None:
            then()
        if self.fd >= 0 and self._lingered < 0:
            self.resume()
        return self.fd >= 0 and self.output is None

    def _look_at_pace(self, output: Output, now: float) -> None:
        """Close the connection if its peer reads the response too slowly."""
        settings = self.server.settings
        pace = output.pace
        if pace is None:
            pace = output.pace = Pace(self.fd, output.written, self.since)
        pace.look(self.fd, output.written, now)
        if self._poll(select.POLLOUT, 0):
            pace.excuse(now)  # it has read all there was, and no thread was free to send more
        fault = pace.fault(now, settings.write_timeout, settings.write_rate)
        if fault is not None:
            log.say(log.WARNING, f"{self.peer_name()}: {fault}; connection closed")
            self.close()
            return
        self.deadline = now + min(_LOOK, settings.write_timeout)

    def ended(self) -> None:
        """Called when the peer has closed its side."""
        self.close()

    def close(self) -> None:
        """Close the connection, if it is not closed already."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            if self.output is not None or self.upload is not None:
                self._let_go()
            if self._lock is not None:
                self.server.loop.forget(fd)
            if forks.happened:
                _shutdown(fd, socket.SHUT_RDWR)
            _close(fd)

    def _let_go(self) -> None:
        """Drop the buffers that are held for the peer."""
        output, self.output = self.output, None
        if output is not None:
            output.close()
        upload, self.upload = self.upload, None
        if upload is not None:
            upload.close()

    def linger(self) -> None:
        """Close the connection, but first let the peer finish sending, so that it reads the answer.

        Closing with unread bytes resets the connection, and fronts then discard the response that
        was sent before.
        """
        if self.fd >= 0 and self._lingered < 0:
            self._lingered = 0
            self.shutdown(socket.SHUT_WR)
            self.wait(_LINGER_SECONDS)

    def shutdown(self, how: int) -> None:
        """Call shutdown(2) on this connection."""
        _shutdown(self.fd, how)

    def retire(self) -> None:
        """Called at a stop: end the connection if no request is in progress.

        A request has begun if a part of it was sent, whether that has been read or not: the rest is
        waited for. A connection with a request in progress ends with its response, and one whose
        peer was heard a moment ago is checked again: see `shut_idle`.
        """
        lock = self._lock
        if lock is not None and lock.acquire(False):
            shut = False
            try:
                if self.fd >= 0 and self.idle and self.output is None:
                    if self.server.has_been_quiet(self.since):
                        shut = shut_if_silent(self.fd)
                    else:
                        self.ask_to_close()
            finally:
                lock.release()
            if shut or self._again:
                self.server.loop.put_off(self)  # a thread of the pool reads its end of file

    def give_way(self, why: str) -> bool:
        """Close the connection to make room, unless a thread is processing it.

        Return whether it was closed. It is not closed if its peer has sent data that no thread has
        read yet. A peer that has begun a request and is slow to send the rest is answered 503.
        """
        lock = self._lock
        if lock is None or not lock.acquire(False):
            return False
        try:
            if self.fd < 0:
                return False  # it has been closed or handed over in the meantime
            if self.output is not None:
                log.say(log.WARNING, f"{self.peer_name()}: disconnected to make room: {why}")
            elif self._lingered < 0 and self.has_spoken():
                return False
            try:
                if self.output is None and self._lingered < 0 and not self.idle:
                    reason = f"closed to make room for others: {why}"
                    self.refuse(Malformed(reason, "503 Service Unavailable"))
            finally:
                self.close()
        finally:
            lock.release()
        return True

    def hand_over(self, successor: Connection) -> None:
        """Give the descriptor to `successor`, whose deadline starts again."""
        successor.since = self.since
        successor._lock = self._lock
        successor._again = self._again
        successor.half_closed = self.half_closed
        if self._lock is not None:
            self.server.loop.replace(successor)
        self.fd = -1

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return False

    @property
    def has_begun(self) -> bool:
        """Whether at least the first byte of a request has arrived that is not answered yet."""
        return self._lingered < 0 and (self.output is not None or not self.idle)

    def refuse(self, error: Malformed) -> None:
        """Answer a protocol error of the peer, log it, and end the connection."""
        log.say(log.WARNING, f"{self.peer_name()}: {log.escape(error)}; answered {error.status}")
        self.server.errors += 1
        try:
            self.answer(error.status)
        except PeerGone:
            self.close()
            return
        self.linger()

    def answer(self, status: str) -> None:
        """Send a response made by the server itself. Raises PeerGone."""
        self.send_now(self.plain(status))

    def plain(self, status: str, fields: str = "") -> bytes:
        """Return a response whose body is its status, with additional header `fields`."""
        body = f"{status}\n"
        fields += f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        return f"{self.status_line}{status}\r\n{fields}\r\n{body}".encode("ascii")

    def peer_name(self) -> str:
        """The peer's name for the log."""
        address = self.address
        if isinstance(address, tuple):
            return f"{address[0]}:{address[1]} ({self.protocol})"
        return f"unix peer ({self.protocol})"

    # Sending available bytes: what the peer does not accept at once is sent later

    def post(self, data: bytes) -> None:
        """Send all of `data`, now or later. Raises PeerGone."""
        if self.output is not None:
            self.output.add(data)
            return
        try:
            sent = _write(self.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise PeerGone from error
        if sent != len(data):
            self._hold(Output((memoryview(data)[sent:],)), data)

    def keep_rest(self, data: bytes, sent: int) -> None:
        """Finish a response whose first `sent` bytes the peer has accepted. Raises PeerGone."""
        self._hold(Output((memoryview(data)[sent:],)), data)
        self.finish()

    def post_both(self, head: bytes, body: bytes) -> None:
        """Send a head and a body, now or later, without copying the body. Raises PeerGone.

        For bodies of COPY bytes or more: copying a shorter one costs less.
        """
        self.post_pieces((memoryview(head), memoryview(body)), body)

    def post_pieces(
        self, pieces: Iterable[Piece], body: bytes | None, descriptor: int = -1
    ) -> None:
        """Send pieces, now or later. Raises PeerGone.

        body: the object that owns their bytes, None for a file's. descriptor: closed when they are
        sent.
        """
        output = Output(pieces, descriptor)
        try:
            if self.output is not None:  # usually answers to management records
                self._send_rest(memoryview(b""))
            sent = output.send(self.fd, _TURN)
        except BaseException:
            output.close()
            raise
        if not sent:
            self._hold(output, body)
        else:
            output.close()

    def _hold(self, output: Output, body: bytes | None) -> None:
        try:
            output.hold(self.server.held, body)
        except OSError as error:
            output.close()
            held = self.server.held
            why = f"over held_bytes={held.limit}, and {held.directory}: {error.strerror}"
            log.say(log.ERROR, f"{self.peer_name()}: can't buffer the response: {why}")
            raise PeerGone from error
        self.output = output

    def body_pieces(self, head: bytes, body: memoryview | FileRange) -> Iterator[Piece]:
        """Return a head and a body with the protocol's framing."""
        yield memoryview(head)
        yield body

    def send_file(self, head: bytes, descriptor: int, offset: int, count: int) -> None:
        """Send a head and `count` bytes of a file from `offset` on, now or later.

        The descriptor is closed when they are sent. Raises PeerGone, and OSError if the file is
        shorter.
        """
        body = FileRange(descriptor, offset, offset + count)
        self.post_pieces(self.body_pieces(head, body), None, descriptor)

    def finish(self) -> None:
        """Finish the response: call `settle` now, or when the peer has accepted all of it."""
        self.done = True
        if self.output is None:
            self.settle()
        else:
            self.then = self.settle

    # Blocking sends and receives, for a thread that serves a request

    def send(self, data: bytes) -> None:
        """Send all of `data`, and wait until the peer accepts it.

        Raises PeerGone if the peer has disconnected or accepts it too slowly.
        """
        if self.output is None:
            try:
                sent = _write(self.fd, data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise PeerGone from error
            if sent == len(data):
                self.server.pool.progress()
                return
            self._send_rest(memoryview(data)[sent:])
        else:
            self._send_rest(memoryview(data))

    def send_now(self, data: bytes) -> None:
        """Send a few bytes without waiting. Raises PeerGone if they can't be sent at once.

        For refusals: the thread that handles deadlines must not wait.
        """
        if self.output is not None:
            raise PeerGone
        try:
            sent = _write(self.fd, data)
        except OSError as error:
            raise PeerGone from error
        if sent != len(data):
            raise PeerGone

    def _send_rest(self, data: memoryview) -> None:
        """Wait until all is sent, with this thread's place lent to another."""
        output = self.output or Output(())
        output.add(data)
        self.output = None
        settings = self.server.settings
        look = min(_LOOK, settings.write_timeout)
        pace = Pace(self.fd, output.written, monotonic())
        slow = SlowReader(self, pace, output)
        try:
            with self.server.pool.lending(slow):
                while not output.send(self.fd, _TURN):
                    if slow.is_cut:
                        raise PeerGone
                    self._poll(select.POLLOUT, look)
                    now = monotonic()
                    pace.look(self.fd, output.written, now)
                    fault = pace.fault(now, settings.write_timeout, settings.write_rate)
                    if fault is not None:
                        log.say(log.WARNING, f"{self.peer_name()}: {fault}; connection closed")
                        raise PeerGone
        finally:
            output.close()

    def read(self) -> bytes:
        """Wait for some bytes of a body and return them.

        Raises PeerGone if the peer has disconnected or closed its side, Malformed if it sends
        nothing for `body_timeout`, or less than `body_rate`.
        """
        timeout = self.server.settings.body_timeout
        while True:
            try:
                data = _read(self.fd, CHUNK)
            except BlockingIOError:
                self._wait_to_read(timeout)
                continue
            except OSError as error:
                raise PeerGone("the peer disconnected in the middle of the body") from error
            if not data:
                raise PeerGone("the peer closed the connection in the middle of the body")
            self._streamed += len(data)
            return data

    def _wait_to_read(self, timeout: float) -> None:
        self._check_rate(self._streamed, self._waited)
        began = monotonic()
        slow = SlowWriter(self, self._streamed, began - self._waited)
        with self.server.pool.lending(slow):
            has_come = self._poll(select.POLLIN, timeout)
            # Time spent in the application, by this thread or another, does not count for the peer
            self._waited += monotonic() - began
        if slow.is_cut:
            raise PeerGone("the peer was disconnected in the middle of the body")
        if not has_come:
            raise Malformed(
                f"no byte of the body for {timeout:g} s (body_timeout)", "408 Request Timeout"
            )

    def _check_rate(self, size: int, seconds: float) -> None:
        """Raise Malformed if `size` bytes of a body in this many seconds are too few (`body_rate`).

        Call it only after the bytes that have arrived are read: bytes that waited because all
        threads were busy must count for the peer.
        """
        rate = self.server.settings.body_rate
        if seconds > GRACE and size < rate * seconds and not self.has_spoken():
            raise Malformed(
                f"the body arrives at less than {rate} bytes per second (body_rate)",
                "408 Request Timeout",
            )

    def collect(self, pieces: Iterable[bytes | bytearray], came: int, length: int | None) -> Upload:
        """Keep pieces of a request's body until all of it has arrived. Raises Malformed.

        came: bytes that the peer has sent for it, including framing and incomplete parts. length:
        bytes of the whole body, None: unknown.
        """
        upload = self.upload
        if upload is None:
            settings = self.server.settings
            self.upload = upload = Upload(
                self.server.held, settings.body_buffer, monotonic(), length
            )
        upload.came += came
        for piece in pieces:
            upload.write(piece)
        return upload

    def wait_for_more(self, upload: Upload) -> None:
        """Leave the connection until more of a body arrives. Raises Malformed if it is too slow."""
        self._check_rate(upload.came, monotonic() - upload.began)
        self.wait(self.server.settings.body_timeout)

    def too_late(self) -> Malformed:
        """Return the error for a peer that has not completed a request in time."""
        why = f"{self.protocol}: no complete request"
        if self.upload is not None:
            why = f"no byte of the body for {self.server.settings.body_timeout:g} s (body_timeout)"
        return Malformed(why, "408 Request Timeout")

    def _poll(self, events: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.fd, events)
        return bool(poll.poll(seconds * 1000))


class Slow:
    """A peer that a thread waits for: see `pool.SlowPeer`."""

    def __init__(self, connection: Connection) -> None:
        self.is_cut = False
        self._connection = connection

    def rate(self, now: float) -> float:
        raise NotImplementedError

    def cut(self, why: str) -> None:
        """Stop waiting for it, and disconnect it."""
        connection = self._connection
        self.is_cut = True
        log.say(log.WARNING, f"{connection.peer_name()}: {why}; connection closed")
        connection.shutdown(socket.SHUT_RDWR)


class SlowReader(Slow):
    """A peer that reads a response."""

    def __init__(self, connection: Connection, pace: Pace, output: Output) -> None:
        super().__init__(connection)
        self._pace = pace
        self._output = output

    def rate(self, now: float) -> float:
        """Bytes per second that it has read since the wait began."""
        pace = self._pace
        pace.look(self._connection.fd, self._output.written, now)
        return pace.taken / max(now - pace.began, 0.001)


class SlowWriter(Slow):
    """A peer that sends a body; `began`: start of this wait, less the time of earlier waits."""

    def __init__(self, connection: Connection, size: int, began: float) -> None:
        super().__init__(connection)
        self._size = size
        self._began = began

    def rate(self, now: float) -> float:
        """Bytes per second that it has sent during the waits for it."""
        return self._size / max(now - self._began, 0.001)
