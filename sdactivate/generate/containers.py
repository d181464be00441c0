"""A site in containers: its parts, their ports, health checks and grace periods.

The kinds dockerfile, compose, stack and kubernetes write the same thing in four formats. It is
derived here, once, from the same `Site` as the units:

1. **Addresses become ports.** A container is reached by TCP. An address of TCP keeps its port; any
   other gets the next one from 8000 up, unless one of TCP has its name as well.
2. **Parts.** The site itself ("web"), each background worker, each command of manage.py. All are
   the one image with other commands.
3. **Health.** The engine queries a container before it restarts or drains it. The server answers
   --ready-path and --live-path even while the application's threads are busy. If there is a metrics
   socket, it answers there, whatever the workers do.
4. **Time to stop.** A container's grace period corresponds to a unit's TimeoutStopSec=:
   --drain-delay, --graceful-timeout and a margin (`units.stop_timeout`).

An option that has no effect in a container is refused if ignoring it would be dangerous. Otherwise
it is left out with a warning, from here or from `generate.build`, which names every option that a
kind does not read.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from sdactivate import external_servers, settings
from sdactivate.errors import UsageError
from sdactivate.generate import units
from sdactivate.generate.background import Worker
from sdactivate.settings import DEFAULTS, resolve
from sdactivate.site import Site
from sdactivate.values import ListenAddress, parse_listen

USER = 10001
"""The user that the image runs as: not an account of a host, and not root."""
PYTHON = "/opt/venv/bin/python"
"""The image's interpreter."""
FIRST_PORT = 8000
REPLICAS = 2
"""Default number of containers of a site: one can stop while the other serves."""
FLEET: Mapping[str, str] = {"ready_path": "/-/ready", "live_path": "/-/live", "drain_delay": "10"}
"""Default settings of a site that several machines serve."""
COMMAND_STOP = 90
"""Seconds that a command may take to stop: systemd's DefaultTimeoutStopSec=."""
CREDENTIALS = "CREDENTIALS_DIRECTORY"
SECRETS = "/run/secrets"
"""The directory of secrets in a container, as Docker uses it."""
WEB = "web"

_EVERY = {"inet": "0.0.0.0", "inet6": "[::]"}  # noqa: S104 - all of a container's own
_INTERNET = frozenset(_EVERY)
_NAME = re.compile("[a-z]([a-z0-9-]{0,50}[a-z0-9])?")


def start_seconds(site: Site) -> int:
    """Return how many seconds a site may take to become ready."""
    return int(resolve({}, site.settings, {}).start_timeout)


class Port(NamedTuple):
    """A port that a container listens on."""

    number: int
    name: str
    """The descriptor's name; "": the site's name."""
    inside: str
    """The address in the container."""
    outside: str
    """The host's address on which a port of the same number is published."""

    @property
    def listen(self) -> str:
        """The value for `launch --listen`."""
        named = f"{self.name}=" if self.name else ""
        return f"{named}{self.inside}:{self.number}"


class Part(NamedTuple):
    """One container to run: the site, a background worker or a command."""

    name: str
    """Its name within the site: web, mail, clearsessions."""
    full: str
    """Its unique name: mysite, mysite-mail, mysite-clearsessions."""
    command: tuple[str, ...] = ()
    """The command; (): the image's entry point with `Container.arguments`."""
    env: tuple[tuple[str, str], ...] = ()
    """Its whole environment, except for the variables that the image sets."""
    copies: int = 1
    """The number of instances."""
    stop: int = 0
    """Seconds between TERM and KILL."""
    memory: str = ""
    """Its memory limit, in systemd's notation; "": none."""
    once: bool = False
    """Whether it exits when its work is done."""


class Probe(NamedTuple):
    """The address and paths of the health checks."""

    loopback: str
    """The address from inside the container."""
    port: int
    ready: str
    live: str


