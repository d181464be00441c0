"""Fixes that let a front connect to a socket that the service creates itself.

systemd does not control such a socket. Its mode comes from the server or the umask of the process,
its group from the process, and its path from the server's configuration.
"""

from collections.abc import Mapping

from sdactivate.access import words
from sdactivate.access.permissions import SEARCH, Verdict
from sdactivate.doctor.checks import common
from sdactivate.doctor.doors import Door
from sdactivate.doctor.finding import Advice, Command, Fix, Lines
from sdactivate.doctor.host_state import InstalledFront
from sdactivate.doctor.private import grant
from sdactivate.systemd.unitfile import Unit

MODES: Mapping[str, str] = {
    "gunicorn": "set --umask 007 in ExecStart= of {}",
    "uwsgi": "set chmod-socket = 660 in its configuration, or --chmod-socket=660 in ExecStart= of "
    "{}",
    "waitress": "set --unix-socket-perms=660 in ExecStart= of {}",
}
"""Servers that set the mode of their socket whatever the umask is, and their option. Measured."""
BINDS: Mapping[str, str] = {
    "gunicorn": "--bind unix:{}",
    "uwsgi": "socket = {}",
    "uvicorn": "--uds {}",
    "hypercorn": "--bind unix:{}",
    "daphne": "-u {}",
    "waitress": "--unix-socket={}",
}
NOT_TO_JOIN = ("root", "nogroup", "nobody")
"""Groups that no front should join."""
_WRITE_OF_GROUP = 0o020


def opens(service: Unit, door: Door, installed: InstalledFront, verdict: Verdict) -> Fix:
    """Return the fix that lets a front connect to a service's own socket despite `verdict`."""
    node = verdict.node
    assert node is not None
    if node.kind == "directory":
        for made in common.runtime_directories(service):
            if node.path == made:
                return Lines(service.name, "Service", ("RuntimeDirectoryMode=0755",))
        has = words.bits(verdict.has | SEARCH).replace("-", "")
        by_class = {
            "owner": ("chmod", "u+x"),
            "user": ("setfacl", "-m", f"u:{installed.user}:{has}"),
        }
        give = by_class.get(verdict.by, ("setfacl", "-m", f"g:{installed.group}:x"))
        return grant(give, node.path, f"{node.path} is private: {elsewhere(service, door)}")
    group = words.group(node.gid)
    if verdict.by == "others" and node.mode & _WRITE_OF_GROUP:
        if group not in NOT_TO_JOIN and not installed.front.drops_groups:
            return Command(("usermod", "-aG", group, installed.user))
        return Lines(service.name, "Service", (f"Group={installed.group}",))
    is_in = verdict.by == "group"
    given = () if is_in else (f"Group={installed.group}",)
    if option := MODES.get(common.server(service)):
        more = "" if is_in else f", and Group={installed.group} in [Service]"
        return Advice(f"{option.format(service.name)}{more}; then systemctl restart {service.name}")
    # A server that is not known may leave its file behind, and can't bind the path again then
    known = common.server(service) in BINDS
    gone = () if known else (f"ExecStartPre=/usr/bin/rm -f {door.path}",)
    return Lines(service.name, "Service", (*given, "UMask=0007", *gone))


def elsewhere(service: Unit, door: Door) -> str:
    """Return the advice to move a service's own socket, with the lines to change."""
    asker = door.askers[0]
    chroot = asker.installed.packaging.chroot
    inside = f"/{service.prefix}/web.sock"
    path = f"{chroot}{inside}" if chroot else f"/run/{service.prefix}/web.sock"
    bind = BINDS.get(common.server(service), "the path {}").format(path)
    made = (
        f"run install -d -o {common.user(service)} {chroot}/{service.prefix}, set {service.name} "
        f"to create its socket there ({bind})"
        if chroot
        else f"set {service.name} to create its socket in a directory of its own "
        f"(RuntimeDirectory={service.prefix} in [Service], and {bind})"
    )
    front, packaging = asker.installed.front, asker.installed.packaging
    return (
        f"{made}, write {inside if chroot else path} in {asker.upstream.file}, line "
        f"{asker.upstream.line}, then systemctl restart {service.name} and "
        f"systemctl {front.renew} {packaging.unit}"
    )
