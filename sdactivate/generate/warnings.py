"""Warnings about a unit before it is used: missing users, open modes, network addresses.

The text is right, but this host, or the way it is meant, may not fit it. What can't work at all
is refused instead (`sdactivate.site`), and what runs is the doctor's to judge.
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


@cache
def _known(database: str, name: str) -> bool:
    look_up = pwd.getpwnam if database == "user" else grp.getgrnam
    try:
        look_up(name)
    except KeyError:
        return name.isdigit()
    return True


# systemd.exec(5), DynamicUser=: while a site runs, its dynamic user is listed like any other.
_DYNAMIC = range(61184, 65520)


@cache
def _users() -> frozenset[str]:
    """Return the users of this host that are there to stay, as far as its databases list them.

    Asked for once, however many sites there are: to look up each name that is no user's takes
    longer than to write its units.
    """
    return frozenset(user.pw_name for user in pwd.getpwall() if user.pw_uid not in _DYNAMIC)


def _unknown(option: str, database: str, name: str) -> Iterator[str]:
    if name and not _known(database, name):
        yield MissingAccount(option, database, name)


def of_socket(site: Site, own: bool = False) -> Iterator[str]:
    """Yield what should be known about the site's sockets, of a user's `own` manager or not."""
    if own:
        if not site.listen:
            yield "the socket is in the user's own /run/user directory: no other user gets there"
        return
    yield from _unknown("--user", "user", site.user)
    yield from _unknown("--group", "group", site.group)
    for address in site.addresses:
        match address.family:
            case "unix":
                yield from _of_path(site, address.path)
            case "abstract":
                yield f"--listen {address}: an abstract socket has no permissions, all may connect"
            case "inet" | "inet6":
                where = "local user" if _loopback(address.host) else "machine that reaches it"
                yield f"--listen {address}: TCP has no permissions, any {where} may connect"
            case "vsock":
                yield f"--listen {address}: vsock has no permissions, every machine may connect"
        yield from of_protocol(site, address)


def of_protocol(site: Site, address: ListenAddress) -> Iterator[str]:
    """Yield what should be known about what is spoken at `address`."""
    if address.family in ("unix", "abstract") or not site.backend.in_process:
        return
    protocol = site.settings.get("protocol", "auto")
    if protocol == "auto":
        protocol = address.name
    if protocol not in ("scgi", "fastcgi", "uwsgi"):
        return
    if address.family == "vsock":
        yield (
            f"--listen {address}: over {protocol} nobody is believed on vsock: the application "
            "is not told of HTTPS, of the client's address or of a user"
        )
    elif not site.settings.get("trust"):
        yield (
            f"--listen {address}: over {protocol} nobody is believed on TCP, so that the "
            "application is not told of HTTPS, of the client's address or of a user: name the "
            "front's address with --trust"
        )


def _of_path(site: Site, path: str) -> Iterator[str]:
    if site.mode & 0o002:
        yield f"--mode {site.mode:04o}: every user of this host may connect"
    elif not site.mode & 0o020:
        yield f"--mode {site.mode:04o}: the group may not connect, only {site.user} and root"
    elif site.group in ("root", "0"):
        yield "without --group only root may connect; name the front's group, such as www-data"
    if site.run_as and site.run_as == site.user:
        yield f"--user {site.user}: the application owns its socket and can change its mode"
    if path.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 - that is what is warned of
        yield f"--listen {path}: a front with a /tmp of its own (PrivateTmp=) won't see it"


def _loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def of_service(site: Site, python: str, own: bool) -> Iterator[str]:
    """Yield what should be known about the site's service, which `python` runs.

    In a user's `own` manager it runs as that user.
    """
    yield from _unknown("--run-as", "user", site.run_as)
    for group in site.join:
        yield from _unknown("--join", "group", group)
    for address in site.addresses:
        yield from of_protocol(site, address)
    if not own and not site.run_as and site.service_user in _users():
        yield (
            f"this host has a user {site.service_user}: the service will run as that one, "
            f"not as a dynamic user"
        )
    for option, path, what in (
        ("--python", python, "file"),
        ("--chdir", site.chdir, "directory"),
    ):
        if path and not site.home and (hidden := below_home(path)):
            link = "" if hidden == path else f"it leads to {hidden}, and "
            yield (
                f"{option} {path}: {link}the sandbox hides it (ProtectHome=); move it, or give "
                "--home"
            )
        elif path and not os.path.exists(path):
            yield f"{option} {path}: this host has no such {what}"
        elif path.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108 - that is what is warned of
            yield f"{option} {path}: the service has a /tmp of its own (PrivateTmp=), move it"


def of_server(site: Site, python: str) -> Iterator[str]:
    """Yield what should be known about the server of the site, which `python` runs."""
    host = external_servers.SERVERS.get(site.backend.name)
    if host is None:
        if _lacks_the_kit(python):
            yield (
                f"--python {python}: sdactivate is not installed in its virtual environment, where "
                "it serves the site; install the package there as well: "
                f"`{python} -m pip install` with its wheel or checkout"
            )
        return
    # Every package installs a program of its name beside the interpreter
    if os.path.exists(python) and not os.path.exists(external_servers.program(host, python)):
        yield (
            f"--server {host.name}: it does not seem to be installed for {python}; install it "
            f"with `{host.backend.install_command(python)}`"
        )


def _lacks_the_kit(python: str) -> bool:
    """Whether `python` is that of a virtual environment (PEP 405) without the kit; not run."""
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
    """Return whether the site seems to be served by several machines: a balancer asks for it."""
    announced = seconds(site.settings.get("drain_delay", "0"))
    return bool(site.settings.get("ready_path") or announced)


def of_timers(site: Site, commands: Iterable[tuple[str, ...]], once_on: str) -> Iterator[str]:
    """Yield what should be known about timers of a site that several machines serve."""
    if of_several(site) and not once_on:
        for words in commands:
            yield (
                f"--command {words[0]}: a balancer asks for this site (--ready-path, "
                "--drain-delay), and each machine behind it has this timer: name the one that "
                "runs it with --once-on HOST"
            )


def of_uploads(site: Site) -> Iterator[str]:
    """Yield what should be known about files that one of several machines keeps."""
    if of_several(site):
        for path in site.uploads:
            yield (
                f"--media, --protected {path}: a balancer asks for this site, and each machine "
                "behind it has a directory of its own: let all of them share it (NFS, say), or "
                "keep uploads in an object storage"
            )


def of_peers(needs: Iterable[str]) -> Iterator[str]:
    """Yield what --allow-peer costs in sandbox: its `needs`, of `directives.NEEDS`."""
    for need in needs:
        given_up = " and ".join(row.line for row in TABLE if need in row.relaxed)
        yield (
            f"--allow-peer: the service must see {NEEDS[need]}, so {given_up} is left out; "
            f"unit:NAME.service costs nothing on Linux 6.13 and later"
        )
