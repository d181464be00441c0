"""Recognise the relevant messages in systemd's own log lines about a unit."""

import re
from collections.abc import Iterable

_GOES_ON = re.compile(r", ignoring(?:[:.]|$)")


def that_matter(lines: Iterable[str]) -> list[str]:
    """Return `lines` without those by which systemd says that it goes on all the same.

    They end in "…, ignoring: REASON" and come after what made a unit fail, in a container for
    instance, whose control groups lack a controller.
    """
    return [line for line in lines if matters(line)]


def matters(line: str) -> bool:
    """Return whether one line of systemd's is none by which it says that it goes on."""
    return not _GOES_ON.search(line)
