"""Recognise the relevant messages in systemd's own log lines about a unit."""

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
