"""Find the lines of units that a second install would drop because an option is missing."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from sdactivate.systemd.unitfile import Entry, parse, split


def dropped(old: str, new: str) -> list[str]:
    """Return the lines of the unit `old` that `new` neither has nor replaces.

    A line with another value is a change, and not returned. The value of a variable that is not a
    setting of the server is left out, because it may be a secret.
    """
    before, after = parse(old, "").entries, parse(new, "").entries
    added: Mapping[str, list[Entry]] = _by_name(after, before)
    return [
        _shown(entry)
        for name, gone in _by_name(before, after).items()
        if len(gone) > len(added[name])
        for entry in gone
    ]


def _by_name(entries: tuple[Entry, ...], others: tuple[Entry, ...]) -> dict[str, list[Entry]]:
    """Return those of `entries` that are not among `others`, grouped by what they set."""
    known = {(entry.section, str(entry)) for entry in others}
    found: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if (entry.section, str(entry)) not in known:
            found[f"{entry.section} {entry.key} {_variable(entry)}"].append(entry)
    return found


def _variable(entry: Entry) -> str:
    """The variable that an Environment= line sets, in the form that gen writes; otherwise ""."""
    if entry.key != "Environment":
        return ""
    return next(iter(split(entry.value)), "").partition("=")[0]


def _shown(entry: Entry) -> str:
    name = _variable(entry)
    return str(entry) if not name or name.startswith("SDACTIVATE_") else f"{entry.key}={name}=…"


def warning(path: Path, lines: list[str]) -> str:
    """Return the warning that the file at `path` loses these `lines`."""
    return (
        f"warning: {path} loses {', '.join(lines)}. An option that is not given again is dropped: "
        "give it again if you want it, or keep all of them in a file (--from sites.toml)"
    )
