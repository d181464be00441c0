"""Find the log lines about a unit, and recognise the relevant ones among systemd's own."""

import os
import re
from collections.abc import Iterable

_GOES_ON = re.compile(r", ignoring(?:[:.]|$)")


def that_matter(lines: Iterable[str]) -> list[str]:
    """Return `lines` without those that say systemd ignored a problem.

    They end in "…, ignoring: REASON", and can come after the line that tells why a unit failed: in
    a container, for instance, whose control groups lack a controller.
    """
    return [line for line in lines if matters(line)]


def matters(line: str) -> bool:
    """Return whether a line of systemd's does more than say that a problem was ignored."""
    return not _GOES_ON.search(line)


def matches_of(units: Iterable[str], *, own: bool = False) -> list[str]:
    """Return journalctl(1)'s matches for what units log, and what systemd logs about them.

    `own`: units of the calling user's manager. This is not --unit, which misses the most important
    line: the child that can't start a program logs the reason and exits, and then journald may no
    longer know its unit. But that line names the unit in a field of its own, UNIT
    (systemd.journal-fields(7)). Anybody can write this field, so only systemd's user counts.
    """
    user = "USER_" if own else ""
    by = f"_UID={os.getuid() if own else 0}"
    matches: list[str] = []
    for unit in units:
        matches += ["+", f"_SYSTEMD_{user}UNIT={unit}", *([by] if own else [])]
        matches += ["+", f"{user}UNIT={unit}", by]
    return matches[1:]
