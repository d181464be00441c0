"""Shut a kept connection for reading when its peer says nothing.

On a unix socket shutdown(2) with SHUT_RD is atomic for the peer: what it sent before is still read,
and what it sends after fails with EPIPE at the first byte, so that it knows that nothing was taken
and can send it again on another connection. What must not come between the last look and the call
is a part of a request: the rest of it would fail. So

- nobody is shut off who has been heard from lately (`QUIET`): a peer at work sends its next request
  within that time, and the response to that one ends the connection in the protocol's own way;
- the look and the call follow one another without letting go of the interpreter's lock, which
  another thread would keep for milliseconds. That leaves about a microsecond.
"""

from __future__ import annotations

import socket

QUIET = 0.1
"""Seconds that a peer must have been silent before its connection is shut at a stop."""


def shut_if_silent(fd: int) -> bool:
    """Shut `fd` for reading unless its peer has said something; whether it was shut."""
    from ctypes import PyDLL, create_string_buffer

    libc = PyDLL(None)  # of this kind, which keeps the lock
    recv, shutdown, byte = libc.recv, libc.shutdown, create_string_buffer(1)
    if recv(fd, byte, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) > 0:
        return False
    shutdown(fd, socket.SHUT_RD)
    return True
