"""Accounts as identities (user, groups), and which of this host's accounts to check."""

import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sdactivate.access.permissions import Identity
from sdactivate.access.processes import Process
from sdactivate.access.words import user
from sdactivate.errors import UsageError
from sdactivate.fronts import FRONTS, Front, Packaging, distribution

# The directories of unit files: systemd.unit(5), "Unit File Load Path".
UNIT_PATH = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)

_NOBODYS = 0xFFFFFFFD  # no account has it; -1 and -2 have a meaning to the kernel and to NFS
STRANGER = Identity(_NOBODYS, _NOBODYS)
"""A user that owns nothing and is in no group: a dynamic user that doesn't exist yet."""


class Person(NamedTuple):
    """One account to check, and why."""

    name: str
    why: str
    identity: Identity


def account(name: str, only: Iterable[str] | None = None) -> Identity:
    """Return the identity that a login or User= would give: the account's, with its groups.

    `name` is a user's name or number. `only` names the groups to use instead of the account's
    supplementary ones. Raises UsageError if there is no such user or group.
    """
    try:
        entry = pwd.getpwuid(int(name)) if _is_number(name) else pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: not a valid name, such as one with a NUL
        raise UsageError(f"{name!r}: there is no such user on this host") from None
    groups = (
        os.getgrouplist(entry.pw_name, entry.pw_gid)
        if only is None
        else [_gid(group) for group in only]
    )
    powers = entry.pw_uid == 0
    return Identity(entry.pw_uid, entry.pw_gid, frozenset(groups) - {entry.pw_gid}, powers, powers)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _gid(name: str) -> int:
    try:
        return grp.getgrgid(int(name)).gr_gid if _is_number(name) else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise UsageError(f"{name!r}: there is no such group on this host") from None


def asked(text: str) -> Person:
    """Parse `--as TEXT`: USER, USER:GROUP,… (these groups instead of its own) or :GROUP.

    :GROUP means an unrelated user who is only in this group. Raises UsageError as `account` does.
    """
    name, colon, groups = text.partition(":")
    if not colon:
        return Person(name, "", account(name))
    wanted = [group for group in groups.split(",") if group]
    if name:
        return Person(text, "", account(name, wanted))
    if not wanted:
        raise UsageError(f"{text!r}: not USER, USER:GROUP,… or :GROUP")
    gids = [_gid(group) for group in wanted]
    return Person(text, "anyone in this group", Identity(_NOBODYS, gids[0], frozenset(gids[1:])))


def fronts() -> Iterator[tuple[Front, Packaging]]:
    """Yield the fronts installed on this host, with the packaging of its distribution."""
    family = distribution()
    for front in FRONTS.values():
        packaging = front.packaging.get(family)
        if packaging and any(Path(directory, packaging.unit).exists() for directory in UNIT_PATH):
            yield front, packaging


def of_interest(processes: Iterable[Process], site_user: str = "") -> list[Person]:
    """Return the accounts to check by default.

    These are the users of the fronts found here, the site's own user, `nobody`, and every other
    account that a process runs as. A user id without an account is only listed among the processes.
    """
    people: dict[str, Person] = {}

    def add(name: str, why: str, *, alone: bool = False) -> None:
        if name and name not in people:
            try:
                people[name] = Person(name, why, account(name, [] if alone else None))
            except UsageError:
                return

    processes = list(processes)
    units = {it.unit for it in processes}
    # Fronts that run come first: on Debian nginx's and Apache's users are the same
    for front, packaging in sorted(fronts(), key=lambda found: found[1].unit not in units):
        members = [it.identity for it in processes if it.unit == packaging.unit]
        running = dict.fromkeys(user(it.uid) for it in members if not it.override)
        for name in running or (packaging.user,):
            add(name, f"{front.title}'s user", alone=front.drops_groups)
    add(site_user, "the site's own user")
    if site_user and site_user not in people:  # dynamic, and its service isn't running
        people[site_user] = Person(site_user, "the site's own user", STRANGER)
    add("nobody", "no rights of its own")
    for uid in sorted({process.identity.uid for process in processes}):
        name = user(uid)
        if name != str(uid):
            add(name, "has running processes")
    return list(people.values())
