"""Warnings about a unit before it is used: missing users, open modes, network addresses.

The unit is valid, but may not fit this host or its purpose. Options that can't work at all are
refused instead (`sdactivate.site`), and the doctor examines what runs.
"""

import grp
import os
import pwd
import re
from collections.abc import Iterable, Iterator
from functools import cache

from sdactivate import external_servers
from sdactivate.generate.output import MissingAccount
from sdactivate.sandbox import NEEDS, TABLE, below_home
from sdactivate.settings import seconds
from sdactivate.site import Site
from sdactivate.values import ListenAddress
from sdactivate.virtual_environment import interpreter_in


@cache
def _known(database: str, name: str) -> bool:
    look_up = pwd.getpwnam if database == "user" else grp.getgrnam
    try:
        look_up(name)
    except KeyError:
        return name.isdigit()
    return True


# While a site runs, its dynamic user is listed like any other: systemd.exec(5), DynamicUser=.
_DYNAMIC = range(61184, 65520)


@cache
def _users() -> frozenset[str]:
    """Return this host's permanent users, as far as its databases list them.

    Cached for many sites: looking up a name that does not exist takes longer than writing the
    units.
    """
    return frozenset(user.pw_name for user in pwd.getpwall() if user.pw_uid not in _DYNAMIC)


def _unknown(option: str, database: str, name: str) -> Iterator[str]:
    if name and not _known(database, name):
        yield MissingAccount(option, database, name)


def of_socket(site: Site, own: bool = False) -> Iterator[str]:
    """Yield warnings about the site's sockets. own: they belong to a user's own manager."""
    if own:
        if not site.listen:
            yield (
                "the socket is in the user's own /run/user directory, which no other user can enter"
            )
        return
    yield from _unknown("--user", "user", site.user)
    yield from _unknown("--group", "group", site.group)
    for address in site.addresses:
        match address.family:
            case "unix":
                yield from _of_path(site, address.path)
            case "abstract":
                yield (
                    f"--listen {address}: an abstract socket has no permissions: every "
                    "local user can connect"
                )
            case "inet" | "inet6":
                where = "local user" if _loopback(address.host) else "machine that reaches it"
                yield f"--listen {address}: TCP has no permissions: any {where} can connect"
            case "vsock":
                yield (
                    f"--listen {address}: vsock has no permissions: every machine on it can connect"
                )
        yield from of_protocol(site, address)


def of_protocol(site: Site, address: ListenAddress) -> Iterator[str]:
    """Yield warnings about the protocol at `address`."""
    if address.family in ("unix", "abstract") or not site.backend.in_process:
        return
    protocol = site.settings.get("protocol", "auto")
    if protocol == "auto":
        protocol = address.name
    if protocol not in ("scgi", "fastcgi", "uwsgi"):
        return
    if address.family == "vsock":
        yield (
            f"--listen {address}: over {protocol} no peer is trusted on vsock: the application "
            "does not get HTTPS, the client's address or the user"
        )
    elif not site.settings.get("trust"):
        yield (
            f"--listen {address}: over {protocol} no peer is trusted on TCP, so the application "
            "does not get HTTPS, the client's address or the user: give the front's address with "
            "--trust"
        )


def _of_path(site: Site, path: str) -> Iterator[str]:
    if site.mode & 0o002:
        yield f"--mode {site.mode:04o}: every user of this host can connect"
    elif not site.mode & 0o020:
        yield f"--mode {site.mode:04o}: the group can't connect, only {site.user} and root"
    elif site.group in ("root", "0"):
        yield "without --group only root can connect; give the front's group, such as www-data"
    if site.run_as and site.run_as == site.user:
        yield f"--user {site.user}: the application owns its socket and can change its mode"
    if path.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 - that is what is warned of
        yield f"--listen {path}: a front with a /tmp of its own (PrivateTmp=) won't see it"


