"""Command lines of other servers (gunicorn, uWSGI, uvicorn …) on the inherited socket.

`gen --server gunicorn` writes that command line into a unit, `sdactivate serve --server gunicorn`
executes it, and docs/servers.md lists it. A server keeps its own ways of working: of the settings
it is told those that it has an option for, and no others can be given. What it speaks is in
`backends`, beside the servers that run inside this project's own process and are not here.

Every row was tried on sockets of systemd's; what a comment says of a server was seen.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sdactivate import app_name, trust
from sdactivate.backends import ASGI, BACKENDS, WSGI, Backend
from sdactivate.errors import UsageError
from sdactivate.settings import TABLE, Settings

Words = list[str]


# How a setting's value becomes words of the command line


def _value(flag: str) -> Callable[[Any], Words]:
    return lambda value: [flag, str(value)]


def _whole(flag: str) -> Callable[[Any], Words]:
    """Seconds, which the server wants whole; 0 stays what it means to it."""
    return lambda value: [flag, str(math.ceil(value))]


def _limit(flag: str, unit: int = 1) -> Callable[[Any], Words]:
    """A limit, which is off where it is not mentioned."""
    return lambda value: [flag, str(math.ceil(value / unit))] if value else []


def _switch(on: Sequence[str] = (), off: Sequence[str] = ()) -> Callable[[Any], Words]:
    return lambda value: list(on if value else off)


class ExternalServer(NamedTuple):
    """One row."""

    backend: Backend
    program: str
    """The module for `python -m`, or the "bin/NAME" that is beside the interpreter."""
    fixed: tuple[str, ...]
    """What it must always be told."""
    socket: tuple[str, ...]
    """What it is told of each descriptor, with {fd}, {index} and {domain}; (): it looks itself."""
    application: Mapping[str, tuple[str, ...]]
    """How it is told an application of each interface that it speaks, with {app}."""
    options: Mapping[str, Callable[[Any], Words]]
    """The settings that it has, and how it is told them."""
    several: bool = True
    """Whether it serves more than one socket."""
    notifies: bool = False
    """Whether it tells systemd when it is ready: Type=notify."""
    reload: str = ""
    """The signal that brings new code in and loses nothing; "": only a restart does."""
    why: tuple[str, ...] = ()
    """Comments for the unit: what was learnt the hard way."""
    finishes: bool = True
    """Whether a stop lets the requests under way come to their end."""
    factory: tuple[str, ...] | None = ()
    """What it is told of an application that a function returns, besides the function's name: ():
    nothing, for it knows MODULE:FACTORY(); None: it can't be told."""
    prefix: str = ""
    """The option that names the virtual environment, for a program that is no Python."""

    @property
    def name(self) -> str:
        """What it is called; so are its package's program and module."""
        return self.backend.name

    @property
    def is_program(self) -> bool:
        """Whether it is no module, but a program beside the interpreter."""
        return self.program.startswith("bin/")


GUNICORN = ExternalServer(
    BACKENDS["gunicorn"],
    "gunicorn",
    # It would open a second socket for gunicornc
    fixed=("--no-control-socket",),
    socket=(),
    application={WSGI: ("{app}",), ASGI: ("--worker-class", "asgi", "{app}")},
    options={
        "workers": _value("--workers"),
        "threads": _value("--threads"),
        "graceful_timeout": _whole("--graceful-timeout"),
        "keepalive_timeout": _whole("--keep-alive"),
        "worker_timeout": _whole("--timeout"),
        "max_requests": _limit("--max-requests"),
        "max_requests_jitter": _limit("--max-requests-jitter"),
        "access_log": _switch(on=("--access-logfile", "-")),
        "protocol": lambda value: ["--protocol", "uwsgi"] if value == "uwsgi" else [],
    },
    notifies=True,
    reload="HUP",
    why=(
        "gunicorn finds the sockets by LISTEN_FDS. Never -b fd://3: that deletes the socket's file",
        "at a stop; and no USR2: the new process finds its descriptors closed.",
    ),
)

UWSGI = ExternalServer(
    BACKENDS["uwsgi"],
    "bin/uwsgi",
    # TERM means a brutal reload to it, with --die-on-term a stop that cuts requests off
    fixed=(
        *("--master", "--need-app", "--enable-threads", "--pythonpath", "."),
        *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
    ),
    socket=(),
    application={WSGI: ("--module", "{app}")},
    options={
        "workers": _value("--processes"),
        "threads": _value("--threads"),
        "protocol": lambda value: ["--protocol", "uwsgi" if value == "auto" else value],
        "graceful_timeout": _whole("--worker-reload-mercy"),
        "worker_timeout": _limit("--harakiri"),
        "max_requests": _limit("--max-requests"),
        "max_memory": _limit("--reload-on-rss", 1 << 20),
        "body_bytes": _limit("--limit-post"),
        "preload": _switch(off=("--lazy-apps",)),
        "access_log": _switch(off=("--disable-logging",)),
    },
    notifies=True,
    why=(
        "uWSGI finds the sockets by LISTEN_FDS, and by no --socket option. Its own reload (HUP)",
        "executes it again without them, so that there is none: restart the service instead.",
    ),
    prefix="--virtualenv",
)

