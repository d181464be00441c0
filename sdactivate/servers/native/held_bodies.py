"""Bodies buffered for slow peers: in memory up to a limit, beyond it in temporary files.

All bodies share one memory limit. Those beyond the limit go to temporary files, which have no name
and disappear with their last descriptor. The file is in the cache directory ($CACHE_DIRECTORY,
which systemd sets by CacheDirectory=), else in $TMPDIR, else in /var/tmp; never in /tmp, which is
memory on many systems (file-hierarchy(7)).
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping
from io import BytesIO
from threading import Lock
from typing import BinaryIO, NamedTuple, cast

from sdactivate.servers.native.accel import module
from sdactivate.servers.native.wire import Malformed

BEHIND = 4096
# A peer gets memory for this many times the bytes it has sent
_AHEAD = 16
# The most bytes of a body in records that are read at a time
_STRIDE = 1 << 18

# Returns bytes of a given size, to be overwritten. The compiled form does not set them to zero
_blank = bytes if module is None else module.blank


def spool_directory(environ: Mapping[str, str]) -> str:
    """Return the directory for temporary files of a process with this environment."""
    caches = environ.get("CACHE_DIRECTORY", "").split(":")  # several, separated by colons
    return caches[0] or environ.get("TMPDIR") or "/var/tmp"  # noqa: S108


class Held:
    """The memory limit, and the buffered bodies that count against it.

    limit: bytes of memory. directory: where temporary files go.
    uploads, responses: how many of each are held, in memory or not. used: bytes of memory.
    """

    def __init__(self, limit: int, directory: str) -> None:
        self.limit = limit
        self.directory = directory
        self.uploads = 0
        self.responses = 0
        self.used = 0
        self._lock = Lock()
        # By identity, because many peers may get the same object: the number of peers, and its size
        self._shared: dict[int, list[int]] = {}

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes of memory; return False if that would exceed the limit."""
        with self._lock:
            if self.used + size > self.limit:
                return False
            self.used += size
            return True

    def release(self, size: int) -> None:
        """Release `size` reserved bytes."""
        with self._lock:
            self.used -= size

    def share(self, data: bytes) -> bool:
        """Reserve memory for an object, once however often it is held.

        Return False if that would exceed the limit. The caller must keep a reference to `data`
        until it calls `unshare`.
        """
        with self._lock:
            found = self._shared.get(id(data))
            if found is None:
                if self.used + len(data) > self.limit:
                    return False
                self.used += len(data)
                self._shared[id(data)] = [1, len(data)]
            else:
                found[0] += 1
            return True

    def unshare(self, data: bytes) -> None:
        """Release what `share` has reserved."""
        with self._lock:
            found = self._shared[id(data)]
            found[0] -= 1
            if not found[0]:
                del self._shared[id(data)]
                self.used -= found[1]

    def count(self, uploads: int = 0, responses: int = 0) -> None:
        """Add to the numbers of uploads and responses; negative numbers subtract."""
        with self._lock:
            self.uploads += uploads
            self.responses += responses

    def file(self) -> BinaryIO:
        """Return a temporary file, unbuffered. Raises OSError."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_TMPFILE
        try:
            return cast(BinaryIO, io.FileIO(os.open(self.directory, flags, 0o600), "r+"))
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EOPNOTSUPP):
                raise
        # The file system does not support O_TMPFILE (open(2)). Imported only here: the import is
        # large, and needs descriptors, which may have run out
        try:
            import tempfile
        except ImportError as error:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from error
        return cast(
            BinaryIO,
            tempfile.TemporaryFile(prefix="sdactivate-", dir=self.directory, buffering=0),
        )


class Read(NamedTuple):
    """The result of one read of a body.

    asked: how many bytes were asked for. came: how many arrived; 0: the peer has closed its side.
    size: how many of these belong to the body. behind: the bytes after the body. There is room for
    at least BEHIND of them, since closing a connection with unread bytes resets it (tcp(7),
    unix(7)).
    """

    asked: int
    came: int
    size: int
    behind: bytes


class Upload:
    """A request's body that is still arriving.

    A body of known length gets a buffer of that length as soon as a part of it has arrived. The
    rest can be read directly into that buffer (`receive`), and an application that reads the whole
    body gets that same object: the bytes are copied once, by the kernel.

    held: the limit that it counts against. most: the most bytes in memory; a larger body goes to a
    file. length: its bytes according to the request's header, None: unknown. began: when it began,
    on the monotonic clock. size: bytes of it so far. came: bytes on the wire so far. room: free
    bytes of the buffer; 0: there is none.
    """

    __slots__ = (
        *("_buffer", "_file", "_held", "_length", "_most", "_place", "_reader", "_reserved"),
        *("began", "came", "room", "size"),
    )

    def __init__(self, held: Held, most: int, began: float, length: int | None = None) -> None:
        self.began = began
        self.size = 0
        self.came = 0
        self._held = held
        self._most = most
        self._reserved = 0
        self._buffer = BytesIO()
        self._length = length if length is not None and length <= most else None
        self._place: memoryview | None = None
        self.room = 0
        self._file: BinaryIO | None = None
        self._reader: BinaryIO | None = None
        held.count(uploads=1)

    def receive(self, fd: int) -> Read:
        """Read from a socket into the buffer, which must have room. Raises OSError."""
        assert self._place is not None
        behind = bytearray(BEHIND)
        asked = self.room + BEHIND
        came = os.readv(fd, (self._place[self.size :], behind))
        count = min(came, self.room)
        self._note(count, count)
        return Read(asked, came, count, bytes(behind[: came - count]))

    def receive_records(self, fd: int, first: int, each: int, between: int, head: bytes) -> Read:
        """Do the same as `receive` for a body that arrives in records, each with a head.

        first: bytes left of the current record, at most `room`. After it, records of `each` bytes
        are expected, with `between` bytes before each, the last of which are `head`. As long as
        that is what arrives, the bytes of every record are read directly into their place. From the
        first bytes on that differ, everything is returned as `behind`, for the parser.
        """
        assert self._place is not None
        start, end = self.size, self.size + min(self.room, _STRIDE)
        buffers: list[memoryview | bytearray] = [self._place[start : start + first]]
        for at in range(start + first, end - each + 1, each):
            buffers += (bytearray(between), self._place[at : at + each])
        buffers.append(bytearray(BEHIND))
        came = os.readv(fd, buffers)
        count, left = min(came, first), came - first
        at = 1
        while left > between and at < len(buffers) - 1 and bytes(buffers[at]).endswith(head):
            part = min(left - between, each)
            count += part
            left -= between + part
            at += 2
        behind = b"".join(buffers[at:])[:left] if left > 0 else b""
        self._note(count, came - len(behind))
        return Read(sum(map(len, buffers)), came, count, behind)

    def _note(self, count: int, came: int) -> None:
        self.came += came
        self.size += count
        self.room -= count

    def write(self, data: bytes | bytearray) -> None:
        """Store the next bytes. Raises Malformed (503) if they can't be stored."""
        size = len(data)
        if self._place is not None:
            self._place[self.size : self.size + size] = data
            self.size += size
            self.room -= size
            return
        self.size += size
        try:
            if self._file is None:
                if self.size <= self._most and self._held.reserve(size):
                    self._reserved += size
                    self._buffer.write(data)
                    if self._length is not None:
                        self._make_place(self._length)
                    return
                self._file = self._held.file()
                _write_all(self._file, self._buffer.getbuffer())
                self._release()
            _write_all(self._file, memoryview(data))
        except OSError as error:  # no space left on the device, no descriptor
            raise Malformed(
                f"can't buffer the body in {self._held.directory}: {error.strerror}",
                "503 Service Unavailable",
            ) from error

    def _make_place(self, length: int) -> None:
        """Create the whole buffer if enough of the body has arrived and there is memory for it."""
        more = length - self.size
        if more <= 0 or length > _AHEAD * self.size or not self._held.reserve(more):
            return
        self._reserved += more
        whole = BytesIO(_blank(length))
        self._place = whole.getbuffer()
        self._place[: self.size] = self._buffer.getbuffer()
        self._buffer = whole
        self.room = more

    def _let_place_go(self) -> None:
        """Release the memoryview, so that the buffer can be read and freed."""
        place, self._place = self._place, None
        if place is not None:
            place.release()
        self.room = 0

    def reader(self) -> BinaryIO:
        """Return a file of the whole body, for wsgi.input; `close` closes it."""
        self._let_place_go()
        if self._file is None:
            self._buffer.truncate(self.size)
            self._buffer.seek(0)
            return self._buffer
        self._file.seek(0)
        self._reader = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, self._file), 65536))
        return self._reader

    def close(self) -> None:
        """Release the memory and the file."""
        self._let_place_go()
        self._release()
        file = self._reader or self._file
        if file is not None:
            file.close()
        self._held.count(uploads=-1)

    def _release(self) -> None:
        self._held.release(self._reserved)
        self._reserved = 0
        self._buffer = BytesIO()


def _write_all(file: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]
