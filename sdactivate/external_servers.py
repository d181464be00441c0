"""Command lines of other servers (gunicorn, uWSGI, uvicorn …) on the inherited socket.

`gen --server gunicorn` writes that command line into a unit, `sdactivate serve --server gunicorn`
executes it, and docs/servers.md lists it. A setting can be given only if the server has an option
for it. The protocols that each server speaks are in `backends`, which also has the servers that run
inside the process of `sdactivate serve`; those are not here.

Every row was tried with sockets from systemd, and what the comments say was observed.
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


# How a setting's value becomes arguments


def _value(flag: str) -> Callable[[Any], Words]:
    return lambda value: [flag, str(value)]


def _whole(flag: str) -> Callable[[Any], Words]:
    """Seconds, rounded up, for an option that takes whole numbers; 0 is passed on as it is."""
    return lambda value: [flag, str(math.ceil(value))]


def _limit(flag: str, unit: int = 1) -> Callable[[Any], Words]:
    """A limit, which is off if it is not given."""
    return lambda value: [flag, str(math.ceil(value / unit))] if value else []


def _switch(on: Sequence[str] = (), off: Sequence[str] = ()) -> Callable[[Any], Words]:
    return lambda value: list(on if value else off)


class ExternalServer(NamedTuple):
    """One row."""

    backend: Backend
    program: str
    """The module for `python -m`, or "bin/NAME" for a program beside the interpreter."""
    fixed: tuple[str, ...]
    """Arguments that it always gets."""
    socket: tuple[str, ...]
    """Arguments for each descriptor, with {fd}, {index} and {domain}; (): it finds them itself."""
    application: Mapping[str, tuple[str, ...]]
    """Arguments that name the application, by interface, with {app}."""
    options: Mapping[str, Callable[[Any], Words]]
    """The settings that it has an option for, and the arguments for each."""
    several: bool = True
    """Whether it can serve more than one socket."""
    notifies: bool = False
    """Whether it notifies systemd when it is ready: Type=notify."""
    reload: str = ""
    """The signal that loads new code without losing requests; "": only a restart does that."""
    why: tuple[str, ...] = ()
    """Comments for the unit, about this server's pitfalls."""
    finishes: bool = True
    """Whether a stop lets the requests in progress finish."""
    factory: tuple[str, ...] | None = ()
    """Arguments for an application that a factory returns, in addition to the factory's name. ():
    none, since it understands MODULE:FACTORY(); None: it calls no factories."""
    prefix: str = ""
    """The option that names the virtual environment, for a program that is not run by Python."""

    @property
    def name(self) -> str:
        """Its name, which is also the name of its program and module."""
        return self.backend.name

    @property
    def is_program(self) -> bool:
        """Whether it is a program beside the interpreter instead of a module."""
        return self.program.startswith("bin/")


GUNICORN = ExternalServer(
    BACKENDS["gunicorn"],
    "gunicorn",
    # It would open a second socket, for gunicornc
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
        "gunicorn finds the sockets by LISTEN_FDS. Never use -b fd://3: it deletes the socket's "
        "file",
        "at a stop. Never send USR2: the new process finds its descriptors closed.",
    ),
)

UWSGI = ExternalServer(
    BACKENDS["uwsgi"],
    "bin/uwsgi",
    # To uWSGI, TERM is a forced reload, and with --die-on-term a stop that cuts requests off
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
        "uWSGI finds the sockets by LISTEN_FDS, without a --socket option. Its own reload (HUP)",
        "executes it again without them, so the service has no reload: restart it instead.",
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
    why=(
        "uvicorn serves one descriptor, and trusts X-Forwarded-* only from the peers it is told.",
    ),
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
    # Twisted would make the socket's file accessible to everyone and delete it: see
    # `servers.daphne`
    "sdactivate.servers.daphne",
    fixed=("--proxy-headers", "--no-server-name"),
    # Not --fd, which treats every descriptor as TCP, so that connections of a unix socket are reset
    socket=("-e", "systemd:domain={domain}:index={index}"),
    application={ASGI: ("{app}",)},
    options={"access_log": _switch(on=("--access-log", "-"))},
    finishes=False,
    factory=None,
    why=(
        "daphne's --fd resets the connections of a unix socket; its systemd endpoint serves them,",
        "and sdactivate.servers.daphne keeps that from making the socket's file accessible to "
        "everyone.",
    ),
)

SERVERS: dict[str, ExternalServer] = {
    server.name: server for server in (GUNICORN, UWSGI, UVICORN, HYPERCORN, DAPHNE)
}

# Settings that do not concern the server. `stream` also configures the front, and these servers
# stream every request body.
_OURS = frozenset({"server", "fd", "protocol", "stream"})


def command(
    server: ExternalServer, python: str, app: str, settings: Settings, families: Sequence[str]
) -> list[str]:
    """Return the command line by which `server` serves `app` on the sockets it inherits.

    python: the interpreter that it is installed for. settings: those that the site sets, as text.
    families: the address family of each socket, in the order of the descriptors (3, 4, …): "unix",
    "inet", "inet6", "vsock".

    Raises UsageError for a setting that the server does not have, a protocol or interface that it
    does not speak, and more sockets than it serves.
    """
    check_settings(server, settings)
    if len(families) > 1 and not server.several:
        raise UsageError(
            f"--server {server.name} serves one socket, and {len(families)} are passed: clients "
            "of the others would wait forever. Pass one socket, or choose another server"
        )
    if len(set(families)) > 1 and any("{domain}" in word for word in server.socket):
        raise UsageError(
            f"--server {server.name} must be told each descriptor's family, and their order is "
            "undefined: use sockets of one family, or choose another server"
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
        values = values._replace(trust=("*",))  # every peer that may connect counts as a front
    if not unix and settings.protocol == "auto":
        # Anyone may connect, and the other protocols carry data that only a front may set
        values = values._replace(protocol=trust.OTHER.protocol)
    for name, words in server.options.items():
        argv += words(getattr(values, name))
    return argv + _application(server, app)


def _application(server: ExternalServer, app: str) -> Words:
    """Return the arguments that name the application for `server`.

    Raises UsageError for a file, and for a factory if the server calls none.
    """
    name = app_name.parse(app)
    if name.file:
        raise UsageError(
            f"{app}: {server.name} can't load an application from a file; name a module, or use "
            "--server native"
        )
    if name.is_factory and server.factory is None:
        raise UsageError(
            f"{app}: {server.name} can't call a factory; call it in a module of your own and name "
            "the result, such as mysite.asgi:application"
        )
    words = list(server.application[server.backend.interface(app)])
    if name.is_factory and server.factory:
        words = [*server.factory, *words]
        name = name._replace(is_factory=False)
    return [word.format(app=name) for word in words]


_NO_PREFIX = ("/", "/usr", "/usr/local")


def program(server: ExternalServer, python: str) -> str:
    """Return the path of the server's program, beside the interpreter."""
    return posixpath.join(posixpath.dirname(python), server.name)


def check_settings(server: ExternalServer, settings: Settings) -> None:
    """Raise UsageError for a setting that `server` has no option for or can't satisfy."""
    for setting in TABLE:
        given = getattr(settings, setting.name) != setting.default
        if given and setting.name not in server.options and setting.name not in _OURS:
            known = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in server.options))
            raise UsageError(f"{setting.option}: {server.name} has no such setting; it has {known}")
    server.backend.check_protocol(settings.protocol)
