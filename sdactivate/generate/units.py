"""Socket and service units of a site: systemd.socket(5), systemd.service(5)."""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from sdactivate import external_servers, peer_rules, protected, sandbox, values
from sdactivate.errors import UsageError
from sdactivate.generate import uploads, warnings
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.peer_rules import kernel_version, parse_rule
from sdactivate.settings import DEFAULTS, resolve, seconds, words
from sdactivate.site import Site
from sdactivate.systemd import escape
from sdactivate.systemd.escape import Escaped
from sdactivate.values import ListenAddress, parse_listen

STOP_MARGIN = 10
"""Seconds between the end of the graceful stop and systemd's SIGKILL."""


WATCHDOG = 120
"""Seconds without a watchdog message after which systemd kills the service."""


MEMORY_MAX = "80%"
"""Memory limit, so that the kernel kills the site and not another process of the machine."""
TASKS_MAX = 1024


class Names(NamedTuple):
    """Names in the units of one site, or of a template's instances."""

    unit: Escaped
    """In other units: mysite, mysite@%i."""
    file: Escaped
    """As a file: mysite, mysite@."""
    own: Escaped
    """In descriptions: mysite, mysite-%i."""
    directory: Escaped
    """The same in a setting that takes a list."""
    user: Escaped
    """The user that the service runs as."""


INSTANCE = "{instance}"
"""The placeholder for the instance's name (%i) in a template's options."""


def socket(site: Site, target: Target) -> Output:
    """Return NAME.socket: systemd creates the sockets with their owner, group and mode.

    Addresses with a descriptor name of their own get a unit each, NAME-DESCRIPTOR.socket.
    """
    return Output(
        tuple(_sockets(site, target, instances=False)), warnings.of_socket(site, target.own)
    )


def service(site: Site, target: Target) -> Output:
    """Return NAME.service: the application on the inherited sockets, in the sandbox.

    Raises UsageError if there is no --app, or for an option that the target's systemd does not
    support.
    """
    told = chain(
        warnings.of_service(site, site.python or sys.executable, target.own),
        warnings.of_server(site, site.python or sys.executable),
        warnings.of_peers(peer_needs(site)),
    )
    return Output((_service(site, target, instances=False),), told)


def template(site: Site, target: Target) -> Output:
    """Return NAME@.socket and NAME@.service: `systemctl enable --now NAME@one.socket`.

    "{instance}" in an option stands for the instance's name. Each instance has a socket, a user
    and directories of its own.

    Raises UsageError if all instances would have the same address.
    """
    if not site.listen:
        site = replace(site, listen=(parse_listen(f"/run/{site.name}-{INSTANCE}.sock"),))
    for address in site.addresses:
        if INSTANCE not in address.host:
            raise UsageError(
                f"--listen '{address}': each instance needs an address of its own, such as "
                f"/run/{site.name}-{INSTANCE}.sock"
            )
    files = [*_sockets(site, target, instances=True), _service(site, target, instances=True)]
    # Every value has been escaped already, and escaping never changes braces.
    return Output(
        tuple(file._replace(text=file.text.replace(INSTANCE, "%i")) for file in files),
        chain(warnings.of_socket(site, target.own), warnings.of_peers(peer_needs(site))),
    )


def _names(site: Site, stem: str, instances: bool) -> Names:
    plain, word, user = escape.plain, escape.word, site.service_user
    if not instances:
        return Names(plain(stem), plain(stem), plain(stem), word(stem), plain(user))
    own = f"{stem}-{INSTANCE}"
    whom = user if site.run_as else f"{user}-{INSTANCE}"
    return Names(plain(f"{stem}@{INSTANCE}"), plain(f"{stem}@"), plain(own), word(own), plain(whom))


def _sockets(site: Site, target: Target, instances: bool) -> Iterator[File]:
    for stem, addresses in site.socket_units.items():
        names = _names(site, stem, instances)
        text = render(
            "socket.j2",
            target.comments,
            site=site,
            names=names,
            service=None if stem == site.name else _names(site, site.name, instances).unit,
            mode=Escaped(f"{site.mode:04o}"),
            addresses=_listen(site, addresses, target),
            own=target.own,
            descriptor=addresses[0].name or site.name,
            inet=any(address.family in ("inet", "inet6") for address in addresses),
            refuse_fds=target.systemd >= 258
            and any(address.family in ("unix", "abstract") for address in addresses),
        )
        yield File(f"{names.file}.socket", text)