UVICORN = ExternalServer(
    BACKENDS["uvicorn"],
    "uvicorn",
    # It calls listen() again on what it inherits; the backlog stays the socket unit's
    fixed=("--backlog", "4096"),
    socket=("--fd", "{fd}"),
    application={ASGI: ("{app}",)},
    options={
        "workers": lambda value: ["--workers", str(value)] if value > 1 else [],
        "graceful_timeout": _whole("--timeout-graceful-shutdown"),
        "keepalive_timeout": _whole("--timeout-keep-alive"),
        "max_requests": _limit("--limit-max-requests"),
        "max_requests_jitter": _limit("--limit-max-requests-jitter"),
        "trust": lambda value: ["--forwarded-allow-ips", ",".join(value)] if value else [],
        "access_log": _switch(off=("--no-access-log",)),
    },
    several=False,
    factory=("--factory",),
    why=("uvicorn serves one descriptor, and believes no X-Forwarded-* unless it is told whose.",),
)

HYPERCORN = ExternalServer(
    BACKENDS["hypercorn"],
    "hypercorn",
    fixed=("--backlog", "4096"),  # as uvicorn
    socket=("--bind", "fd://{fd}"),
    application={ASGI: ("{app}",), WSGI: ("wsgi:{app}",)},
    options={
        "workers": _value("--workers"),
        "graceful_timeout": _whole("--graceful-timeout"),
        "keepalive_timeout": _whole("--keep-alive"),
        "max_requests": _limit("--max-requests"),
        "max_requests_jitter": _limit("--max-requests-jitter"),
        "access_log": _switch(on=("--access-logfile", "-")),
    },
)

DAPHNE = ExternalServer(
    BACKENDS["daphne"],
    # Twisted would open the socket's file to the world and delete it: see there
    "sdactivate.servers.daphne",
    fixed=("--proxy-headers", "--no-server-name"),
    # Not --fd: it takes every descriptor for TCP, and a unix socket's connections are then reset
    socket=("-e", "systemd:domain={domain}:index={index}"),
    application={ASGI: ("{app}",)},
    options={"access_log": _switch(on=("--access-log", "-"))},
    finishes=False,
    factory=None,
    why=(
        "daphne's --fd resets the connections of a unix socket; its systemd endpoint serves them,",
        "and sdactivate.servers.daphne keeps that from opening the socket's file to everybody.",
    ),
)

SERVERS: dict[str, ExternalServer] = {
    server.name: server for server in (GUNICORN, UWSGI, UVICORN, HYPERCORN, DAPHNE)
}

# Settings of what this project does itself, no matter which server. `stream` tells the front, too,
# and these servers stream every body.
_OURS = frozenset({"server", "fd", "protocol", "stream"})


def command(
    server: ExternalServer, python: str, app: str, settings: Settings, families: Sequence[str]
) -> list[str]:
    """Return the command line by which `server` serves `app` on the sockets it inherits.

    python: the interpreter that it is installed for. settings: what the site asks. families: of
    each socket, in the order of their descriptors (3, 4, …): "unix", "inet", "inet6", "vsock".

    Raises UsageError for a setting that the server does not have, a protocol that it does not
    speak, more sockets than it serves, and an application that is not its kind.
    """
    check_settings(server, settings)
    if len(families) > 1 and not server.several:
        raise UsageError(
            f"--server {server.name} serves one socket, and {len(families)} are passed: clients of "
            "the others would wait for ever. Give the service one, or choose another server"
        )
    if len(set(families)) > 1 and any("{domain}" in word for word in server.socket):
        raise UsageError(
            f"--server {server.name} must be told each descriptor's family, and their order is "
            "undefined: give the service sockets of one family, or choose another server"
        )
    argv = [program(server, python)] if server.is_program else [python, "-m", server.program]
    argv += server.fixed
    if server.prefix and (root := posixpath.dirname(posixpath.dirname(python))) not in _NO_PREFIX:
        argv += (server.prefix, root)
    for index, family in enumerate(families):
        domain = {"unix": "UNIX", "abstract": "UNIX", "inet6": "INET6"}.get(family, "INET")
        argv += [w.format(fd=3 + index, index=index, domain=domain) for w in server.socket]
    unix = all(family in ("unix", "abstract") for family in families)
    values = settings
    if unix and "trust" in server.options and not settings.trust:
        values = values._replace(trust=("*",))  # every peer that may connect is a front
    if not unix and settings.protocol == "auto":
        # Anybody may connect, and what the other protocols say of a client is for a front to say
        values = values._replace(protocol=trust.OTHER.protocol)
    for name, words in server.options.items():
        argv += words(getattr(values, name))
    return argv + _application(server, app)


def _application(server: ExternalServer, app: str) -> Words:
    """Return the words by which `server` is told its application.

    Raises UsageError for a file, and for a factory where it calls none.
    """
    name = app_name.parse(app)
    if name.file:
        raise UsageError(f"{app}: {server.name} serves no file; name a module, or --server native")
    if name.is_factory and server.factory is None:
        raise UsageError(
            f"{app}: {server.name} calls no factory; name the application that it returns in a "
            "module of your own, such as mysite.asgi:application"
        )
    words = list(server.application[server.backend.interface(app)])
    if name.is_factory and server.factory:
        words = [*server.factory, *words]
        name = name._replace(is_factory=False)
    return [word.format(app=name) for word in words]


_NO_PREFIX = ("/", "/usr", "/usr/local")


def program(server: ExternalServer, python: str) -> str:
    """Return the path of the program that is installed with `server` beside the interpreter."""
    return posixpath.join(posixpath.dirname(python), server.name)


def check_settings(server: ExternalServer, settings: Settings) -> None:
    """Raise UsageError for a setting that `server` has no option for, or can't do."""
    for setting in TABLE:
        given = getattr(settings, setting.name) != setting.default
        if given and setting.name not in server.options and setting.name not in _OURS:
            known = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in server.options))
            raise UsageError(
                f"{setting.option}: {server.name} has no such setting; it can be told {known}"
            )
    server.backend.check_protocol(settings.protocol)
