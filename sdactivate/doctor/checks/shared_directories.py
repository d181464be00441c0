"""Checks on the running system: directories that two services have, and one deletes."""

import glob
import os
import re
from collections.abc import Iterator

from sdactivate.doctor import text_file
from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Case, Hit, Lines
from sdactivate.systemd.unitfile import Unit

_PLACES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
_LINE = re.compile(r"^[ \t]*RuntimeDirectory[ \t]*=(?P<names>.*)$", re.MULTILINE)
_KEEPS = re.compile(r"^[ \t]*RuntimeDirectoryPreserve[ \t]*=[ \t]*yes\b", re.MULTILINE | re.I)


def runtime_directory(case: Case) -> Iterator[Hit]:
    """RuntimeDirectory= of the service, which another service deletes when it stops."""
    for service in common.services(case.service):
        for entry in service.entries_of("RuntimeDirectory"):
            for name in entry.value.split():
                if "%" in name or not (other := _other(case, service, name)):
                    continue
                yield Hit(
                    entry,
                    f"{other} has the same RuntimeDirectory={name}: when it stops or restarts, "
                    f"systemd deletes /run/{name} with the files of {service.name}, such as its "
                    "socket",
                    Lines(other, "Service", ("RuntimeDirectoryPreserve=yes",)),
                    path=f"/run/{name}",
                )


def _other(case: Case, service: Unit, name: str) -> str:
    """Return another service with that directory, which does not keep it; "" for none."""
    template = re.sub(r"@.*\.", "@.", service.name)
    for unit, names in case.running.machine.once("runtime directories", _held).items():
        if unit in (service.name, template) or name not in names or "@." in unit:
            continue
        if case.running.property(unit, "ActiveState") == "active" or (
            case.running.property(unit, "UnitFileState") == "enabled"
        ):
            return unit
    return ""


def _held() -> dict[str, list[str]]:
    """Return the runtime directories of each service that deletes them when it stops."""
    found: dict[str, list[str]] = {}
    for place in _PLACES:
        for path in sorted(glob.glob(f"{place}/*.service")):
            unit = os.path.basename(path)
            if unit not in found and not os.path.islink(path):  # the first place wins
                text = text_file.read(path) or ""
                names = [name for hit in _LINE.finditer(text) for name in hit["names"].split()]
                found[unit] = [] if _KEEPS.search(text) else names
    return found