def _loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def of_service(site: Site, python: str, own: bool) -> Iterator[str]:
    """Yield warnings about the site's service, which `python` runs.

    own: it runs in a user's own manager, as that user.
    """
    yield from _unknown("--run-as", "user", site.run_as)
    for group in site.join:
        yield from _unknown("--join", "group", group)
    for address in site.addresses:
        yield from of_protocol(site, address)
    if not own and not site.run_as and site.service_user in _users():
        yield (
            f"this host has a user {site.service_user}: the service will run as that user, not as "
            "a dynamic user"
        )
    for option, path, what in (
        ("--python", python, "file"),
        ("--chdir", site.chdir, "directory"),
    ):
        if path and not site.home and (hidden := below_home(path)):
            link = "" if hidden == path else f"it leads to {hidden}, and "
            yield (
                f"{option} {path}: {link}the sandbox hides it (ProtectHome=): move it, or give "
                "--home"
            )
        elif path and not os.path.exists(path):
            yield f"{option} {path}: this host has no such {what}"
        elif path.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 - that is what is warned of
            yield f"{option} {path}: the service has a /tmp of its own (PrivateTmp=): move it"


def of_server(site: Site, python: str) -> Iterator[str]:
    """Yield warnings about the server of the site, which `python` runs."""
    if not site.python and (own := interpreter_in(site.chdir, python)):
        yield (
            f"--chdir {site.chdir}: there is a virtual environment in it, but the service runs "
            f"{python}; if the site needs its packages, give --python {own}"
        )
    host = external_servers.SERVERS.get(site.backend.name)
    if host is None:
        if _lacks_the_kit(python):
            yield (
                f"--python {python}: sdactivate is not installed in this virtual environment, and "
                f"the service needs it there; install it: `{python} -m pip install --find-links "
                "/srv/wheels sdactivate`, with the directory of its wheels"
            )
        return
    # Every one of these packages installs a program of its name beside the interpreter
    if os.path.exists(python) and not os.path.exists(external_servers.program(host, python)):
        yield (
            f"--server {host.name}: it does not seem to be installed for {python}: install it "
            f"with `{host.backend.install_command(python)}`"
        )


def _lacks_the_kit(python: str) -> bool:
    """Return whether `python` is in a virtual environment (PEP 405) without sdactivate."""
    from pathlib import Path

    environment = Path(python).parent.parent
    try:
        settings = (environment / "pyvenv.cfg").read_text(errors="replace")
    except OSError:
        return False
    if re.search(r"(?mi)^include-system-site-packages\s*=\s*true", settings):
        return False
    return not any(environment.glob("lib*/python*/site-packages/sdactivate-*.dist-info"))


def of_several(site: Site) -> bool:
    """Return whether several machines seem to serve the site: it answers a balancer's checks."""
    announced = seconds(site.settings.get("drain_delay", "0"))
    return bool(site.settings.get("ready_path") or announced)


def of_timers(site: Site, commands: Iterable[tuple[str, ...]], once_on: str) -> Iterator[str]:
    """Yield warnings about timers of a site that several machines serve."""
    if of_several(site) and not once_on:
        for words in commands:
            yield (
                f"--command {words[0]}: this site is behind a load balancer (--ready-path, "
                "--drain-delay), and each machine would run this timer: name one with --once-on "
                "HOST"
            )


def of_uploads(site: Site) -> Iterator[str]:
    """Yield warnings about files that each of several machines would have for itself."""
    if of_several(site):
        for path in site.uploads:
            yield (
                f"--media, --protected {path}: this site is behind a load balancer, and each "
                "machine has a directory of its own: share it among them (by NFS, for example), "
                "or keep uploads in an object store"
            )


def of_peers(needs: Iterable[str]) -> Iterator[str]:
    """Yield the sandbox lines that --allow-peer gives up for its `needs`, of `sandbox.NEEDS`."""
    for need in needs:
        given_up = " and ".join(row.line for row in TABLE if need in row.relaxed)
        yield (
            f"--allow-peer: the service must see {NEEDS[need]}, so {given_up} is left out; "
            "unit:NAME.service does not need that on Linux 6.13 and later"
        )
