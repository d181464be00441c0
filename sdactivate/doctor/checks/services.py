"""Checks on the text of a service unit."""

import posixpath
import re
from collections.abc import Iterator

from sdactivate.access.permissions import SEARCH
from sdactivate.doctor import uwsgi_options
from sdactivate.doctor.checks import common, reach
from sdactivate.doctor.checks.handling import commands, options
from sdactivate.doctor.finding import Advice, Case, Hit, Lines
from sdactivate.external_servers import SERVERS
from sdactivate.sandbox import HOMES, below_home
from sdactivate.systemd.unitfile import Entry, Unit, split

_KEPT = ("yes", "restart", "true", "1", "on")
# Measured: which of these start the program as their child. `sh` is dash here, which forks even for
# a single command; bash executes the last command of a list without a fork. poetry, pipenv, env,
# nice, setsid, nohup, setpriv, chrt, prlimit and stdbuf execute the program without a fork.
_FORKING_SHELLS = ("sh", "dash", "busybox")
_BASH_STAYS = re.compile(r"(?<!\|)\|(?!\|)|(?<!&)&(?!&)|\b(done|fi|esac)\b")
_FORKS = {
    ("uv", "run"),
    ("pdm", "run"),
    ("sudo", ""),
    ("su", ""),
    ("runuser", ""),
    ("script", ""),
    ("flock", ""),
    ("timeout", ""),
    ("strace", ""),
}


# Values that no web application's unit has: it does one thing and exits, uses a terminal or the
# bus, or is needed before the system is up. Most of a distribution's root units have one.
_NO_SERVER = {
    ("Unit", "DefaultDependencies"): "no|false|off|0",
    ("Service", "Type"): "oneshot|dbus|idle",
    ("Service", "BusName"): ".+",
    ("Service", "StandardInput"): "tty.*",
}
# Servers that need root to start, and drop its rights for all requests
_DROP_ROOT = re.compile(r"nginx|apache2|apachectl|httpd|lighttpd|haproxy|cherokee|php-fpm[\d.]*")


