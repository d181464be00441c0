"""Other servers on the same socket unit: one row a server, with the command line that inherits.

`gen --server gunicorn` writes that command line into a unit, `sdactivate serve --server gunicorn`
executes it, and docs/servers.md lists it. A server keeps its own ways of working: of the settings
it is told those that it has an option for, and no others can be given. `native`, `flup` and
`waitress` are not here: these run inside this project's own process.

Every row was tried on sockets of systemd's; what a comment says of a server was seen.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sdactivate.errors import UsageError

if TYPE_CHECKING:
    from sdactivate.settings import Settings

WSGI, ASGI = "wsgi", "asgi"

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


class Host(NamedTuple):
    """One row."""

    name: str
    package: str
    """What pip installs."""
    program: str
    """The module for `python -m`, or the "bin/NAME" that is beside the interpreter."""
    fixed: tuple[str, ...]
    """What it must always be told."""
    socket: tuple[str, ...]
    """What it is told of each descriptor, with {fd}, {index} and {domain}; (): it looks itself."""
    interfaces: Mapping[str, tuple[str, ...]]
    """WSGI, ASGI: how it is told the application, with {app}."""
    options: Mapping[str, Callable[[Any], Words]]
    """The settings that it has, and how it is told them."""
    several: bool = True
    """Whether it serves more than one socket."""
    protocols: tuple[str, ...] = ("http",)
    """What fronts may speak to it; the first, where nothing is said."""
    notifies: bool = False
    """Whether it tells systemd when it is ready: Type=notify."""
    reload: str = ""
    """The signal that brings new code in and loses nothing; "": only a restart does."""
    why: tuple[str, ...] = ()
    """Comments for the unit: what was learnt the hard way."""
    finishes: bool = True
    """Whether a stop lets the requests under way come to their end."""
    prefix: str = ""
    """The option that names the virtual environment, for a program that is no Python."""

    @property
    def is_program(self) -> bool:
        """Whether it is no module, but a program beside the interpreter."""
        return self.program.startswith("bin/")


GUNICORN = Host(
    "gunicorn",
    "gunicorn",
    "gunicorn",
    # It would open a second socket for gunicornc
    fixed=("--no-control-socket",),
    socket=(),
    interfaces={WSGI: ("{app}",), ASGI: ("--worker-class", "asgi", "{app}")},
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
    protocols=("http", "uwsgi"),
    notifies=True,
    reload="HUP",
    why=(
        "gunicorn finds the sockets by LISTEN_FDS. Never -b fd://3: that deletes the socket's file",
        "at a stop; and no USR2: the new process finds its descriptors closed.",
    ),
)

UWSGI = Host(
    "uwsgi",
    "uWSGI",
    "bin/uwsgi",
    # TERM means a brutal reload to it, with --die-on-term a stop that cuts requests off
    fixed=(
        *("--master", "--need-app", "--enable-threads", "--pythonpath", "."),
        *("--hook-master-start", "unix_signal:15 gracefully_kill_them_all"),
    ),
    socket=(),
    interfaces={WSGI: ("--module", "{app}")},
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
    protocols=("uwsgi", "http", "scgi", "fastcgi"),
    notifies=True,
    why=(
        "uWSGI finds the sockets by LISTEN_FDS, and by no --socket option. Its own reload (HUP)",
        "executes it again without them, so that there is none: restart the service instead.",
    ),
    prefix="--virtualenv",
)

UVICORN = Host(
    "uvicorn",
    "uvicorn",
    "uvicorn",
    # It calls listen() again on what it inherits; the backlog stays the socket unit's
    fixed=("--backlog", "4096"),
    socket=("--fd", "{fd}"),
    interfaces={ASGI: ("{app}",)},
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
    why=("uvicorn serves one descriptor, and believes no X-Forwarded-* unless it is told whose.",),
)

HYPERCORN = Host(
    "hypercorn",
    "hypercorn",
    "hypercorn",
    fixed=("--backlog", "4096"),  # as uvicorn
    socket=("--bind", "fd://{fd}"),
    interfaces={ASGI: ("{app}",), WSGI: ("wsgi:{app}",)},
    options={
        "workers": _value("--workers"),
        "graceful_timeout": _whole("--graceful-timeout"),
        "keepalive_timeout": _whole("--keep-alive"),
        "max_requests": _limit("--max-requests"),
        "max_requests_jitter": _limit("--max-requests-jitter"),
        "access_log": _switch(on=("--access-logfile", "-")),
    },
)

DAPHNE = Host(
    "daphne",
    "daphne",
    # Twisted would open the socket's file to the world and delete it: see there
    "sdactivate.servers.daphne",
    fixed=("--proxy-headers", "--no-server-name"),
    # Not --fd: it takes every descriptor for TCP, and a unix socket's connections are then reset
    socket=("-e", "systemd:domain={domain}:index={index}"),
    interfaces={ASGI: ("{app}",)},
    options={"access_log": _switch(on=("--access-log", "-"))},
    finishes=False,
    why=(
        "daphne's --fd resets the connections of a unix socket; its systemd endpoint serves them,",
        "and sdactivate.servers.daphne keeps that from opening the socket's file to everybody.",
    ),
)

HOSTS: dict[str, Host] = {host.name: host for host in (GUNICORN, UWSGI, UVICORN, HYPERCORN, DAPHNE)}

REFUSED = {
    "granian": "granian (seen: 2.8) has no option to inherit a socket: it always makes its own, "
    "with an owner and a mode of its own. Take uvicorn or hypercorn for ASGI, and the native "
    "server for WSGI",
}
"""Servers that can't serve a socket of somebody else's, and why."""

IN_PROCESS = ("native", "flup", "waitress")
"""Servers that run in this project's own process, with all of its lifecycle."""

