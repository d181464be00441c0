"""Directories and accounts that must exist before the units start: tmpfiles.d(5), sysusers.d(5)."""

import posixpath
import re

from sdactivate.errors import UsageError
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.site import Site
from sdactivate.systemd.escape import Escaped


def tmpfiles(site: Site, target: Target) -> Output:
    """Return NAME.conf for /etc/tmpfiles.d: directories of the sockets and of --writable.

    /run always exists, so a site with the default socket needs no directory, and then there is no
    file. A socket's directory belongs to root, as /run does: a user who can write there can replace
    the socket. An existing directory of --writable is left unchanged, from systemd 252 on: its mode
    and group may let the front read uploads.
    """
    sockets = {posixpath.dirname(address.path) for address in site.addresses if address.path}
    sockets -= {"/run", "/"}
    writable = [
        path for path in site.writable if path not in site.uploads
    ]  # `uploads` creates these
    if not sockets and not (site.run_as and writable):
        return Output(())
    text = render(
        "tmpfiles.j2",
        target.comments,
        site=site,
        sockets=sorted(sockets),
        writable=writable,
        only_new=Escaped(":" if target.systemd >= 252 else ""),
    )
    return Output((File(f"{site.name}.conf", text),))


# Narrower than the grammar of accounts: systemd-sysusers creates only accounts with such names.
_NAME = re.compile("[A-Za-z_][A-Za-z0-9_-]{0,30}")


def sysusers(site: Site, target: Target, *, member: tuple[str, ...] = ()) -> Output:
    """Return NAME.conf for /etc/sysusers.d: the socket's group, its members, the site's user.

    A group of the site's own, with the front as its only member, keeps out other programs that run
    as the front's user (PHP, as Debian packages it).

    Raises UsageError if there is no group or user to create, or if systemd-sysusers can't create
    it.
    """
    group = site.group if site.group not in ("root", "0") else ""
    names = [name for name in (group, site.run_as, *member) if name]
    if not (group or site.run_as):
        raise UsageError("--kind sysusers needs --group or --run-as: the group or user to create")
    if member and not group:
        raise UsageError("--member needs --group: the group to be a member of")
    for name in names:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r}: systemd-sysusers accepts names of at most 31 letters, digits, '-', '_'"
            )
    text = render("sysusers.j2", target.comments, site=site, group=group, members=member)
    note = [
        f"--member {name}: a running process of {name} gets the group only when it is restarted"
        for name in member
    ]
    made = frozenset(name for name in (group, site.run_as) if name)
    return Output((File(f"{site.name}.conf", text),), tuple(note), made)