class Container(NamedTuple):
    """A site as containers of one image."""

    site: Site
    """The site, with the settings for a container."""
    ports: tuple[Port, ...]
    arguments: tuple[str, ...]
    """Arguments of the image's entry point: `launch …`."""
    probe: Probe | None
    web: Part
    left_out: tuple[str, ...]
    """Sentences about options that have no effect in a container."""

    @property
    def state(self) -> str:
        """The directory of persistent data: $STATE_DIRECTORY."""
        return f"/var/lib/{self.site.name}"

    @property
    def cache(self) -> str:
        """The directory of data that can be created again: $CACHE_DIRECTORY."""
        return f"/var/cache/{self.site.name}"

    @property
    def public(self) -> list[Port]:
        """The ports for clients, without the metrics port."""
        return [port for port in self.ports if not port.name or port.name != self.figures]

    @property
    def figures(self) -> str:
        """The name of the metrics port; "": there is none."""
        return self.site.settings.get("metrics", "")

    @property
    def memory(self) -> str:
        """Its memory limit, in systemd's notation; "": none."""
        return memory(self.site.memory_max)

    @property
    def cpu_percent(self) -> int:
        """Its processor limit, 100 for one processor; 0: none."""
        return int(self.site.cpu_quota.removesuffix("%") or 0)

    @property
    def start(self) -> int:
        """Seconds that it may take to become ready."""
        return start_seconds(self.site)

    @property
    def health(self) -> list[str]:
        """The health check that is run inside the container; exit code 0: healthy.

        It uses only a socket and not the site's packages, since it runs every few seconds, and the
        image has no curl.
        """
        assert self.probe
        ask = (
            f"import socket,sys;s=socket.create_connection"
            f"(('{self.probe.loopback}',{self.probe.port}),3);"
            f"s.sendall(b'GET {self.probe.live} HTTP/1.0\\r\\n\\r\\n');"
            "sys.exit(s.recv(12)[9:]!=b'200')"
        )
        return [PYTHON, "-I", "-S", "-c", ask]


def container(
    site: Site,
    kind: str,
    *,
    defaults: Mapping[str, str] | None = None,
    asks_inside: bool = True,
) -> Container:
    """Return how `site` runs in containers.

    kind: for messages, such as "--kind compose". defaults: settings for those that the site does
    not set. asks_inside: the health check comes from the container's own loopback address.

    Raises UsageError without an application, and for options that can't work in a container.
    """
    app = application(site, kind)
    ports, left_out = _ports(site)
    given = {**(defaults or {}), **site.settings}
    if "idle_timeout" in given and settings.seconds(given.pop("idle_timeout")):
        left_out.append("--idle-timeout is left out: nothing would start the container again")
    if given.get("allow_peer"):
        raise UsageError(
            f"--allow-peer {given['allow_peer']}: {kind}: peers connect by TCP, which tells "
            "neither user nor unit; leave it out, and restrict access by the network"
        )
    probe = _probe(site, given, ports)
    if probe and asks_inside:
        # Only the container itself can use its loopback address
        trusted = settings.words(given.get("trust", ""))
        given["trust"] = " ".join(dict.fromkeys((probe.loopback, *trusted)))
    inside = replace(
        site,
        listen=tuple(parse_listen(port.listen) for port in ports),
        settings=given,
        env=(*site.env, (CREDENTIALS, SECRETS)) if secrets(site) else site.env,
    )
    listen = [word for port in ports for word in ("--listen", port.listen)]
    serve = [PYTHON, "-m", "sdactivate", "serve", app]
    return Container(
        inside,
        tuple(ports),
        ("launch", *listen, "--", *serve),
        probe,
        Part(
            WEB,
            site.name,
            env=_pairs(inside),
            stop=units.stop_timeout(inside),
            memory=memory(site.memory_max),
        ),
        tuple(left_out),
    )


def application(site: Site, kind: str) -> str:
    """Return the site's application, after checking that its server can serve it.

    Raises UsageError if there is none, and for settings that the server does not have.
    """
    if not site.app:
        raise UsageError(f"{kind} needs --app, such as --app mysite.wsgi:application")
    site.backend.interface(site.app)
    if host := external_servers.SERVERS.get(site.backend.name):
        external_servers.check_settings(host, resolve({}, site.settings, {}))
    return site.app


