"""wsgi.input: the bytes of one request's body, and no more.

A body that has arrived completely is a BytesIO. One that is still arriving is a `Stream`, which
pulls the next bytes from its connection when the application reads. io.BufferedReader adds the
file methods to it (PEP 3333, "Input and Error Streams").
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, cast

from sdactivate import log
from sdactivate.servers.native.wire import Malformed
from sdactivate.servers.native.wsgi import BodyError, PeerGone


class Stream(io.RawIOBase):
    """The raw bytes that `pull` returns, piece by piece, up to the b"" that ends them.

    If `pull` raises Malformed or PeerGone, nothing more can be read: callers get a BodyError, and
    it is logged once.
    """

    def __init__(self, pull: Callable[[], bytes], peer_name: Callable[[], str]) -> None:
        self._pull = pull
        self._peer_name = peer_name
        self._piece = memoryview(b"")
        self._error: BodyError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._piece or memoryview(self._next())
        size = min(len(piece), len(buffer))
        buffer[:size] = piece[:size]
        self._piece = piece[size:]
        return size

    def _next(self) -> bytes:
        if self._error is not None:
            raise self._error
        try:
            return self._pull()
        except (Malformed, PeerGone) as error:
            status = error.status if isinstance(error, Malformed) else "400 Bad Request"
            self._error = BodyError(str(error), status)
            log.say(
                log.WARNING,
                f"{self._peer_name()}: {log.escape(error)}; the application can't read the rest",
            )
            raise self._error from error


def stream(pull: Callable[[], bytes], peer_name: Callable[[], str]) -> BinaryIO:
    """Return a file of the bytes that `pull` returns. peer_name: returns the peer's name."""
    return cast(BinaryIO, io.BufferedReader(Stream(pull, peer_name), 65536))
