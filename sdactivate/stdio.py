"""Write to standard output and error without blocking, and count what had to be dropped.

If the journal has stopped or nobody reads a pipe, its buffer fills up, and a thread that writes to
it would wait, and its request too. Here text that can't be written at once is dropped and counted,
and the count is written when there is room again. The file descriptors are shared with other
processes, and O_NONBLOCK would affect them too. So for sockets each call asks not to wait
(MSG_DONTWAIT, send(2)), and pipes and terminals are opened again for this process only
(/proc/self/fd, proc(5)).

The application may close or replace the streams and the descriptors; this module copes with that.
"""

from __future__ import annotations

import io
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from threading import RLock, get_ident
from time import monotonic
from typing import Any

# The most that a pipe takes atomically (pipe(7), PIPE_BUF)
_ATOMIC = 4096


class Outlet:
    """Descriptor 1 or 2.

    notice: returns the text that reports a number of dropped writes. dropped: the number of dropped
    writes that have not been reported yet. written: when each thread, by its identity, last wrote
    something, on the monotonic clock.
    """

    def __init__(self, fd: int, notice: Callable[[int], bytes]) -> None:
        self.fd = fd
        self.dropped = 0
        self.written: dict[int, float] = {}
        self._notice = notice
        self._lock = RLock()  # reentrant: a destructor that runs meanwhile may write, too
        self._rest = b""  # the rest of a text that was written in part
        self._is: tuple[int, int] | None = None  # what the descriptor was when last checked
        self._send: Callable[[bytes], int] = self._write
        self._own: list[object] = []  # the object that `_send` uses, which closes with it
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = RLock()
        self._rest = b""  # the parent reports those
        self.dropped = 0

    def write(self, data: bytes) -> None:
        """Write `data`, or drop and count it."""
        self.written[get_ident()] = monotonic()
        with self._lock:
            if not (self.catch_up() and self._put(data)):
                self.dropped += 1

    def catch_up(self) -> bool:
        """Report how many writes were dropped, if any; return whether there is room for more."""
        with self._lock:
            if self.dropped:
                if not self._put(self._notice(self.dropped)):
                    return False
                self.dropped = 0
            return True

    def _put(self, data: bytes) -> bool:
        """Write `data` in full or in part; return False if it must be dropped."""
        begun = False
        try:
            self._look()
            while self._rest:
                self._rest = self._rest[self._send(self._rest) :]
            while data:
                data = data[self._send(data) :]
                begun = True
        except BlockingIOError:
            if begun:
                self._rest = data  # finish a line that was begun
            return begun
        except OSError:
            self._rest = b""  # a failure to report can't be reported
        return True

    def _look(self) -> None:
        """Choose how to write, if the descriptor has changed."""
        found = os.fstat(self.fd)
        if (found.st_dev, found.st_ino) == self._is:
            return
        self._is = found.st_dev, found.st_ino
        self._rest = b""
        self._close()
        if stat.S_ISSOCK(found.st_mode):
            sock = socket.socket(fileno=os.dup(self.fd))
            self._own.append(sock)
            self._send = lambda data: sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        elif stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                own = io.FileIO(os.open(f"/proc/self/fd/{self.fd}", flags), "wb")
            except OSError:  # it belongs to another user
                self._send = self._write_if_ready
            else:
                self._own.append(own)
                number = own.fileno()
                self._send = lambda data: os.write(number, data)
        else:
            self._send = self._write

    def _close(self) -> None:
        while self._own:
            self._own.pop().close()  # type: ignore[attr-defined]

    def _write(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def _write_if_ready(self, data: bytes) -> int:
        """Write as much as fits, unless another process fills the pipe first."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self.fd, data[:_ATOMIC])


class _Raw(io.RawIOBase):
    """The raw layer of a text stream over an outlet. Closing it leaves the descriptor open."""

    def __init__(self, outlet: Outlet, name: str) -> None:
        self._outlet = outlet
        self.name = name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._outlet.fd

    def write(self, data: object) -> int:
        content = bytes(data)  # type: ignore[call-overload]
        self._outlet.write(content)
        return len(content)


def take_over(out: Outlet, err: Outlet) -> None:
    """Let outlets write sys.stdout and sys.stderr, if these are connected to a process.

    Files and terminals are left as they are, and so are the application's own stream objects.
    """
    if sys.stdout is sys.__stdout__ and _leads_to_a_process(out.fd):
        flush()
        raw = io.BufferedWriter(_Raw(out, "<stdout>"))
        sys.stdout = _like(sys.stdout, raw, lines=False)
    if sys.stderr is sys.__stderr__ and _leads_to_a_process(err.fd):
        sys.stderr = _like(sys.stderr, _Raw(err, "<stderr>"), lines=True)


def is_taken_over() -> bool:
    """Whether sys.stderr writes through an outlet."""
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", getattr(sys.stderr, "buffer", None))
    return isinstance(raw, _Raw)


def _like(stream: Any, raw: Any, lines: bool) -> Any:
    """Return a stream over `raw` like `stream`, the interpreter's own, which may be None."""
    if stream is None:
        return None
    lines = lines or stream.line_buffering
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=lines)


def _leads_to_a_process(fd: int) -> bool:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)


def flush() -> None:
    """Flush the streams, if they exist and can be written."""
    for stream in (sys.stdout, sys.stderr):
        _flushed(stream)


def _flushed(stream: Any) -> bool:
    try:
        stream.flush()
    except Exception:  # None, closed, or an object of the application
        return False
    return True


def restore() -> None:
    """Drop streams that can't be flushed, so that the exit doesn't fail because of them."""
    for name in ("stdout", "stderr"):
        if not _flushed(getattr(sys, name, None)):
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process


def keep_numbers() -> None:
    """Make sure that descriptors 0 to 2 are open, so that no connection gets these numbers."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # open(2) returns the lowest free number: this one
            null = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(null, True)