def of_fleet(site: Site, kind: str, *, asks_inside: bool = True) -> Container:
    """Return how `site` runs under an engine that replaces its containers one by one.

    Raises UsageError as `container` does, and if the engine could not query it.
    """
    made = container(site, kind, defaults=_defaults(site), asks_inside=asks_inside)
    if made.probe is None:
        raise UsageError(
            f"{kind}: the engine checks by HTTP whether each container is ready. The native "
            "server answers that, or --metrics (native, waitress, flup) on a port of its own: "
            "give --metrics metrics --listen metrics=0.0.0.0:8001, or leave --server and "
            "--protocol out"
        )
    if not settings.words(made.site.settings.get("trust", "")):
        raise UsageError(
            f"{kind} needs --trust: the networks that health checks and the front come from, such "
            "as --trust 10.0.0.0/8"
        )
    return made


def memory(limit: str) -> str:
    """Return `limit`, a value of MemoryMax=, for a container; "" if it is a percentage."""
    return "" if limit.endswith("%") else limit


def needs_image(image: str, kind: str) -> None:
    """Raise UsageError without --image, which several machines need to pull the image."""
    if not image:
        raise UsageError(
            f"{kind} needs --image, which every machine pulls, such as "
            "registry.example.org/mysite:1.4"
        )


def check_name(name: str, what: str) -> str:
    """Return `name` if it can name a container, a service and a host (RFC 1035).

    Raises UsageError, which begins with `what`, otherwise.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} {name!r}: a container's name has at most 52 lower-case letters, digits and "
            "'-', begins with a letter and does not end with '-'"
        )
    return name


def parts(
    made: Container,
    worker: tuple[Worker, ...],
    commands: tuple[tuple[str, ...], ...],
    kind: str,
) -> tuple[list[Part], list[Part]]:
    """Return the parts of the background workers, and of the `commands` of manage.py.

    "{instance}" in a worker's command makes a part of each instance. Raises UsageError for a name
    that is not valid for a container, and if two are the same.
    """
    workers = [part for one in worker for part in _workers(made, one)]
    found = [_command(made, words, kind) for words in commands]
    names = [WEB, *(part.name for part in (*workers, *found))]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(
            f"{kind}: two parts (the site, its background workers, its commands) would be called "
            f"{min(twice)}; rename one"
        )
    return workers, found


def secrets(site: Site) -> tuple[tuple[str, str], ...]:
    """Return the name and the path of the site's secrets, encrypted ones included."""
    return (*site.credential, *site.encrypted_credential)


def told(made: Container, worker: tuple[Worker, ...]) -> Iterator[str]:
    """Yield warnings about options that are left out, and about health checks."""
    yield from made.left_out
    limits = [("", made.site.memory_max), *((f" of {it.name}", it.memory_max) for it in worker)]
    for whose, limit in limits:
        if limit.endswith("%"):
            yield (
                f"--memory-max {limit}{whose} is left out: the memory of the machine is unknown; "
                "give bytes, such as 512M"
            )
    workers = int(made.site.settings.get("workers", DEFAULTS.workers))
    if made.probe and workers > 1 and not made.site.settings.get("metrics"):
        yield (
            f"--workers {workers}: a health check waits for a free worker process, as requests "
            "do; give --metrics metrics --listen metrics=0.0.0.0:8001, so that the main process "
            "answers it"
        )


def alone(site: Site, what: str) -> Iterator[str]:
    """Yield warnings about directories that each `what` would have for itself."""
    for path in dict.fromkeys((*site.writable, *site.uploads)):
        yield (
            f"{path} is left out: each {what} would have a directory of its own there; keep these "
            "files in an object store, or mount a shared volume there"
        )


def _defaults(site: Site) -> Mapping[str, str]:
    """Those settings of FLEET that the site's server has."""
    if site.backend.name == DEFAULTS.server or site.settings.get("metrics"):
        return FLEET
    return {"drain_delay": FLEET["drain_delay"]} if site.backend.in_process else {}


