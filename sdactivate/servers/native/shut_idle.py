"""Close an idle keep-alive connection at a stop without losing a request in transit.

On a unix socket shutdown(2) with SHUT_RD is atomic for the peer: what it sent before is still read,
and what it sends later fails with EPIPE at the first byte, so that it knows that nothing was
accepted and can send it again on another connection. But if a part of a request arrived between the
last check and the call, the rest of it would fail. So

- a peer that was heard from recently (`servers.api.QUIET`) is not shut off: a busy peer sends its
  next request within that time, and the response to that one ends the connection in the protocol's
  own way;
- the check and the call follow each other without releasing the interpreter's lock, which another
  thread would keep for milliseconds. That leaves about a microsecond.
"""

from __future__ import annotations

import socket
from contextlib import suppress

_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT


def shut_if_silent(fd: int) -> bool:
    """End `fd` unless its peer has sent data; return whether it was shut for reading.

    If nothing has arrived after that either, it is shut for writing too, so that a peer that
    watches its idle connections, as nginx does, does not use this one for its next request.
    """
    return send_if_silent(fd, b"") is not None


def send_if_silent(fd: int, last: bytes) -> int | None:
    """End `fd` with the bytes `last`, unless its peer has sent data.

    Returns how many of them were sent; if not all, the caller must send the rest, and then close.
    None: the peer has sent data, and nothing was done.
    """
    try:
        from ctypes import PyDLL, create_string_buffer
    except (ImportError, OSError):  # no descriptor is left for the import
        return None if last else _shut_without_import(fd)

    libc, byte = PyDLL(None), create_string_buffer(1)  # PyDLL, unlike CDLL, keeps the lock
    recv, send, shutdown = libc.recv, libc.send, libc.shutdown
    if recv(fd, byte, 1, _PEEK) > 0:
        return None
    shutdown(fd, socket.SHUT_RD)
    sent: int = send(fd, last, len(last), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) if last else 0
    if sent == len(last) and recv(fd, byte, 1, _PEEK) <= 0:
        shutdown(fd, socket.SHUT_WR)
    return max(sent, 0)


def _shut_without_import(fd: int) -> int | None:
    """Do the same without bytes to send; another thread may get the interpreter's lock."""
    sock = socket.socket(fileno=fd)
    try:
        with suppress(BlockingIOError):
            if sock.recv(1, _PEEK):
                return None
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the peer has closed it already
    finally:
        sock.detach()
    return 0