def _listen(site: Site, addresses: list[ListenAddress], target: Target) -> list[Escaped]:
    if target.own and not site.listen:
        return [Escaped(f"%t/{escape.plain(site.name)}.sock")]
    return [escape.plain(str(address)) for address in addresses]


def _service(site: Site, target: Target, instances: bool) -> File:
    if not site.app:
        raise UsageError("--kind service needs --app, such as --app mysite.wsgi:application")
    names = _names(site, site.name, instances)
    python = site.python or sys.executable
    start = [python, "-m", "sdactivate", "serve", site.app]
    if host := external_servers.SERVERS.get(site.backend.name):
        families = [address.family for address in site.addresses]
        start = external_servers.command(
            host, python, site.app, resolve({}, site.settings, {}), families
        )
    else:
        site.backend.interface(site.app)
    text = render(
        "service.j2",
        target.comments,
        site=site,
        host=host,
        why=[Escaped(line) for line in host.why] if host else [],
        sockets=[_names(site, stem, instances).unit for stem in site.socket_units],
        start=escape.command(start),
        reload=escape.command([python, "-m", "sdactivate", "reload"]),
        signal=Escaped(host.reload) if host else None,
        stop=stop_timeout(site),
        watchdog=WATCHDOG,
        version=target.systemd,
        # An external server is configured by its command line and does not read our settings
        refreshes=_refreshes(site, target),
        **surroundings(
            replace(site, settings={}) if host else _told(site, target),
            target,
            names,
            listens=bool(host),
        ),
    )
    return File(f"{names.file}.service", text)


def _refreshes(site: Site, target: Target) -> bool:
    """Return whether a reload reads the site's credentials again: RefreshOnReload=, systemd 260."""
    return target.systemd >= 260 and bool(site.credential or site.encrypted_credential)


def _told(site: Site, target: Target) -> Site:
    """Return the site with the setting for files that a reload does not read again."""
    files = [path.removeprefix("-") for path in site.env_file]
    if not _refreshes(site, target):
        files += [path for _, path in (*site.credential, *site.encrypted_credential)]
    if not files or "read_at_start" in site.settings:
        return site
    import shlex

    return replace(site, settings={**site.settings, "read_at_start": shlex.join(files)})


def surroundings(
    site: Site, target: Target, names: Names | None = None, *, listens: bool
) -> dict[str, Any]:
    """Return the values that every service of the site shares: environment, directories, sandbox.

    These are the values of the template surroundings.j2. `listens`: the program creates listening
    sockets itself, or calls listen(2) on inherited ones. Raises UsageError for an option that the
    target's systemd does not support.
    """
    for option, given, since in (
        ("--credential", site.credential, 247),
        ("--encrypted-credential", site.encrypted_credential, 250),
    ):
        if given and target.systemd < since:
            raise UsageError(
                f"{option} needs systemd {since}; the target has {target.systemd}: leave it out, "
                "or give another --systemd"
            )
    names = names or _names(site, site.name, instances=False)
    wanted = _needs(site, target) | ({"listens"} if listens else set())
    return {
        "names": names,
        "environment": environment(site),
        "caches": _caches(site, target, names),
        "memory_max": site.memory_max or MEMORY_MAX,
        "tasks_max": site.tasks_max or tasks_max(site),
        "groups": [*site.join, *_uploads_group(site, target)],
        "written": _written(site, names) if target.systemd >= 248 and not site.jit else None,
        "credentials": [("LoadCredential", *pair) for pair in site.credential]
        + [("LoadCredentialEncrypted", *pair) for pair in site.encrypted_credential],
        "topics": _topics(frozenset(wanted), target.systemd),
        "own": target.own,
    }


def _uploads_group(site: Site, target: Target) -> list[str]:
    """Return the group that lets a dynamic user write uploads, if it needs one."""
    name = uploads.group(site)
    return [name] if name and not target.own else []


@cache
def _topics(needs: frozenset[str], version: int) -> list[tuple[Escaped, Escaped]]:
    """Return the sandbox as comments and blocks of lines, cached because many sites share it."""
    rows = sandbox.lines(needs, version)
    blocks = (
        (comment, [row.line for row in rows if row.topic == topic])
        for topic, comment in sandbox.TOPICS.items()
    )
    return [(Escaped(comment), Escaped("\n".join(lines))) for comment, lines in blocks if lines]


