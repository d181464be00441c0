"""The grammar of --allow-peer (unit:, user:, group:), and the sandbox needs of each rule.

The runtime enforces the rules, the generator relaxes the one directive that would prevent a check,
and the doctor explains both. The needs were verified on Linux 6.18 and systemd 252.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from sdactivate.errors import UsageError

KERNEL_KNOWS_UNITS = (6, 13)
"""The first Linux that reports a peer's control group: SO_PEERPIDFD and PIDFD_GET_INFO."""

# Compiled only when there is a rule to parse: serving processes without rules import this module
# too
_UNIT = r"[A-Za-z0-9:_.\\@-]+\.(service|scope)"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?"


class PeerRule(NamedTuple):
    """One rule: serve a peer whose `kind` (unit, user or group) is `name`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_rule(text: str) -> PeerRule:
    """Return the rule in `text`; raise UsageError if it is not valid.

    unit:NAME takes a unit's full name (systemd.unit(5)), user:NAME and group:NAME an account's
    name or number.
    """
    kind, colon, name = text.partition(":")
    good = {"unit": _UNIT, "user": _NAME, "group": _NAME}.get(kind)
    if not colon or good is None:
        raise UsageError(
            f"{text!r} is not a rule, such as unit:nginx.service, user:www-data or group:web"
        )
    if not re.fullmatch(good, name, re.ASCII):
        hint = ", with its suffix: unit:nginx.service" if kind == "unit" else ""
        raise UsageError(f"{text!r}: {name!r} is not the name of a {kind}{hint}")
    return PeerRule(kind, name)


def needs(rules: Iterable[PeerRule], kernel: tuple[int, int]) -> tuple[str, ...]:
    """Return the keys of `sandbox.NEEDS` that checking `rules` on Linux `kernel` requires.

    peer-ids: in a user namespace of its own (PrivateUsers=) a service sees every other user and
    group as nobody. peer-proc: if the kernel doesn't report a peer's unit, it is read from
    /proc/PID/cgroup, which ProtectProc= hides.
    """
    kinds = {rule.kind for rule in rules}
    found = []
    if kinds & {"user", "group"}:
        found.append("peer-ids")
    if "unit" in kinds and kernel < KERNEL_KNOWS_UNITS:
        found.append("peer-proc")
    return tuple(found)


def kernel_version(release: str) -> tuple[int, int]:
    """Return (6, 13) for 6.13.0-rc1-foo, the form of uname -r; (0, 0) if it can't be parsed."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", release, re.ASCII)
    return (int(found[1]), int(found[2])) if found else (0, 0)