def _probe(site: Site, given: Mapping[str, str], ports: list[Port]) -> Probe | None:
    """Return the address that answers `ready_path` and `live_path` with the settings `given`."""
    ready, live = given.get("ready_path", ""), given.get("live_path", "")
    if not (ready or live):
        return None
    figures = given.get("metrics", "")
    asked = [port for port in ports if figures and port.name == figures]
    if not asked and site.backend.name == DEFAULTS.server:
        asked = [port for port in ports if _spoken(port, given) not in ("scgi", "fastcgi", "uwsgi")]
    if not asked:
        return None
    loopback = "::1" if asked[0].inside == _EVERY["inet6"] else "127.0.0.1"
    return Probe(loopback, asked[0].number, ready or live, live or ready)


def _spoken(port: Port, given: Mapping[str, str]) -> str:
    protocol = given.get("protocol", "auto")
    return port.name if protocol == "auto" else protocol


def _ports(site: Site) -> tuple[list[Port], list[str]]:
    """Return the ports of the container, the site's own first, and the warnings about them."""
    ports = [_of_tcp(it) for it in site.listen if it.family in _INTERNET]
    numbers = [port.number for port in ports]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise UsageError(f"--listen: a container has one port {min(twice)}; choose another")
    free = (number for number in count(FIRST_PORT) if number not in numbers)
    left_out = []
    for address in site.addresses:
        if address.family in _INTERNET:
            continue
        if address.name in {port.name for port in ports}:
            left_out.append(f"--listen {address} is left out: clients reach a container by TCP")
            continue
        port = Port(next(free), address.name, _EVERY["inet"], "127.0.0.1")
        ports.append(port)
        if site.listen:
            left_out.append(
                f"--listen {address}: clients reach a container by TCP: it listens on port "
                f"{port.number} instead"
            )
    return sorted(ports, key=lambda port: bool(port.name)), left_out


def _of_tcp(address: ListenAddress) -> Port:
    if address.port < 1024:
        raise UsageError(
            f"--listen {address}: user {USER} of the container can't listen on a port below 1024; "
            "choose another, such as 8000, and publish it on any port of the host"
        )
    outside = str(address).rpartition(":")[0]
    return Port(address.port, address.name, _EVERY[address.family], outside)


def _pairs(site: Site) -> tuple[tuple[str, str], ...]:
    pairs = (variable.partition("=") for variable in units.environment(site))
    return tuple((name, value) for name, _, value in pairs)


def _full(site: Site, name: str, kind: str) -> str:
    return check_name(f"{site.name}-{name}", kind)


def _command(made: Container, words: tuple[str, ...], kind: str) -> Part:
    name = words[0].lower().replace("_", "-")
    return Part(
        name,
        _full(made.site, name, f"{kind}: --command, --by-hand"),
        (PYTHON, "manage.py", *words),
        _pairs(replace(made.site, settings={})),
        stop=COMMAND_STOP,
        memory=made.memory,
        once=True,
    )


def _workers(made: Container, worker: Worker) -> Iterator[Part]:
    name = worker.name.lower().replace("_", "-")
    first, *rest = worker.command
    program = first if first.startswith("/") else posixpath.join(posixpath.dirname(PYTHON), first)
    site = made.site
    env = _pairs(
        replace(site, settings={}, env=tuple({**dict(site.env), **dict(worker.env)}.items()))
    )
    part = Part(
        name,
        _full(site, name, "--worker"),
        (program, *rest),
        env,
        worker.instances,
        int(-(-settings.seconds(worker.stop_timeout) // 1)),
        memory(worker.memory_max or site.memory_max),
    )
    said = [*part.command, *(value for _, value in env)]
    if not any(units.INSTANCE in text for text in said):
        yield part
        return
    for number in map(str, range(1, worker.instances + 1)):
        yield part._replace(
            name=f"{name}-{number}",
            full=_full(site, f"{name}-{number}", "--worker"),
            copies=1,
            command=tuple(word.replace(units.INSTANCE, number) for word in part.command),
            env=tuple((key, value.replace(units.INSTANCE, number)) for key, value in env),
        )
