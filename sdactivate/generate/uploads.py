"""Directories of uploads: the site writes there, its front reads (--media, --protected).

ACLs (acl(5)) give access: they add to a directory's permissions and leave the administrator's as
they are. For files created inside, a default ACL replaces the umask: the service's umask, 0077,
would make each new directory inaccessible to the front.

A dynamic user owns nothing outside its state directory. It writes as the only member of a group of
the site's own; the front's group would let it connect to other sites' sockets.
"""

import re
from collections.abc import Iterator
from hashlib import sha256

from sdactivate.generate import warnings
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import render
from sdactivate.site import Site
from sdactivate.systemd.escape import Escaped


def group(site: Site) -> str:
    """Return the group that lets a dynamic user write uploads; "" if none is needed."""
    if site.run_as or not site.uploads:
        return ""
    name = f"{site.name}-uploads"
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_-]{0,30}", name):
        return name
    return f"uploads-{sha256(site.name.encode()).hexdigest()[:16]}"


def directories(site: Site, target: Target) -> Output:
    """Return NAME-uploads.conf for /etc/tmpfiles.d: each boot creates missing directories."""
    if not site.uploads:
        return Output(())
    reads = site.group if site.group not in ("root", "0") else ""
    text = render(
        "uploads.j2",
        target.comments,
        site=site,
        mode=Escaped("0750" if site.run_as else "0770"),
        owner=site.run_as or "root",
        group=group(site) or "root",
        writes=f"user:{site.run_as}" if site.run_as else f"group:{group(site)}",
        reads=reads,
        only_new=Escaped(":" if target.systemd >= 252 else ""),
    )
    return Output((File(f"{site.name}-uploads.conf", text),), _warnings(site, reads))


def _warnings(site: Site, reads: str) -> Iterator[str]:
    if not reads:
        yield (
            f"only the site can read {site.uploads[0]}: give the front with --front, or its group "
            "with --group"
        )
    yield from warnings.of_uploads(site)


def account(site: Site, target: Target) -> Output:
    """Return NAME-uploads.conf for /etc/sysusers.d: a dynamic user's group, if one is needed."""
    if not (name := group(site)):
        return Output(())
    text = render("uploads-group.j2", target.comments, site=site, group=name)
    return Output((File(f"{site.name}-uploads.conf", text),))
