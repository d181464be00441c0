"""The facts for `causes`: a unit's sandbox properties, and what the host has at a path."""

import grp
import os
import stat
from collections.abc import Callable, Mapping
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import NamedTuple


class There(NamedTuple):
    """What the host has at a path, links followed, as root sees it outside the sandbox."""

    mode: int
    """The mode of stat(2), including the type."""
    uid: int
    group: str
    """The name of the group, or its number."""
    is_mounted_read_only: bool = False
    device: str = ""
    """Of a device, its path without links: /dev/char/21:0 is /dev/sg0."""


Look = Callable[[str], There | None]
"""Returns what is at an absolute path; None for nothing."""


class Sandbox:
    """The properties of a unit's sandbox by name, from `systemctl show`."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._properties = properties

    def value(self, name: str) -> str:
        """Return a property, "" if there is none."""
        return self._properties.get(name, "")

    def is_on(self, name: str) -> bool:
        """Return whether a directive restricts something: yes, strict, invisible …"""
        return self.value(name) not in ("", "no", "none", "default", "all", "0", "false")

    def words(self, name: str) -> list[str]:
        """Return the words of a list."""
        return self.value(name).split()

    def covers(self, name: str, path: str) -> str:
        """Return the longest path of a list that `path` is or is below; "" for none."""
        paths = [word.lstrip("-+").partition(":")[0].rstrip("/") for word in self.words(name)]
        return max((it for it in paths if is_below(path, it)), key=len, default="")

    @cached_property
    def _calls(self) -> tuple[bool, frozenset[str]]:
        words = [word.partition(":")[0] for word in self.words("SystemCallFilter")]
        forbids = bool(words) and words[0].startswith("~")
        return forbids, frozenset(word.lstrip("~") for word in words)

    def allows_call(self, name: str) -> bool:
        """Return whether SystemCallFilter= lets a call through."""
        forbids, names = self._calls
        return not names or (name in names) is not forbids

    def allows_family(self, family: str) -> bool:
        """Return whether RestrictAddressFamilies= lets a socket of a family be made."""
        value = self.value("RestrictAddressFamilies")
        if not value:
            return True
        if value == "none":
            return False
        forbids = value.startswith("~")
        return (family in value.lstrip("~").split()) is not forbids

    def denies_address(self, address: str) -> bool:
        """Return whether IPAddressDeny= drops the packets to an address."""

        def has(name: str) -> bool:
            for word in self.words(name):
                try:
                    if ip_address(address) in ip_network(word, strict=False):
                        return True
                except ValueError:  # of the other family, or a name that a newer systemd knows
                    continue
            return False

        return has("IPAddressDeny") and not has("IPAddressAllow")

    @property
    def refusal(self) -> str:
        """Return the error with which SystemCallFilter= refuses: EPERM, or SIGSYS for a kill."""
        number = self.value("SystemCallErrorNumber")
        return _ERRORS.get(number, number) if number not in ("", "0", "kill") else "SIGSYS"


_ERRORS = {"1": "EPERM", "13": "EACCES", "38": "ENOSYS", "2": "ENOENT"}


def is_below(path: str, top: str) -> bool:
    """Return whether `path` is `top` or is below it. Nothing is below "", all paths below "/"."""
    return bool(top) and f"{path}/".startswith(f"{top.rstrip('/')}/")


def on_this_host(path: str) -> There | None:
    """Return what this host has at `path`, links followed; None if nothing can be seen there."""
    try:
        found = os.stat(path)
        mounted = os.statvfs(path).f_flag
    except (OSError, ValueError):  # ValueError: the path contains a NUL
        return None
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except (KeyError, OSError):
        group = str(found.st_gid)
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    device = os.path.realpath(path) if is_device else ""
    return There(found.st_mode, found.st_uid, group, bool(mounted & os.ST_RDONLY), device)
