"""Private directories: no fix of the doctor gives another user access to them.

Home directories, root's, and those in which systemd keeps the files of dynamic users are closed for
reasons that have nothing to do with a site. If one denies access, the site's file is in the wrong
place. Every fix that gives permissions is made by `grant`.
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
"""Directories that are private with all their contents: file-hierarchy(7), systemd.exec(5)."""
_PEOPLE = range(1000, 60000)
"""The uids of people's accounts: login.defs(5)."""


def grant(argv: tuple[str, ...], path: str, instead: str) -> Fix:
    """Return the fix that gives permissions on `path`: the command `argv`, followed by the path.

    instead: the advice to return if that would open a private directory to others. The fix is never
    safe: a person has to decide who else gets access.
    """
    return Advice(instead) if is_private(path) else Command((*argv, path))


def is_private(path: str) -> bool:
    """Return whether `path`, or its target, is a private directory or is in one.

    The home directory of a person's account is private too, wherever it is. Its contents are not:
    it may be the account that deploys a site.
    """
    names = {os.path.normpath(path), os.path.realpath(path)}
    given = [it.pw_dir for it in pwd.getpwall() if it.pw_uid in _PEOPLE and it.pw_dir]
    homes = {it.rstrip("/") for it in given} | {os.path.realpath(it) for it in given}
    roots = {*_ROOTS, *map(_without_links, _ROOTS)}
    return bool(names & homes) or any(_is_in(name, root) for name in names for root in roots)


def _without_links(root: str) -> str:
    """Return one of the roots with its links resolved: with OSTree /home/* is /var/home/*."""
    fixed, star, rest = root.partition("/*")
    return os.path.realpath(fixed) + star + rest


def _is_in(name: str, root: str) -> bool:
    depth = root.count("/") + 1
    return fnmatch.fnmatchcase("/".join(name.split("/")[:depth]), root)