NAMES = (*IN_PROCESS, *HOSTS, *REFUSED)
"""What the setting `server` may be."""

# Settings that are about this project's own doing, whoever serves
_OURS = frozenset({"server", "fd", "protocol"})


def find(name: str) -> Host | None:
    """Return the row of the server `name`; None for one that runs in our own process.

    Raises UsageError for a server that can't inherit a socket, with the reason.
    """
    if name in REFUSED:
        raise UsageError(f"--server {name}: {REFUSED[name]}")
    return HOSTS.get(name)


_SPOKEN = {
    "native": ("scgi", "fastcgi", "uwsgi", "http"),
    "flup": ("scgi", "fastcgi"),
    "waitress": ("http",),
}


def front_protocol(server: str, asked: str, offered: Sequence[str]) -> str:
    """Return what a front is to speak to `server`.

    asked: the setting `protocol`. offered: what the front speaks, best first.

    Raises UsageError where the server does not speak what is asked.
    """
    if host := find(server):
        check_protocol(host, asked)
        return host.protocols[0] if asked == "auto" else asked
    spoken = _SPOKEN[server]
    if asked == "auto":
        return next((protocol for protocol in offered if protocol in spoken), spoken[0])
    if asked not in spoken:
        raise UsageError(f"--protocol {asked}: {server} speaks {', '.join(spoken)} only")
    return asked


def interface(host: Host, app: str) -> str:
    """Return what `host` takes the application `app` (MODULE:NAME) for: WSGI or ASGI.

    Django and most others call the module of an ASGI application asgi, that of a WSGI one wsgi.
    Any other name is taken for what the server speaks, and for WSGI where it speaks both.

    Raises UsageError where the server does not speak what the name says.
    """
    said = app.partition(":")[0].rpartition(".")[2]
    if said in (WSGI, ASGI) and said not in host.interfaces:
        other = "asgi" if said == WSGI else "wsgi"
        raise UsageError(
            f"{app}: {host.name} speaks {other.upper()}, not {said.upper()}; name the site's "
            f"{other.upper()} application, such as mysite.{other}:application, or choose a server "
            f"that speaks {said.upper()}: {', '.join(speakers(said))}"
        )
    if said in (WSGI, ASGI):
        return said
    return WSGI if WSGI in host.interfaces else ASGI


