"""SCGI by flup: the netstring is read by its `readNetstring`.

This module adds checks that flup lacks. flup accepts every length that int() accepts, such as
"+1_0", and of any size; reads until the peer has sent that many bytes; and does not check that the
last value is terminated. With flup, a repeated variable (nginx repeats HTTP_COOKIE) would overwrite
the first one.
"""

from __future__ import annotations

import re

from flup.server.scgi_base import ProtocolError, readNetstring

from sdactivate.servers.native.wire import Malformed, TooLarge, Variables, joined

# D. J. Bernstein's netstrings: decimal digits without leading zeros, a colon
_LENGTH = re.compile(rb"([1-9][0-9]{0,8}):")
_BEGINNING = re.compile(rb"[1-9][0-9]{0,8}")


class _Received:
    """Received bytes, in the form of the socket that flup reads from."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)

    def recv(self, size: int) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)


def parse(data: bytes | bytearray, limit: int) -> tuple[Variables, int] | None:
    """Parse the header of a request, like `servers.native.wire.scgi.parse`."""
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
        header: bytes = readNetstring(_Received(data[:end]))
    except ProtocolError as error:
        raise Malformed(f"SCGI: {error}") from None
    if header[-1]:
        raise Malformed("SCGI: the header does not end with NUL")
    fields = header[:-1].decode("latin-1").split("\0")
    if len(fields) % 2:
        raise Malformed("SCGI: a name without a value")
    return joined(fields), end
