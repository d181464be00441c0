"""Explain each line of a unit: why it is there, what removing it costs, where it is documented.

The texts come from three tables: `sandbox`, `directives` (common lines outside the sandbox) and
`rarer_directives` (all others). The unit need not be one that sdactivate wrote.
"""

from collections.abc import Iterator
from textwrap import wrap
from typing import Any, NamedTuple

from sdactivate import sandbox
from sdactivate.doctor import directives, rarer_directives
from sdactivate.sandbox import Directive
from sdactivate.systemd.unitfile import Entry, Unit
from sdactivate.terminal import escape_lines

WIDTH = 88
_UNKNOWN = (
    "sdactivate does not know this directive: systemd has none of this name, "
    f"or it is newer than systemd {rarer_directives.NEWEST}."
)


class Line(NamedTuple):
    """One assignment, explained."""

    entry: Entry
    why: str
    """Empty if no table has the directive."""
    source: str
    cost: float = 0.0
    """Points of exposure that leaving it out of the whole sandbox adds."""
    better: str = ""
    """The line of sdactivate's sandbox, if its value differs."""

    @property
    def since(self) -> int:
        """The version of systemd that the directive is new in, 0 for 252 or earlier."""
        return rarer_directives.SINCE.get(self.entry.key, 0)


class Explained(NamedTuple):
    """A unit, explained."""

    unit: Unit
    lines: tuple[Line, ...]
    absent: tuple[Directive, ...]
    """The lines of the sandbox that a service does not have, the costliest first."""


def explain(unit: Unit) -> Explained:
    """Return `unit` with each of its lines explained."""
    present = {entry.key for entry in unit.entries}
    absent = [row for row in sandbox.TABLE if row.name not in present]
    return Explained(
        unit,
        tuple(_line(entry) for entry in unit.entries),
        tuple(sorted(absent, key=lambda row: -row.cost)) if unit.kind == "service" else (),
    )


def _line(entry: Entry) -> Line:
    if rows := sandbox.named(entry.key):
        same = [row for row in rows if row.value == entry.value]
        better = "" if same else rows[0].line
        return Line(entry, (same or rows)[0].why, rows[0].source, (same or rows)[0].cost, better)
    if word := directives.TABLE.get(entry.key):
        return Line(entry, *word)
    if rare := rarer_directives.TABLE.get(entry.key):
        return Line(entry, *rare)
    return Line(entry, "", "systemd.directives(7)")


def as_text(explained: Explained) -> str:
    """Return the text for people: each line, with its explanation indented below."""
    return "\n".join(map(escape_lines, _text(explained))) + "\n"


def _text(explained: Explained) -> Iterator[str]:
    file = section = ""
    for line in explained.lines:
        if line.entry.file != file:
            if file:
                yield ""
            file, section = line.entry.file, ""
            yield f"# {file}"
        if line.entry.section != section:
            section = line.entry.section
            yield f"\n[{section}]"
        yield str(line.entry)
        said = line.why or _UNKNOWN
        if line.since:
            said += f" New in systemd {line.since}; older versions ignore it with a warning."
        if line.better:
            said += f" sdactivate writes {line.better}."
        if line.cost:
            said += f" Without it: {line.cost:.1f} points more exposure."
        yield from _indented(f"{said} {line.source}")
    if explained.absent:
        yield "\n# Lines of sdactivate's sandbox that this unit does not have"
    for row in explained.absent:
        yield f"# {row.line}"
        cost = f" Worth {row.cost:.1f} points of exposure." if row.cost else ""
        yield from _indented(f"{row.why}{cost} {row.source}")


def _indented(text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def as_json(explained: Explained) -> dict[str, Any]:
    """Return the data for JSON; docs/explain.md describes the keys."""
    return {
        "unit": explained.unit.name,
        "lines": [
            {
                "file": line.entry.file,
                "line": line.entry.line,
                "section": line.entry.section,
                "directive": line.entry.key,
                "value": line.entry.value,
                "why": line.why or None,
                "cost": line.cost,
                "better": line.better or None,
                "source": line.source,
                "since": line.since or None,
            }
            for line in explained.lines
        ],
        "absent": [
            {
                "directive": row.name,
                "value": row.value,
                "why": row.why,
                "cost": row.cost,
                "source": row.source,
            }
            for row in explained.absent
        ],
    }
