"""Checks on dynamic users: their names, their groups, and the files that they have to write.

DynamicUser= gives a service a user while it runs (systemd.exec(5)). Its number is one of 61184 to
65519, and another service may get the same number later. So the user and the group do not exist
before the service starts. Their names resolve only where NSS queries systemd (nss-systemd(8)). The
user permanently owns only the directories that systemd hands over to it at each start.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sdactivate.access import words
from sdactivate.access.permissions import SEARCH, WRITE
from sdactivate.doctor.checks import common, reach
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit, Lines, restart
from sdactivate.doctor.host_state import HostState
from sdactivate.systemd.unitfile import Unit, split

NUMBERS = range(61184, 65520)
"""The numbers of dynamic users: UIDS.md of systemd, "Special Distributions UID ranges"."""
_LIBRARIES = ("usr/lib*/libnss_systemd.so.2", "usr/lib*/*/libnss_systemd.so.2")
# What programs log if a user has no name: Python's pwd, coreutils, OpenSSH, libpq
_NAMELESS = re.compile(
    r"uid not found: (\d+)|cannot find name for user ID (\d+)|No user exists for uid (\d+)|"
    r"local user with ID (\d+) does not exist"
)
_MOST_FILES = 200
"""How many files below a directory are checked for write access at most."""


def group_not_there(case: Case) -> Iterator[Hit]:
    for service in common.services(case.service):
        if not common.is_dynamic(service):
            continue
        user = common.user(service)
        for socket in case.sockets:
            entry = socket.entry("SocketGroup")
            if entry is None or not common.paths(socket):
                continue
            if common.resolve(entry.value, socket) == user:
                yield Hit(
                    entry,
                    f"{user} is the group of a dynamic user, which doesn't exist yet when the "
                    f"socket is created. If a group of that name is created, {service.name} fails "
                    "instead",
                    Lines(socket.name, "Socket", (f"SocketGroup={common.front_group(case)}",)),
                )


def without_name(case: Case) -> Iterator[Hit]:
    host = case.running
    for service in common.services(case.service):
        if not common.is_dynamic(service) or "@." in service.name:
            continue
        said = [line for line in host.said(service.name) if _number(line) in NUMBERS]
        if said:
            times = common.times(len(said))
            yield Hit(
                service.name,
                f"{service.name} runs as a dynamic user, which has no name on this host. Looking "
                f"up that name failed {times} in the last hour. The last: {said[-1].strip()}",
                named(),
                then=str(restart(service.name)),
            )


def _number(line: str) -> int:
    found = _NAMELESS.search(line)
    return int(next(filter(None, found.groups()))) if found else -1


def named(root: Path = Path("/")) -> Fix:
    """Return the fix that gives dynamic users names on the system at `root`: nsswitch.conf(5)."""
    if not any(found for pattern in _LIBRARIES for found in root.glob(pattern)):
        return Command(("apt-get", "install", "libnss-systemd"))
    try:
        text = (root / "etc/nsswitch.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    lines = re.findall(r"^(?:passwd|group):.*$", text, re.MULTILINE)
    if len(lines) == 2 and not any("systemd" in line.split() for line in lines):
        argv = ("sed", "-i", "-E", "s/^(passwd|group):.*/& systemd/", "/etc/nsswitch.conf")
        return Command(argv)
    return Advice(
        "add systemd to the lines passwd: and group: of /etc/nsswitch.conf, or give the service a "
        "fixed user (User=, DynamicUser=no)"
    )


def writes_elsewhere(case: Case) -> Iterator[Hit]:
    host = case.running
    for service in common.services(case.service):
        if not common.is_dynamic(service) or "@." in service.name:
            continue
        own = reach.own_directories(service)
        for entry in service.entries_of("ReadWritePaths"):
            for word in split(entry.value):
                path = common.resolve(word.lstrip("-+"), service)
                if common.under(path, *own) or not os.path.isdir(path):
                    continue
                if because := _not_its_own(host, service, path):
                    yield Hit(entry, because, _elsewhere(service, path), path=path)


def _not_its_own(host: HostState, service: Unit, path: str) -> str:
    """Return why a dynamic user should not write to a directory; "" if it may, or if unknown."""
    verdict = reach.refusal(host, service, path, WRITE | SEARCH)
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return ""
    if owner in NUMBERS:
        if verdict is None and any(service.words("SupplementaryGroups")):
            return ""  # a group may give it access: then the owner does not matter
        return (
            f"{path} belongs to a dynamic user ({owner}). {service.name} has that number only "
            "while it runs, and another service may get it next"
        )
    if verdict is None or _main_is_unknown(host, service) or _writes_below(host, service, path):
        return ""
    return f"{common.user(service)} can't write to {path}: {words.because(verdict)}"


def _main_is_unknown(host: HostState, service: Unit) -> bool:
    """Return whether its groups are unknown: it isn't running and has SupplementaryGroups=."""
    runs = host.property(service.name, "ActiveState") == "active"
    return not runs and bool(service.words("SupplementaryGroups"))


def _writes_below(host: HostState, service: Unit, path: str) -> bool:
    """Return whether the service can write to something in a directory, among the first files."""
    looked = 0
    for directory, _, files in os.walk(path):
        for place in (directory, *(os.path.join(directory, name) for name in files)):
            looked += 1
            if looked > _MOST_FILES:
                return True  # unknown
            if place != path and reach.refusal(host, service, place, WRITE) is None:
                return True
    return False


def _elsewhere(service: Unit, path: str) -> Fix:
    name = service.prefix
    return Advice(
        f"move the files in {path} to the service's state directory (StateDirectory={name} is "
        f"/var/lib/{name}); or give write permission to a group that the service is in (chgrp, "
        "chmod g+ws, SupplementaryGroups=); or give the service a fixed user"
    )