def speakers(wanted: str) -> list[str]:
    """Return the names of the servers that speak WSGI or ASGI."""
    ours = IN_PROCESS if wanted == WSGI else ()
    return [*ours, *(host.name for host in HOSTS.values() if wanted in host.interfaces)]


def check_interface(server: str, app: str) -> None:
    """Raise UsageError where `app` is an ASGI application by its name and `server` is ours."""
    if app.partition(":")[0].rpartition(".")[2] == ASGI and server in IN_PROCESS:
        raise UsageError(
            f"{app}: the {server} server speaks WSGI; name mysite.wsgi:application, or choose a "
            f"server that speaks ASGI: {', '.join(speakers(ASGI))}"
        )


def command(
    host: Host, python: str, app: str, settings: Settings, families: Sequence[str]
) -> list[str]:
    """Return the command line by which `host` serves `app` on the sockets it inherits.

    python: the interpreter that it is installed for. settings: what the site asks. families: of
    each socket, in the order of their descriptors (3, 4, …): "unix", "inet", "inet6", "vsock".

    Raises UsageError for a setting that the server does not have, a protocol that it does not
    speak, more sockets than it serves, and an application that is not its kind.
    """
    check_settings(host, settings)
    if len(families) > 1 and not host.several:
        raise UsageError(
            f"--server {host.name} serves one socket, and {len(families)} are passed: clients of "
            "the others would wait for ever. Give the service one, or choose another server"
        )
    if len(set(families)) > 1 and any("{domain}" in word for word in host.socket):
        raise UsageError(
            f"--server {host.name} must be told each descriptor's family, and their order is "
            "undefined: give the service sockets of one family, or choose another server"
        )
    argv = [program(host, python)] if host.is_program else [python, "-m", host.program]
    argv += host.fixed
    if host.prefix and (root := posixpath.dirname(posixpath.dirname(python))) not in _NO_PREFIX:
        argv += (host.prefix, root)
    for index, family in enumerate(families):
        domain = {"unix": "UNIX", "abstract": "UNIX", "inet6": "INET6"}.get(family, "INET")
        argv += [w.format(fd=3 + index, index=index, domain=domain) for w in host.socket]
    trust = settings.trust
    if "trust" in host.options and not trust and all(f in ("unix", "abstract") for f in families):
        trust = ("*",)  # on a unix socket every peer that may connect is a front
    values = settings._replace(trust=trust)
    for name, words in host.options.items():
        argv += words(getattr(values, name))
    return argv + [word.format(app=app) for word in host.interfaces[interface(host, app)]]


_NO_PREFIX = ("/", "/usr", "/usr/local")


def program(host: Host, python: str) -> str:
    """Return the path of the program that is installed with `host` beside the interpreter."""
    return posixpath.join(posixpath.dirname(python), host.name)


def check_settings(host: Host, settings: Settings) -> None:
    """Raise UsageError for a setting that `host` has no option for, or can't do."""
    from sdactivate.settings import TABLE

    for setting in TABLE:
        given = getattr(settings, setting.name) != setting.default
        if given and setting.name not in host.options and setting.name not in _OURS:
            known = ", ".join(sorted(f"--{name.replace('_', '-')}" for name in host.options))
            raise UsageError(
                f"{setting.option}: {host.name} has no such setting; it can be told {known}"
            )
    check_protocol(host, settings.protocol)


def check_protocol(host: Host, protocol: str) -> None:
    """Raise UsageError where `host` does not speak `protocol`."""
    if protocol != "auto" and protocol not in host.protocols:
        raise UsageError(
            f"--protocol {protocol}: {host.name} speaks {', '.join(host.protocols)} only; the "
            "native server speaks all four at once"
        )


def install_command(package: str, python: str) -> str:
    """Return the command that installs `package` for `python`."""
    return f"{python} -m pip install {package}"