def socket_not_required(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        named = {
            word
            for key in ("Requires", "BindsTo", "Requisite")
            for word in service.names(key, "Unit")
        } | set(service.names("Sockets"))
        named = {common.resolve(word, service) for word in named}
        for socket in case.sockets:
            # With Accept=yes it can't require it; without connections there are no requests.
            if socket.is_on("Accept") or not common.addresses(socket):
                continue
            # A template's own socket is that of the same instance.
            name = socket.name.replace("@.", "@%i.")
            if name not in named:
                yield Hit(
                    service,
                    f"the service can be started without {name}. It then has no socket to serve",
                    Lines(
                        service.name,
                        "Unit",
                        (f"Requires={name}", f"After={name}"),
                        True,
                    ),
                )


def runtime_directory(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        kept = service.value("RuntimeDirectoryPreserve", "no").lower() in _KEPT
        if kept and common.is_root(service):
            continue  # it still belongs to root
        for entry in service.entries_of("RuntimeDirectory"):
            for word in split(entry.value):
                name = common.resolve(word, service).partition(":")[0]
                made = posixpath.normpath(f"/run/{name}")
                for socket in case.sockets:
                    for address in common.paths(socket):
                        if common.under(posixpath.dirname(address.text), made):
                            yield _eaten(entry, service, address.text, made, kept)


def _eaten(entry: Entry, service: Unit, path: str, made: str, kept: bool) -> Hit:
    if kept:
        how = (
            f"when the service starts, systemd gives {made} to the service's user, who can then "
            f"replace {path}"
        )
    else:
        how = (
            f"systemd removes {made} and {path} when the service stops: the socket unit stays "
            "active, but no client can connect"
        )
    return Hit(
        entry,
        how,
        Advice(
            f"move the socket out of {made}: set ListenStream={common.usual_path(service)} in the "
            "socket unit, and the same path in the front's configuration"
        ),
        path=path,
    )


def forks(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        if not case.sockets:
            continue
        for entry in service.entries_of("ExecStart"):
            if wrapper := forking_wrapper(common.command(entry, service)):
                yield Hit(
                    entry,
                    f"{wrapper} starts the program as its child, but LISTEN_PID names the parent: "
                    "the program does not use the socket",
                    Advice(
                        "start the interpreter directly (ExecStart=/path/to/.venv/bin/python -m "
                        "sdactivate serve …), or use `exec` in the wrapper"
                    ),
                )
            for words in commands(entry, service):
                if option := leaves_its_parent(words):
                    yield Hit(
                        entry,
                        f"with {option} the server forks and its parent exits, but LISTEN_PID "
                        "names the parent: the server does not use the socket, and no client "
                        "gets an answer",
                        Advice(f"remove {option}: systemd runs the server in the background"),
                    )
        kind = service.entry("Type")
        if kind and kind.value == "forking":
            yield Hit(
                kind,
                "the program forks and its parent exits, but LISTEN_PID names the parent: the "
                "program does not use the socket",
                Advice(
                    "run it in the foreground: with Type=notify if it supports that (sdactivate "
                    "serve does), else with Type=exec"
                ),
            )


def forking_wrapper(argv: list[str]) -> str:
    """Return the part of a command that runs the program as its child, "" if there is none."""
    while argv and posixpath.basename(argv[0]) in ("env", "nice", "setsid", "chrt", "ionice"):
        argv = argv[1:]
        while argv and (argv[0].startswith("-") or "=" in argv[0]):
            argv = argv[1:]
    if not argv:
        return ""
    program = posixpath.basename(argv[0])
    if program in (*_FORKING_SHELLS, "bash"):
        flags = [i for i, word in enumerate(argv) if word.startswith("-") and "c" in word]
        script = argv[flags[0] + 1] if flags and len(argv) > flags[0] + 1 else ""
        stays = program != "bash" or _BASH_STAYS.search(script)
        return f"{program} -c" if script and stays and "exec " not in script else ""
    for name, verb in _FORKS:
        if program == name and (not verb or verb in argv[1:]):
            return f"{name} {verb}".strip()
    return ""


_DAEMONS = {"gunicorn": ("-D", "--daemon"), "uwsgi": ("-d", "--daemonize", "--daemonize2")}


def leaves_its_parent(words: list[str]) -> str:
    """Return the option that makes a server fork into the background, "" for none. Measured."""
    known = _DAEMONS.get(common.server_in(words), ())
    return next((option for option, _ in options(words) if option in known), "")


def never_ready(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        kind = service.entry("Type")
        server = SERVERS.get(common.server(service))
        if kind and kind.value in ("notify", "notify-reload") and server and not server.notifies:
            yield Hit(
                kind,
                f"{server.name} never tells systemd that it is ready: the start waits until "
                "TimeoutStartSec= has passed, then fails",
                Lines(service.name, "Service", ("Type=exec",), True),
            )


def root(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        if not common.is_root(service) or _needs_root(service):
            continue
        entry = service.entry("User")
        said = (
            "User=root"
            if entry
            else "neither User= nor DynamicUser= is set, so the service runs as root"
        )
        yield Hit(
            entry or service,
            f"{said}: an attacker who takes over the application takes over the host",
            Lines(
                service.name,
                "Service",
                ("User=", "DynamicUser=yes") if entry else ("DynamicUser=yes",),
            ),
        )


def _needs_root(service: Unit) -> bool:
    """Return whether it is not a web application, or a server that drops root's rights itself."""
    values = ((service.value(key, section=place), odd) for (place, key), odd in _NO_SERVER.items())
    if any(re.fullmatch(odd, value) for value, odd in values):
        return True
    commands = [common.command(it, service) for it in service.entries_of("ExecStart")]
    if any(_DROP_ROOT.fullmatch(posixpath.basename(argv[0])) for argv in commands if argv):
        return True
    # Python servers that switch to another user, or start processes that do
    if common.server(service) == "gunicorn":
        words = {option for argv in commands for option, _ in options(argv)}
        return bool(words & {"-u", "--user"})
    return bool(uwsgi_options.values(service, "uid", "emperor"))


def ip_lists(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        # Deny=any alone concerns the application's own connections: a server is not meant to refuse
        # every client. Addresses that are allowed or denied by name concern its clients too.
        denied = [it for it in service.entries_of("IPAddressDeny") if it.value != "any"]
        entry = service.entry("IPAddressAllow") or (denied[-1] if denied else None)
        if entry and entry.value == "localhost" and common.is_ours(service):
            continue  # --network local: this also concerns the application's own connections
        for socket in case.sockets:
            keys = ("IPAddressAllow", "IPAddressDeny")
            has_own = any(socket.entry(key) for key in keys)
            network = [it for it in common.addresses(socket) if it.is_network]
            if entry and network and not has_own:
                yield Hit(
                    entry,
                    f"the list applies to sockets that {service.name} creates. {network[0].text} "
                    "is inherited",
                    Lines(
                        socket.name,
                        "Socket",
                        tuple(str(it) for key in keys for it in service.entries_of(key)),
                    ),
                )


def owned_by_application(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        if common.is_root(service):
            continue
        user = common.user(service)
        for socket in case.sockets:
            entry = socket.entry("SocketUser")
            if entry is None or not common.paths(socket):
                continue
            if common.resolve(entry.value, socket) != user:
                continue
            if common.is_dynamic(service):
                yield Hit(
                    entry,
                    f"{user} is a dynamic user, which doesn't exist yet when the socket is "
                    "created: the socket unit fails",
                    Lines(socket.name, "Socket", ("SocketUser=root",), True),
                )
            else:
                yield Hit(
                    entry,
                    f"{user} is the application's own user. As the owner it can open the socket "
                    "to everyone (chmod)",
                    Lines(socket.name, "Socket", ("SocketUser=root",), True),
                )


def hidden_home(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        home = service.value("ProtectHome").lower()
        hides = home in ("yes", "true", "on", "1", "tmpfs")
        user = common.user(service)
        for entry in [*service.entries_of("ExecStart"), *service.entries_of("WorkingDirectory")]:
            words = common.command(entry, service)
            for word in words:
                path = word
                if case.host and word.startswith("/"):  # its links are this host's
                    path = below_home(word)
                if not common.under(path, *HOMES) or common.under(path, *reach.bound(service)):
                    continue
                if case.host and reach.serves_from(case.host, service, word, SEARCH):
                    continue  # by mounts of its own
                reason = _hidden(path, user, hides, common.is_dynamic(service))
                if reason:
                    status = "203/EXEC" if entry.key == "ExecStart" else "200/CHDIR"
                    link = "" if path == word else f" leads to {path}"
                    yield Hit(
                        entry,
                        f"{word}{link}: {reason} (status={status})",
                        Advice(
                            "move the application and its virtual environment to "
                            f"/srv/{service.prefix} or /opt/{service.prefix}"
                        ),
                        path=path,
                    )
                    break


def _hidden(path: str, user: str, hides: bool, dynamic: bool) -> str:
    if hides:
        return "ProtectHome= hides it from the service"
    if dynamic:
        return "a dynamic user can't read it: it is not in any group and owns nothing there"
    if common.under(path, "/root") and user not in ("root", "0"):
        return f"{user} can't search /root"
    return ""
