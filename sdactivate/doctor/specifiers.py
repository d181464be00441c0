"""Resolve the specifiers of a unit's lines (systemd.unit(5)), as far as files alone can."""

import re

from sdactivate.systemd.names import unescape
from sdactivate.systemd.unitfile import Unit


def resolve(value: str, unit: Unit) -> str:
    """Return `value` with the specifiers that a file alone can answer (systemd.unit(5)).

    The directories are those of the system manager. Other specifiers stay as they are.
    """
    if "%" not in value:
        return value
    stem = unit.name.rpartition(".")[0]
    known = {
        "t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "E": "/etc",
        "T": "/tmp", "V": "/var/tmp", "h": "/root",  # noqa: S108
        "n": unit.name, "N": stem, "p": unit.prefix, "i": stem.partition("@")[2] or "%i",
        "I": unescape(stem.partition("@")[2]) or "%I",
        "%": "%",
    }  # fmt: skip
    return re.sub(r"%(.)", lambda found: known.get(found[1], found[0]), value)
