"""Security modules that can refuse what permissions grant: SELinux and AppArmor, if enforcing.

What they refuse depends on a policy and on each process's label, neither of which is read here:
`who` says that it has not checked them, and the doctor reads from the log what they have denied.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Module(NamedTuple):
    """A security module, and the file below /sys that says whether it is in force."""

    name: str
    file: str
    in_force: str
    """What the file holds if the module is enforcing. A permissive SELinux refuses nothing."""


TABLE = (
    Module("AppArmor", "module/apparmor/parameters/enabled", "Y"),
    Module("SELinux", "fs/selinux/enforce", "1"),
)


def in_force(sys: str = "/sys") -> tuple[str, ...]:
    """Return the names of the security modules that may refuse something on this kernel.

    sys: where sysfs is mounted (sysfs(5)).
    """
    return tuple(it.name for it in TABLE if _text(Path(sys, it.file)) == it.in_force)


def sentence(names: Iterable[str]) -> str:
    """Return the note about these modules that goes with a "yes"; "" if there are none."""
    listed = " and ".join(names)
    if not listed:
        return ""
    plural = " and " in listed
    return (
        f"'Yes' considers owners, modes and ACLs only. This kernel also enforces {listed}, which "
        f"{'were' if plural else 'was'} not checked and may still deny access "
        "(`sdactivate doctor` finds what was denied: SDA115)."
    )


def _text(path: Path) -> str:
    with suppress(OSError, ValueError):
        return path.read_text(encoding="ascii").strip()
    return ""
