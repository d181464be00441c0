"""Checks on how a service treats its inherited socket: it binds again, or changes the file."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from sdactivate.doctor import uwsgi_options, variables
from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Hit, Lines
from sdactivate.external_servers import SERVERS
from sdactivate.systemd.unitfile import Entry, Unit, split

SHELLS = ("sh", "bash", "dash", "ash", "zsh")
_COMMANDS_END = re.compile(r"&&|\|\||[;&|\n]")


def commands(entry: Entry, service: Unit) -> list[list[str]]:
    """Return the commands of a line such as ExecStart=, a shell's `-c` script taken apart."""
    words = common.command(entry, service)
    if not words or posixpath.basename(words[0]) not in SHELLS:
        return [words]
    flags = [i for i, word in enumerate(words) if re.fullmatch(r"-[a-z]*c", word)]
    script = words[flags[0] + 1] if flags and len(words) > flags[0] + 1 else ""
    return [split(it.strip()) for it in _COMMANDS_END.split(script)]


def commands_of(service: Unit, *keys: str) -> Iterator[tuple[Entry, list[str]]]:
    """Yield each command of the lines called `keys`, such as ExecStart, with its line."""
    for entry in (it for key in keys for it in service.entries_of(key)):
        for words in commands(entry, service):
            yield entry, words


# -- a server that binds an address itself -------------------------------------------------------


class _Binding(NamedTuple):
    """How a server binds an address if no option names the inherited socket, and the consequence.

    gunicorn and uWSGI are not here: if they are passed sockets, they serve those and bind nothing,
    whatever --bind and --socket are (measured). But uWSGI compares paths as text, so that for it
    /var/run/a.sock and /run/a.sock are different sockets (`_names_it_otherwise`).
    """

    paths: tuple[str, ...]
    """Options for a path."""
    others: tuple[str, ...]
    """Options for an address of any kind, "unix:" before a path."""
    inherits: tuple[str, ...]
    """Beginnings of words that make it serve an inherited socket."""
    own: str = "it deletes the file and creates its own socket there"
    """What it does to the socket unit's path if it is root. Measured."""


_BINDINGS: Mapping[str, _Binding] = {
    "uvicorn": _Binding(("--uds",), ("--host", "--port"), ("--fd",)),
    "hypercorn": _Binding((), ("-b", "--bind"), ("fd://", "fd:", "--bind=fd:", "-bfd:")),
    "daphne": _Binding(
        ("-u", "--unix-socket"), ("-b", "--bind", "-p", "--port"),
        ("--fd", "-e", "--endpoint", "systemd:"),
        "it exits because the address is in use",
    ),
    "waitress": _Binding(("--unix-socket",), ("--listen", "--host", "--port"), ()),
}  # fmt: skip
_INSTEAD = {
    "waitress": "use sdactivate serve --server waitress: waitress-serve can't use an inherited "
    "socket"
}


