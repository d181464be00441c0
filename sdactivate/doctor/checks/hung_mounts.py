"""Checks on the running system: mounts that do not answer, if a deployment uses them."""

import contextlib
import os
import re
from collections.abc import Iterator

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.static_files import served_by_fronts
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.mounts import Mount

_NAMED = re.compile(r"/[^\s\"':,;=]+")


def silent(case: Case) -> Iterator[Hit]:
    """Mounts that do not answer, if the deployment names a path on them."""
    mounts = case.running.machine.silent
    if not mounts:
        return
    told: set[Mount] = set()
    for unit, path, where in _paths(case):
        for mount in mounts:
            # Following links does not block: this process no longer sees the mount
            if mount not in told and common.under(os.path.realpath(path), mount.point):
                told.add(mount)
                yield Hit(
                    unit,
                    f"the file system at {mount.point} ({mount.kind}, {mount.source}) does not "
                    f"answer. {path} is on it ({where}), and every process that accesses it waits",
                    Advice(_fix(mount)),
                    path=mount.point,
                )


def _fix(mount: Mount) -> str:
    served = (
        "restart the program that serves it" if mount.kind.startswith("fuse")
        else f"make its server answer again ({mount.source})"
    )  # fmt: skip
    return f"{served}; or run umount --lazy {mount.point}, mount it again, and restart the service"


def _paths(case: Case) -> Iterator[tuple[str, str, str]]:
    """Yield each path that the deployment names: the unit, the path, where it is named."""
    for unit in case.deployment.units:
        for entry in unit.entries:
            for path in _NAMED.findall(common.resolve(entry.value, unit)):
                yield unit.name, path, f"{entry.key}="
    for service in common.services(case.service):
        for process in case.running.machine.processes_of(service.name):
            with contextlib.suppress(OSError):  # it has exited
                path = os.readlink(f"/proc/{process.pid}/cwd")
                yield service.name, path, f"where process {process.pid} runs"
    for installed, path, file, line, _ in served_by_fronts(case):
        yield installed.packaging.unit, path, f"{file}, line {line}"
