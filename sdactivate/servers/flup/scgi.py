"""SCGI by flup: the netstring is read by its `readNetstring`.

What flup does not do is done before and after. It takes any length that int() takes, "+1_0"
included, and of any size; reads until the peer has sent that much; and does not see whether the
last value has its end. A variable that comes twice (nginx repeats HTTP_COOKIE) would overwrite
the first.
"""

from __future__ import annotations

import re

from sdactivate import bundled
from sdactivate.servers.native.wire import Malformed, TooLarge, Variables, joined

_flup = bundled.load("flup.server.scgi_base")

# D. J. Bernstein's netstrings: decimal digits without leading zeros, a colon
_LENGTH = re.compile(rb"([1-9][0-9]{0,8}):")
_BEGINNING = re.compile(rb"[1-9][0-9]{0,8}")


class _Received:
    """Bytes that have arrived, as the socket that flup reads from."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)

    def recv(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)


def parse(data: bytes | bytearray, limit: int) -> tuple[Variables, int] | None:
    """Read the header of a request: see `servers.native.wire.scgi.parse`, which it stands for."""
    found = _LENGTH.match(data)
    if found is None:
        if not data or _BEGINNING.fullmatch(data):
            return None
        raise Malformed("SCGI: the header's length is not a decimal number and a colon")
    if int(found[1]) > limit:
        raise TooLarge(f"SCGI: the header has over {limit} bytes")
    end = found.end() + int(found[1]) + 1
    if len(data) < end:
        return None
    try:
        header: bytes = _flup.readNetstring(_Received(data[:end]))
    except _flup.ProtocolError as error:
        raise Malformed(f"SCGI: {error}") from None
    if header[-1]:
        raise Malformed("SCGI: the header does not end with NUL")
    fields = header[:-1].decode("latin-1").split("\0")
    if len(fields) % 2:
        raise Malformed("SCGI: a name without a value")
    return joined(fields), end
