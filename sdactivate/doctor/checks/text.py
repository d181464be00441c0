"""Checks on how any line of a unit is written."""

import re
from collections.abc import Iterator

from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.systemd.unitfile import Entry

_SECTIONS = ("Unit", "Install", "Socket", "Service")
# What may hold any text. Arguments and ";" between commands are a command's own.
_FREE = re.compile(
    r"Description|Documentation|(Set|Load)Credential.*|StandardInput.*|Log.*|Syslog.*|X-.*|ExecSearchPath"
)
_COMMAND = re.compile(r"Exec[A-Z].*")
_BEHIND, _BEHIND_COMMAND = re.compile(r"\s([#;].*)"), re.compile(r"\s(#\s.*)")
_QUOTED = re.compile(r"""(?<!\S)("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")


def comment_behind_value(case: Case) -> Iterator[Hit]:
    for unit in case.deployment.units:
        for entry in unit.entries:
            if comment := behind(entry):
                value = entry.value[: -len(comment)].rstrip()
                what = "its words become arguments" if _COMMAND.fullmatch(entry.key) else (
                    "it is part of the value, and what systemd can't read it passes over"
                )  # fmt: skip
                yield Hit(
                    entry,
                    f"systemd knows no comment behind a value: {what}",
                    Advice(f"put the comment on a line of its own: {entry.key}={value}"),
                )


def behind(entry: Entry) -> str:
    """Return what is meant as a comment at the end of a line, "" for nothing."""
    if entry.section not in _SECTIONS or _FREE.fullmatch(entry.key):
        return ""
    pattern = _BEHIND_COMMAND if _COMMAND.fullmatch(entry.key) else _BEHIND
    # Quoted words are blanked out, and keep their places.
    bare = _QUOTED.sub(lambda found: '"' * len(found[0]), entry.value)
    found = pattern.search(bare)
    return entry.value[found.start(1) :] if found else ""
