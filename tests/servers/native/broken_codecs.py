"""An application that breaks the server it runs in: its codecs raise what no codec may.

Imported in the serving process only. Bytes with `READING` in them break the codec that reads
them, and a deadline that passes breaks what should end the connection.
"""

from collections.abc import Callable
from typing import Any

from sdactivate.servers.native import fastcgi, http, one_shot
from sdactivate.servers.native.wire import fastcgi as fastcgi_wire
from sdactivate.servers.native.wire import http as http_wire
from tests.servers.native.applications import application

__all__ = ["application"]

READING = b"BREAK-READING"


def raising(works: Callable[..., Any]) -> Callable[..., Any]:
    """`works`, but for bytes that it can't bear."""

    def broken(*arguments: Any) -> Any:
        if any(isinstance(each, bytes | bytearray) and READING in each for each in arguments):
            raise RuntimeError("the codec is broken")
        return works(*arguments)

    return broken


def expired(self: Any) -> None:
    raise RuntimeError("what ends a connection is broken")


one_shot.Scgi.parse = staticmethod(raising(one_shot.Scgi.parse))
one_shot.Uwsgi.parse = staticmethod(raising(one_shot.Uwsgi.parse))
fastcgi_wire.Parser.feed = raising(fastcgi_wire.Parser.feed)  # type: ignore[method-assign]
http_wire.Parser.feed = raising(http_wire.Parser.feed)  # type: ignore[method-assign]
broken: tuple[Any, ...] = (one_shot.OneShot, fastcgi.FastCgi, http.Http)
for kind in broken:
    kind.expired = expired
