"""The table of servers that can serve a site: interfaces, front protocols, how each is installed.

The names are the values of the setting `server`. Common ground: the settings know the names, a
serving process checks what it is to serve, the generator points fronts at it. What this process
becomes instead, where the site asks for another program, is in `external_servers`.
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
    """What an application may be to it: WSGI, ASGI."""
    protocols: tuple[str, ...]
    """What fronts may speak to it. One that is not ours is told a single one: the first, where
    nothing is said."""
    package: str = ""
    """What pip installs; "": it comes with sdactivate."""
    in_process: bool = False
    """Whether it runs in this project's own process, with all of its lifecycle."""

    def interface(self, app: str) -> str:
        """Return what it takes the application `app` (MODULE:NAME) for: WSGI or ASGI.

        Django and most others call the module of an ASGI application asgi, that of a WSGI one
        wsgi. Any other name is taken for what the server speaks, and for WSGI where it speaks
        both.

        Raises UsageError where the server does not speak what the name says.
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
        """Return whether WebSockets may come to it with the application `app`; "": not known yet.

        Raises UsageError as `interface` does.
        """
        return (self.interface(app) if app else self.interfaces[0]) == ASGI

    def check_protocol(self, protocol: str) -> None:
        """Raise UsageError where it does not speak `protocol`, which may be auto."""
        if protocol not in ("auto", *self.protocols):
            raise UsageError(
                f"--protocol {protocol}: {self.name} speaks {', '.join(self.protocols)} only; "
                "the native server speaks all four at once"
            )

    def front_protocol(self, asked: str, offered: Sequence[str]) -> str:
        """Return what a front is to speak to it.

        asked: the setting `protocol`. offered: what the front speaks, best first.

        Raises UsageError where the server does not speak what is asked.
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
    "granian": "granian (seen: 2.8) has no option to inherit a socket: it always makes its own, "
    "with an owner and a mode of its own. Take uvicorn or hypercorn for ASGI, and the native "
    "server for WSGI",
}
"""Servers that can't serve a socket of somebody else's, and why."""

NAMES = (*BACKENDS, *REFUSED)
"""What the setting `server` may be."""


def find(name: str) -> Backend:
    """Return the row of the server `name`, one of `NAMES`.

    Raises UsageError for a server that can't inherit a socket, with the reason.
    """
    if name in REFUSED:
        raise UsageError(f"--server {name}: {REFUSED[name]}")
    return BACKENDS[name]


def _speakers(interface: str) -> list[str]:
    return [backend.name for backend in BACKENDS.values() if interface in backend.interfaces]
