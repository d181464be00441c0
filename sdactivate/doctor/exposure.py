"""Measure the exposure of a service: `systemd-analyze security`, by line."""

import json
import re
import subprocess
from typing import NamedTuple

_OVERALL = re.compile(r"Overall exposure level for .*: ([0-9.]+) ")


class Gap(NamedTuple):
    """A directive that isn't set, what it would take away, and the points it costs."""

    name: str
    what: str
    points: float


class Exposure(NamedTuple):
    """The exposure, at most 10 points, and its gaps, the most expensive first."""

    overall: float
    gaps: tuple[Gap, ...]


def measure(target: str, *, offline: bool) -> Exposure | None:
    """Return the exposure of a loaded service, or with `offline` of a unit file.

    None if systemd-analyze(1) is missing, can't read the unit, or is older than 252.
    """
    options = ["--no-pager", f"--offline={'yes' if offline else 'no'}"]
    text = _ask([*options, target])
    rows = _ask([*options, "--json=short", target])
    if text is None or rows is None or not (found := _OVERALL.search(text)):
        return None
    return Exposure(float(found[1]), gaps(rows))


def gaps(rows: str) -> tuple[Gap, ...]:
    """Return the gaps in the JSON of systemd-analyze; none if its format is unknown."""
    try:
        found = [
            Gap(row["name"], row["description"], float(row["exposure"]))
            for row in json.loads(rows)
            if row["exposure"]
        ]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(sorted(found, key=lambda gap: -gap.points))


def _ask(options: list[str]) -> str | None:
    argv = ["systemd-analyze", "security", *options]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    # It also exits 1 for a unit that is too exposed: only its output counts.
    return done.stdout.decode(errors="replace") or None