def binds_itself(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        if common.is_ours(service) or any(it.is_on("Accept") for it in case.sockets):
            continue
        paths = [address.text for socket in case.sockets for address in common.addresses(socket)]
        yield from _names_it_otherwise(service, paths)
        for entry, words in commands_of(service, "ExecStart") if paths else ():
            server = common.server_in(words)
            if (binding := _BINDINGS.get(server)) and (address := bound(words, binding)):
                doing = _doing(binding, address, paths)
                yield Hit(
                    entry,
                    f"{server} does not look for inherited sockets: {doing}",
                    Advice(_INSTEAD.get(server) or _told(server, address)),
                    path=address if address in paths else "",
                )


def _names_it_otherwise(service: Unit, paths: list[str]) -> Iterator[Hit]:
    for named in uwsgi_options.values(service, "socket", "uwsgi-socket", "http-socket"):
        path = common.run_path(common.resolve(named, service))
        if path in paths and common.resolve(named, service) not in paths:
            lines = service.entries_of("ExecStart")
            yield Hit(
                next((it for it in lines if named in it.value), lines[-1]),
                f"uWSGI treats {named} and the inherited {path} as different sockets, and fails "
                "to create the first: bind(): Address already in use",
                Advice(
                    f"remove {named} and its option: uWSGI finds the inherited socket without it"
                ),
                path=path,
            )


def bound(words: list[str], binding: _Binding) -> str:
    """Return the address that a command binds itself, "" if it names none or inherits."""
    if any(word.startswith(binding.inherits) for word in words) and binding.inherits:
        return ""
    found = [value for option, value in options(words) if option in binding.paths]
    found += [value for option, value in options(words) if option in binding.others]
    return common.run_path(found[0].removeprefix("unix:")) if found else ""


def options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each option of a command with its value, written apart or with "=".

    For an option without a value this is the next word.
    """
    for word, after in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        if option.startswith("-"):
            yield option, value if equals else after


def _doing(binding: _Binding, address: str, paths: list[str]) -> str:
    if address in paths:
        return f"at {address} {binding.own}; if its user may not do that, it fails"
    return f"it binds {address} itself, and nothing accepts connections to {', '.join(paths)}"


def _told(name: str, address: str) -> str:
    server = SERVERS[name]
    words = " ".join(server.socket).format(fd=3, index=0, domain="UNIX")
    other = "" if server.program == name else f" of python -m {server.program}"
    return (
        f"use {words}{other} instead of {address}; `sdactivate gen --server {name}` writes the unit"
    )


_FD = re.compile(r"fd://\d+")


def given_twice(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        for entry, words in commands_of(service, "ExecStart") if case.sockets else ():
            binds = [value for option, value in options(words) if option in ("-b", "--bind")]
            given = [value for value in binds if _FD.fullmatch(value)]
            if given and common.server_in(words) == "gunicorn":
                yield Hit(
                    entry,
                    f"gunicorn finds the socket by LISTEN_FDS. With {given[0]} it has the socket "
                    "twice, and exits with [Errno 9] Bad file descriptor. Without LISTEN_FDS it "
                    "deletes the socket's file when it stops",
                    Advice(
                        f"remove {given[0]} and its option: gunicorn finds the inherited socket "
                        "without it"
                    ),
                )


# -- the socket's file ---------------------------------------------------------------------------

_AROUND = ("ExecCondition", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop",
           "ExecStopPost")  # fmt: skip
_CHANGES = ("chmod", "chown", "chgrp", "setfacl")
_TAKES = ("rm", "unlink", "mv", "ln")


def changes_file(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        paths = {address.text for socket in case.sockets for address in common.paths(socket)}
        for entry, words in commands_of(service, *_AROUND):
            program = posixpath.basename((words or [""])[0])
            path = next((it for it in map(common.run_path, words[1:]) if it in paths), "")
            if path and (because := _done(program, path, entry, service, case.sockets)):
                keys = "SocketMode=, SocketUser= and SocketGroup= of the socket unit"
                yield Hit(
                    entry,
                    because,
                    Advice(
                        "remove the command: systemd creates the file, with its owner and mode "
                        f"from {keys}"
                    ),
                    path=path,
                )


def _done(program: str, path: str, entry: Entry, service: Unit, sockets: tuple[Unit, ...]) -> str:
    """Return what a command of the service does to its socket's file, "" for nothing."""
    if program not in (*_CHANGES, *_TAKES):
        return ""
    marks = entry.value[: len(entry.value) - len(entry.value.lstrip("@-:+!|"))]
    user = common.user(service)
    owners = {it.value("SocketUser", "root") for it in sockets}
    may = (
        any(it in marks for it in "+!")
        or service.is_on("PermissionsStartOnly")
        or common.is_root(service)
        or user in owners
    )
    if may and program in _CHANGES:
        keys = "SocketMode=, SocketUser= and SocketGroup="
        return f"it changes {path} each time it runs, whatever {keys} are"
    if may:
        return f"it removes {path}: the socket unit stays active, but no client can connect"
    if "-" in marks:
        return ""  # it fails, which is allowed
    start = ", and so does the start" if entry.key.startswith(("ExecStart", "ExecC")) else ""
    return (
        f"{user} may not change {path}, which belongs to {owners.pop()}: the command fails{start}"
    )


# -- a reload ------------------------------------------------------------------------------------

_ENDS_AT_HUP = {
    "uvicorn": "exits and drops the requests in progress",
    "daphne": "exits and drops the requests in progress",
    "waitress": "exits and drops the requests in progress",
    "uwsgi": "executes itself again without its sockets, and exits",
}
"""What HUP does to a server that does not reload on it. Measured: docs/servers.md."""
_HUP = re.compile(r"(-s|--signal|-n)?[= ]?-?(SIG)?(HUP|1)")


def serves_in_process(service: Unit) -> bool:
    """Return whether a service runs `sdactivate serve` with a server inside that process."""
    return common.is_ours(service) and common.server(service) not in SERVERS


def reload_ends_it(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        server = common.server(service)
        doing = _ENDS_AT_HUP.get(server)
        if doing is None or _has_workers(service):
            continue
        if serves_in_process(service):
            continue  # it reloads
        if server == "uwsgi" and _keeps_its_sockets(case, service):
            continue
        for entry in service.entries_of("ExecReload"):
            if any(map(_sends_hup, commands(entry, service))):
                yield Hit(
                    entry,
                    f"{server} does not reload on HUP: it {doing}",
                    Lines(service.name, "Service", ("ExecReload=",), True),
                )


def _keeps_its_sockets(case: Case, service: Unit) -> bool:
    """Return whether uWSGI finds its sockets by name when it executes itself again (2.0.31)."""
    inherited = [it.text for socket in case.sockets for it in common.addresses(socket)]
    named = uwsgi_options.values(service, "socket", "uwsgi-socket", "http-socket")
    return {common.resolve(it, service) for it in named} >= set(inherited)


def _sends_hup(words: list[str]) -> bool:
    if not words or posixpath.basename(words[0]) not in ("kill", "pkill", "killall"):
        return False
    return any(_HUP.fullmatch(word) for word in words[1:] if not word.startswith("$"))


def _has_workers(service: Unit) -> bool:
    """Return whether uvicorn has several worker processes: their parent replaces them at HUP."""
    for _, words in commands_of(service, "ExecStart"):
        counts = [value for option, value in options(words) if option == "--workers"]
        if common.server_in(words) == "uvicorn" and counts and counts[-1] not in ("1", ""):
            return True
    held = (variables.value(service, it) for it in ("WEB_CONCURRENCY", "UVICORN_WORKERS"))
    return any(it not in ("", "1") for it in held)
