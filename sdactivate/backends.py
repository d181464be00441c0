"""The table of servers that can serve a site: interfaces, protocols, and packages to install.

The names are the values of the setting `server`. The settings read the names, a serving process
checks that its server fits the application, and the generator configures fronts for it. The command
lines of servers that are programs of their own are in `external_servers`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sdactivate.errors import UsageError

WSGI, ASGI = "wsgi", "asgi"
"""The interfaces between server and application: PEP 3333, and asgi.readthedocs.io."""


class Backend(NamedTuple):
    """One row."""

    name: str
    interfaces: tuple[str, ...]
    """The interfaces that it serves: WSGI, ASGI."""
    protocols: tuple[str, ...]
    """The protocols that fronts can speak to it. A server that is not part of sdactivate gets a
    single one: by default, the first."""
    package: str = ""
    """The package to install with pip; "": it is part of sdactivate."""
    in_process: bool = False
    """Whether it runs inside the process of `sdactivate serve`, with its whole lifecycle."""

    def interface(self, app: str) -> str:
        """Return the interface of the application `app` (MODULE:NAME): WSGI or ASGI.

        Django and most other frameworks name the module of an ASGI application asgi and that of a
        WSGI application wsgi. For any other name it is the interface that the server speaks, or
        WSGI if it speaks both.

        Raises UsageError if the server does not speak the interface that the name says.
        """
        said = app.partition(":")[0].rpartition(".")[2]
        if said not in (WSGI, ASGI):
            return WSGI if WSGI in self.interfaces else ASGI
        if said not in self.interfaces:
            other = ASGI if said == WSGI else WSGI
            raise UsageError(
                f"{app}: {self.name} speaks {other.upper()}, not {said.upper()}; name the site's "
                f"{other.upper()} application, such as mysite.{other}:application, or choose a "
                f"server that speaks {said.upper()}: {', '.join(_speakers(said))}"
            )
        return said

    def takes_websockets(self, app: str) -> bool:
        """Return whether it can get WebSockets for the application `app`; "": not known yet.

        Raises UsageError as `interface` does.
        """
        return (self.interface(app) if app else self.interfaces[0]) == ASGI

    def check_protocol(self, protocol: str) -> None:
        """Raise UsageError if it does not speak `protocol`, which may be auto."""
        if protocol not in ("auto", *self.protocols):
            raise UsageError(
                f"--protocol {protocol}: {self.name} speaks {', '.join(self.protocols)} only; "
                "the native server speaks all four at once"
            )

    def front_protocol(self, asked: str, offered: Sequence[str]) -> str:
        """Return the protocol that a front should speak to it.

        asked: the setting `protocol`. offered: the protocols that the front speaks, best first.

        Raises UsageError if the server does not speak the protocol asked for.
        """
        self.check_protocol(asked)
        if asked != "auto":
            return asked
        usable = [protocol for protocol in offered if protocol in self.protocols]
        return usable[0] if usable and self.in_process else self.protocols[0]

    def install_command(self, python: str) -> str:
        """Return the command that installs its package for `python`."""
        return f"{python} -m pip install {self.package}"


BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("native", (WSGI,), ("scgi", "fastcgi", "uwsgi", "http"), in_process=True),
        Backend("flup", (WSGI,), ("scgi", "fastcgi"), in_process=True),
        Backend("waitress", (WSGI,), ("http",), "waitress", in_process=True),
        Backend("gunicorn", (WSGI, ASGI), ("http", "uwsgi"), "gunicorn"),
        Backend("uwsgi", (WSGI,), ("uwsgi", "http", "scgi", "fastcgi"), "uWSGI"),
        Backend("uvicorn", (ASGI,), ("http",), "uvicorn"),
        Backend("hypercorn", (ASGI, WSGI), ("http",), "hypercorn"),
        Backend("daphne", (ASGI,), ("http",), "daphne"),
    )
}

REFUSED: Mapping[str, str] = {
    "granian": "granian (seen: 2.8) has no option to inherit a socket: it always creates its "
    "own socket, with its own owner and mode. Use uvicorn or hypercorn for ASGI, "
    "and the native server for WSGI",
}
"""Servers that can't inherit a socket, and why."""

NAMES = (*BACKENDS, *REFUSED)
"""The values that the setting `server` can have."""


def find(name: str) -> Backend:
    """Return the row of the server `name`, one of `NAMES`.

    Raises UsageError, with the reason, for a server that can't inherit a socket.
    """
    if name in REFUSED:
        raise UsageError(f"--server {name}: {REFUSED[name]}")
    return BACKENDS[name]


def _speakers(interface: str) -> list[str]:
    return [backend.name for backend in BACKENDS.values() if interface in backend.interfaces]
