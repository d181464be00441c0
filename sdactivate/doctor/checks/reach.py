"""Which paths a service can access: checked for its running process, otherwise for its account.

A running service can read its program, even if the path looks closed from outside. Its mount
namespace gives it bind mounts, and directories that are closed to its user (/var/lib/private).
"""

import posixpath

from sdactivate.access.accounts import STRANGER
from sdactivate.access.permissions import Identity, Verdict, judge
from sdactivate.access.processes import Process
from sdactivate.doctor.checks import common
from sdactivate.doctor.host_state import HostState
from sdactivate.systemd.unitfile import Unit

_OWN = {
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
    "RuntimeDirectory": "/run",
    "ConfigurationDirectory": "/etc",
}
"""Directories that systemd creates for a service, which may use them: systemd.exec(5)."""


def refusal(host: HostState, service: Unit, path: str, need: int) -> Verdict | None:
    """Return the verdict that denies a service access to `path`.

    None if access is allowed or can't be determined. need: the permission of access.permissions
    that is needed on the path's target.
    """
    if process := _main(host, service):
        verdict = judge(host.way(path, process.root, need), process.identity)
        return None if verdict.allowed else verdict
    if common.under(path, *own_directories(service), *bound(service)):
        return None
    user = common.user(service)
    # A dynamic user doesn't exist while the service is down, and looking up its name queries
    # systemd each time
    if common.is_dynamic(service) and user not in host.machine.accounts:
        identity: Identity | None = STRANGER
    else:
        identity = host.machine.account(user)
    if identity is None:
        return None
    verdict = judge(host.way(path, need=need), identity)
    return None if verdict.allowed or identity.override else verdict


def serves_from(host: HostState, service: Unit, path: str, need: int) -> bool:
    """Return whether the service is running and its process can access `path`."""
    process = _main(host, service)
    if process is None:
        return False
    return judge(host.way(path, process.root, need), process.identity).allowed


def _main(host: HostState, service: Unit) -> Process | None:
    """Return the main process of a service that has started."""
    its = {str(it.pid): it for it in host.machine.processes_of(service.name)}
    if not its or host.property(service.name, "ActiveState") != "active":
        return None
    return its.get(host.property(service.name, "MainPID"))


def own_directories(service: Unit) -> list[str]:
    """Return the directories that systemd creates for a service, also for a dynamic user."""
    return [
        posixpath.join(base, *private, common.resolve(word, service).partition(":")[0])
        for key, base in _OWN.items()
        for word in service.words(key)
        for private in ((), ("private",))
    ]


def bound(service: Unit) -> list[str]:
    """Return the paths of a service's bind mounts: BindPaths= and BindReadOnlyPaths=."""
    words = [*service.words("BindReadOnlyPaths"), *service.words("BindPaths")]
    parts = (common.resolve(word, service).removeprefix("-").split(":") for word in words)
    return [(*part, part[0])[1] for part in parts]
