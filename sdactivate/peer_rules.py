"""The grammar of --allow-peer (unit:, user:, group:), and what each rule needs of the sandbox.

Common ground: the runtime enforces them, the generator relaxes the one directive that a rule
can't be checked without, the doctor explains both. What each needs was tried on Linux 6.18 and
systemd 252.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from sdactivate.errors import UsageError

KERNEL_KNOWS_UNITS = (6, 13)
"""The first Linux that tells a peer's control group itself: SO_PEERPIDFD and PIDFD_GET_INFO."""

# Compiled when there is a rule to be read: a serving process without any imports this, too
_UNIT = r"[A-Za-z0-9:_.\\@-]+\.(service|scope)"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?"


class PeerRule(NamedTuple):
    """One rule: a peer is served if its `kind` (unit, user or group) is `name`."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_rule(text: str) -> PeerRule:
    """Return the rule that `text` means; UsageError where it means none.

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
        raise UsageError(f"{text!r}: {name!r} is no name of a {kind}{hint}")
    return PeerRule(kind, name)


def needs(rules: Iterable[PeerRule], kernel: tuple[int, int]) -> tuple[str, ...]:
    """Return the needs of `directives.NEEDS` that checking `rules` on Linux `kernel` has.

    peer-ids: with a user namespace of its own (PrivateUsers=) a service sees every foreign user
    and group as nobody. peer-proc: where the kernel doesn't tell a peer's unit itself, it is
    read from /proc/PID/cgroup, which ProtectProc= hides.
    """
    kinds = {rule.kind for rule in rules}
    found = []
    if kinds & {"user", "group"}:
        found.append("peer-ids")
    if "unit" in kinds and kernel < KERNEL_KNOWS_UNITS:
        found.append("peer-proc")
    return tuple(found)


def kernel_version(release: str) -> tuple[int, int]:
    """Return (6, 13) of 6.13.0-rc1-foo: what uname -r says; (0, 0) where it can't be read."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", release, re.ASCII)
    return (int(found[1]), int(found[2])) if found else (0, 0)
