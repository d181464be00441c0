"""flup's SCGI and FastCGI on the native server's loop: `--server flup`.

flup's way of reading and writing its protocols is kept; its way of running processes is not.
Its threads starve behind half-open connections and close those of clients when all are busy,
its stop waits for ever, and its responses obey neither HTTP nor WSGI everywhere. So only codecs
are flup's here (the modules `scgi` and `fastcgi`): each offers what the module of the same name
in `servers.native.wire` does, and everything else is the native server's: when a connection is
accepted, whose turn it is, deadlines, WSGI, the stop.

flup speaks SCGI and FastCGI. A socket that is pinned to another protocol is refused at the
start, a connection that comes with one is answered in it with a 501.
"""

from __future__ import annotations

from typing import ClassVar

from sdactivate.errors import UsageError
from sdactivate.servers.flup import fastcgi, scgi
from sdactivate.servers.native import fastcgi as native_fastcgi
from sdactivate.servers.native import one_shot, server
from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.wire import Malformed


class Scgi(one_shot.Scgi):
    """A connection whose header flup has read."""

    parse = staticmethod(scgi.parse)
    dialect = None


class FastCgi(native_fastcgi.FastCgi):
    """A connection whose records flup reads and writes."""

    codec: ClassVar = fastcgi
    has_twin = False


class Unspoken(Connection):
    """A connection in a protocol that flup does not speak."""

    title = ""
    status_line = "HTTP/1.1 "

    def received(self, data: bytes) -> None:
        self.refuse(
            Malformed(
                f"flup speaks no {self.title}: let the front use SCGI or FastCGI, or serve with "
                "the native server (--server native)",
                "501 Not Implemented",
            )
        )

    def answer(self, status: str) -> None:
        self.send_now(self.plain(status, "Connection: close\r\n"))


class Http(Unspoken):
    """Somebody speaks HTTP."""

    protocol = "http"
    title = "HTTP"


class Uwsgi(Unspoken):
    """Somebody speaks uwsgi, whose responses are HTTP's."""

    protocol = "uwsgi"
    title = "uwsgi"


_CLASSES: dict[str, type[Connection]] = {
    "scgi": Scgi,
    "fastcgi": FastCgi,
    "uwsgi": Uwsgi,
    "http": Http,
}


class Server(server.Server):
    """The native server with flup's codecs. See there for the arguments.

    Raises UsageError where a socket is pinned to a protocol that flup does not speak.
    """

    protocols = _CLASSES
    by_first_byte: ClassVar = {
        byte: _CLASSES[native.protocol] for byte, native in server.BY_FIRST_BYTE.items()
    }

    def pinned(self, name: str, family: int) -> type[Connection] | None:
        """See the native server's."""
        found = super().pinned(name, family)
        if found is not None and issubclass(found, Unspoken):
            said = self.settings.protocol
            if said != "auto":
                why = f"--protocol {said}"
            elif name in self.protocols:
                why = f"the socket is called {name}"
            else:
                why = "on TCP and vsock HTTP is served unless --protocol says otherwise"
            raise UsageError(
                f"{why}, and flup speaks no {found.title}: choose --protocol scgi or fastcgi, or "
                "serve with the native server (--server native)"
            )
        return found
