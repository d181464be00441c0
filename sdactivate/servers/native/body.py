"""wsgi.input: the bytes of one request's body, and never one more.

A body that has arrived whole is a BytesIO. One that is still coming is a `Stream`, which pulls
the next bytes from its connection when the application reads; io.BufferedReader makes of it
all the ways of reading a file (PEP 3333, "Input and Error Streams").
"""

import io
from collections.abc import Callable
from typing import BinaryIO, cast


class BodyError(OSError):
    """The body ended before its end: the peer left, fell silent, or broke its protocol."""


class Stream(io.RawIOBase):
    """The raw bytes that `pull` returns, piece by piece, up to the b"" that ends them."""

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull = pull
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._piece or memoryview(self._pull())
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        self._piece = piece[size:]
        return size


def stream(pull: Callable[[], bytes]) -> BinaryIO:
    """Return a file of the bytes that `pull` returns; reading it raises what `pull` raises."""
    return cast(BinaryIO, io.BufferedReader(Stream(pull), 65536))
