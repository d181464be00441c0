"""Directories that are private: no fix of the doctor's lets anybody else into them.

What lies in a home directory, in root's, or where systemd keeps the files of dynamic users, is
closed for a reason that has nothing to do with a site. Where such a directory refuses, what is
wrong is where the site's file lies. Every fix that gives permissions is made by `grant`.
"""

import fnmatch
import os
import pwd

from sdactivate.doctor.finding import Advice, Command, Fix

_ROOTS = (
    *("/root", "/home/*", "/run/user/*", "/run/credentials"),
    *("/var/lib/private", "/var/cache/private", "/var/log/private", "/run/private"),
    *("/etc/ssl/private", "/etc/credstore", "/etc/credstore.encrypted"),
)
"""Private themselves, with all that is in them: file-hierarchy(7), systemd.exec(5)."""
_PEOPLE = range(1000, 60000)
"""The uids of people's accounts: login.defs(5)."""


def grant(argv: tuple[str, ...], path: str, instead: str) -> Fix:
    """Return the fix that gives permissions on `path`: the command `argv` with the path after it.

    instead: what is advised where that would let others into a private directory. It is never safe:
    whom else it lets in is for people to say.
    """
    return Advice(instead) if is_private(path) else Command((*argv, path))


def is_private(path: str) -> bool:
    """Return whether `path`, or where its links lead, is a private directory or lies in one.

    So is the home directory of a person's account wherever it is, but not what lies in it: it may
    be that of the account that a site is deployed with.
    """
    names = {os.path.normpath(path), os.path.realpath(path)}
    given = [it.pw_dir for it in pwd.getpwall() if it.pw_uid in _PEOPLE and it.pw_dir]
    homes = {it.rstrip("/") for it in given} | {os.path.realpath(it) for it in given}
    roots = {*_ROOTS, *map(_without_links, _ROOTS)}
    return bool(names & homes) or any(_is_in(name, root) for name in names for root in roots)


def _without_links(root: str) -> str:
    """Return one of the roots where it lies: with OSTree /home/* is /var/home/*."""
    fixed, star, rest = root.partition("/*")
    return os.path.realpath(fixed) + star + rest


def _is_in(name: str, root: str) -> bool:
    depth = root.count("/") + 1
    return fnmatch.fnmatchcase("/".join(name.split("/")[:depth]), root)
