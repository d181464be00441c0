"""flup's SCGI and FastCGI on the native server's loop: `--server flup`.

flup's code reads and writes its protocols; its own server loop is not used. That loop lets
half-open connections block its threads, closes clients' connections when all threads are busy,
waits forever at a stop, and breaks rules of HTTP and WSGI. So only the codecs are flup's (the
modules `scgi` and `fastcgi`), with the interface of the modules of the same names in
`servers.native.wire`. Everything else is the native server's: accepting, scheduling, deadlines,
WSGI, the stop.

flup speaks SCGI and FastCGI. A socket that is pinned to another protocol is refused at the start,
and a connection in another protocol is answered in that protocol with 501.
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
                f"flup does not speak {self.title}: let the front use SCGI or FastCGI, or use the "
                "native server (--server native)",
                "501 Not Implemented",
            )
        )

    def answer(self, status: str) -> None:
        self.send_now(self.plain(status, "Connection: close\r\n"))


class Http(Unspoken):
    """A connection that speaks HTTP."""

    protocol = "http"
    title = "HTTP"


class Uwsgi(Unspoken):
    """A connection that speaks uwsgi, whose responses have the form of HTTP's."""

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

    Raises UsageError if a socket is pinned to a protocol that flup does not speak.
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
                why = "on TCP and vsock the default protocol is http"
            raise UsageError(
                f"{why}, and flup does not speak {found.title}: choose --protocol scgi or "
                "fastcgi, or use the native server (--server native)"
            )
        return found
