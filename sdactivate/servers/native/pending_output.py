"""Output that a slow peer has not accepted yet, sent by the loop without a thread.

An `Output` is the rest of a response whose body is available: bytes, or a range of a file. It needs
no thread of its own: any thread that gets the event that the socket is writable sends the next
part. A `Pace` measures how fast a peer reads, whether or not a thread waits for it.
"""

from __future__ import annotations

import errno
import os
import sys
import termios
from collections.abc import Iterable, Iterator
from fcntl import ioctl

from sdactivate.servers.native.held_bodies import Held
from sdactivate.servers.native.wsgi import PeerGone

# The most bytes and pieces for one writev(2): a socket's buffer usually has 208 KiB
_GATHER = 1 << 18
_PIECES = 64
# The minimum rate is not enforced in the first GRACE seconds, nor for the first LUMP bytes: on a
# unix socket the kernel reports what was read in lumps of up to 32 KiB
GRACE = 20.0
LUMP = 1 << 16


class FileRange:
    """Bytes `start` to `end` of a file; slicing it returns another range."""

    __slots__ = ("descriptor", "end", "start")

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self.descriptor = descriptor
        self.start = start
        self.end = end

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, part: slice) -> FileRange:
        start, stop, _ = part.indices(len(self))
        return FileRange(self.descriptor, self.start + start, self.start + stop)


Piece = memoryview | FileRange


class Output:
    """The output that is still to be sent on a connection.

    written: bytes that the kernel has accepted so far.
    """

    __slots__ = ("_descriptor", "_held", "_more", "_pieces", "_shared", "pace", "written")

    def __init__(self, pieces: Iterable[Piece], descriptor: int = -1) -> None:
        """pieces: what to send, in order. descriptor: closed at the end, if there is one."""
        self.written = 0
        self.pace: Pace | None = None
        self._pieces: list[Piece] = []
        self._more: Iterator[Piece] = iter(pieces)
        self._descriptor = descriptor
        self._held: Held | None = None
        self._shared: bytes | None = None

    def add(self, data: bytes | memoryview) -> None:
        """Send `data` after everything else."""
        rest = self._more

        def more() -> Iterator[Piece]:
            yield from rest
            yield memoryview(data)

        self._more = more()

    def send(self, fd: int, most: int) -> bool | None:
        """Send until all is sent (True), the peer accepts no more (False), or `most` bytes (None).

        Raises PeerGone, and OSError if a file can't be read to its end.
        """
        end = self.written + most
        try:
            while self._pieces or self._refill():
                if self.written >= end:
                    return None
                first = self._pieces[0]
                if isinstance(first, FileRange):
                    self._send_file(fd, first)
                else:
                    self._send_pieces(fd)
        except BlockingIOError:
            return False
        return True

    def _refill(self) -> bool:
        size = 0
        pieces = self._pieces
        for piece in self._more:
            if piece:
                pieces.append(piece)
                size += len(piece)
                if size >= _GATHER or len(pieces) >= _PIECES:
                    break
        return bool(pieces)

    def _send_pieces(self, fd: int) -> None:
        pieces = self._pieces
        batch = []
        for piece in pieces:
            if isinstance(piece, FileRange):
                break
            batch.append(piece)
        try:
            sent = os.writev(fd, batch)
        except BlockingIOError:
            raise
        except OSError as error:
            raise PeerGone from error
        self.written += sent
        for number, piece in enumerate(batch):
            if sent < len(piece):
                pieces[number] = piece[sent:]
                del pieces[:number]
                return
            sent -= len(piece)
        del pieces[: len(batch)]

    def _send_file(self, fd: int, piece: FileRange) -> None:
        try:
            sent = os.sendfile(fd, piece.descriptor, piece.start, min(len(piece), 1 << 20))
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                raise PeerGone from error
            raise
        if not sent:
            raise OSError(errno.EIO, f"the file ended {len(piece)} bytes before its size")
        self.written += sent
        if sent < len(piece):
            piece.start += sent
        else:
            del self._pieces[0]

    def hold(self, held: Held, body: bytes | None) -> None:
        """Count the rest against `held`; over its limit, move it to a file. Raises OSError.

        body: the object that owns the remaining bytes, None for a file's.
        """
        if body is not None:
            if not held.share(body):
                with held.file() as file:
                    self._spool(file.fileno())
            else:
                self._shared = body
        held.count(responses=1)
        self._held = held

    def _spool(self, descriptor: int) -> None:
        self._descriptor = os.dup(descriptor)
        size = 0
        while self._pieces or self._refill():
            for piece in self._pieces:
                assert isinstance(piece, memoryview)
                while piece:
                    written = os.write(descriptor, piece)
                    size += written
                    piece = piece[written:]
            self._pieces.clear()
        self._pieces = [FileRange(self._descriptor, 0, size)]

    def close(self) -> None:
        """Release the rest."""
        self._pieces.clear()
        self._more = iter(())
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        held, self._held = self._held, None
        if held is not None:
            if self._shared is not None:
                held.unshare(self._shared)
                self._shared = None
            held.count(responses=-1)


class Pace:
    """The speed at which a peer reads what is sent to it.

    began: when the first wait for it began, on the monotonic clock, plus the excused time. moved:
    when it last read something. taken: bytes read since it began.
    """

    __slots__ = ("_first", "_looked", "_waited", "began", "moved", "taken")

    def __init__(self, fd: int, written: int, now: float) -> None:
        self.began = self.moved = self._looked = now
        self.taken = 0
        self._waited = 0.0
        self._first = written - unsent(fd)

    def look(self, fd: int, written: int, now: float) -> None:
        """Record how much the peer has read by now of `written` bytes."""
        taken = written - unsent(fd) - self._first
        if taken > self.taken:
            self.taken = taken
            self.moved = now
        self._waited, self._looked = now - self._looked, now

    def excuse(self, now: float) -> None:
        """Don't count the time between the last two looks: the peer was waiting for this server."""
        self.began += self._waited
        self.moved = now

    def fault(self, now: float, silence: float, rate: int) -> str | None:
        """Return why the peer is too slow: it read nothing for `silence` seconds, or below `rate`.

        `rate`: bytes per second, 0: no limit. Returns None if it is not too slow.
        """
        if now - self.moved >= silence:
            return f"accepted no byte for {silence:g} s (write_timeout)"
        elapsed = now - self.began
        if elapsed > GRACE and self.taken + LUMP < rate * elapsed:
            return f"accepts less than {rate} bytes per second (write_rate)"
        return None


def unsent(fd: int) -> int:
    """Bytes that a socket's peer has not read yet (tcp(7), SIOCOUTQ; unix(7))."""
    try:
        return int.from_bytes(ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder, signed=True)
    except OSError:
        return 0  # this family does not report it: count what the kernel has accepted