def _written(site: Site, names: Names) -> Escaped | None:
    """Return the site's paths for NoExecPaths=: it can't execute what it can write.

    A directory that contains the interpreter or the code is left out, since shared libraries in it
    are executed.
    """
    own = {"/var/lib": "%S", "/var/cache": "%C"}
    paths = [
        (f"{directory}/{site.name}", Escaped(f"-{specifier}/{names.directory}"))
        for directory, specifier in own.items()
    ]
    paths += [
        (path, escape.word(f"-{path}")) for path in dict.fromkeys((*site.writable, *site.uploads))
    ]
    executed = [path for path in (site.python, site.chdir) if path]
    kept = [
        text
        for path, text in paths
        if not any(f"{one}/".startswith(f"{path}/") for one in executed)
    ]
    return Escaped(" ".join(kept)) if kept else None


def environment(site: Site) -> list[str]:
    """Return the service's environment as NAME=VALUE, with the runtime's settings last.

    In systemd the later of two lines wins, so nothing overrides the settings. Python's user site
    directory is turned off: it is in the home directory (with --run-as the state directory, which
    the site can write), and its code would run at each start (the site module, usercustomize).
    """
    variables = {"PYTHONNOUSERSITE": "1", **dict(site.env)}
    if site.protected:
        variables[protected.VARIABLE] = str(site.protected)
    return [f"{name}={value}" for name, value in variables.items()] + [
        f"SDACTIVATE_{name.upper()}={text}" for name, text in site.settings.items()
    ]


def _caches(site: Site, target: Target, names: Names) -> list[Escaped]:
    """Return variables that make libraries keep their own files in CacheDirectory=.

    A dynamic user's home directory is /, which is not writable. Other users have a home directory
    of their own, with files such as .pgpass, which stays in use. Variables that the site sets
    itself are not overridden.
    """
    variables = {"HOME": "", "XDG_CACHE_HOME": "", "MPLCONFIGDIR": "/matplotlib"}
    if site.run_as or target.own:
        del variables["HOME"]
    given = {name for name, _ in site.env}
    inner = names.directory.strip('"')
    quote = '"' if inner != names.directory else ""
    return [
        Escaped(f"Environment={quote}{name}=%C/{inner}{below}{quote}")
        for name, below in variables.items()
        if name not in given
    ]


def tasks_max(site: Site) -> str:
    """Return a limit on processes and threads that an ordinary site stays well below: TasksMax=."""
    workers, threads = (int(site.settings.get(name, 1)) for name in ("workers", "threads"))
    return str(max(TASKS_MAX, 4 * workers * threads))


def _needs(site: Site, target: Target) -> set[str]:
    wanted = needs(site)
    if not target.own:
        return wanted
    if site.run_as:
        raise UsageError(
            "--run-as: a user's own manager runs everything as that user; leave it out"
        )
    if site.join:
        raise UsageError(
            f"--join {site.join[0]}: a user's own manager can't put a service into other groups; "
            "become a member yourself: usermod -aG"
        )
    if "peer-ids" in wanted:
        raise UsageError(
            "--allow-peer: a user's own manager has no sandbox without PrivateUsers=, which "
            "hides users and groups; unit:NAME.service does without on Linux 6.13 and later"
        )
    return wanted | {"own"}


def needs(site: Site) -> set[str]:
    """Return the site's needs, of `sandbox.NEEDS`; --allow-peer's depend on this host's kernel."""
    asked = {
        "network": site.network is True,
        "network-local": site.network == values.LOCAL,
        "jit": site.jit,
        "home": site.home,
        "device": bool(site.device),
        "control": site.control_sockets,
        "proc": site.proc,
        "run-as": bool(site.run_as),
    }
    return {need for need, wanted in asked.items() if wanted}.union(peer_needs(site))


def peer_needs(site: Site) -> tuple[str, ...]:
    """Return the needs of --allow-peer, so that it can be checked on this host's kernel."""
    rules = [parse_rule(text) for text in words(site.settings.get("allow_peer", ""))]
    return peer_rules.needs(rules, kernel_version(os.uname().release))


def stop_timeout(site: Site) -> int:
    """Return the seconds for TimeoutStopSec=: the time for accepted requests, and a margin."""
    allowed = 0.0
    for name in ("drain_delay", "graceful_timeout"):
        said = site.settings.get(name)
        allowed += seconds(said) if said else getattr(DEFAULTS, name)
    return int(-(-allowed // 1)) + STOP_MARGIN
