"""Checks on how any line of a unit is written."""

import posixpath
import re
from collections.abc import Iterator

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.handling import SHELLS
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.settings_of_units import (
    VALUES,
    sections,
    swallowed_variables,
    unread_variables,
)
from sdactivate.suggest import meant
from sdactivate.systemd.unitfile import Entry, Unit, split

_SECTIONS = ("Unit", "Install", "Socket", "Service")
# Directives that may contain any text. In commands, ";" separates commands.
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
                    "it is part of the value, and systemd ignores a value that it can't parse"
                )  # fmt: skip
                yield Hit(
                    entry,
                    f"systemd does not recognize a comment after a value: {what}",
                    Advice(f"put the comment on a line of its own: {entry.key}={value}"),
                )


def behind(entry: Entry) -> str:
    """Return what is meant as a comment at the end of a line, "" if there is none."""
    if "#" not in entry.value and ";" not in entry.value:
        return ""
    if entry.section not in _SECTIONS or _FREE.fullmatch(entry.key):
        return ""
    pattern = _BEHIND_COMMAND if _COMMAND.fullmatch(entry.key) else _BEHIND
    # Quoted words are blanked out with text of the same length.
    bare = _QUOTED.sub(lambda found: '"' * len(found[0]), entry.value)
    found = pattern.search(bare)
    return entry.value[found.start(1) :] if found else ""


def not_read(case: Case) -> Iterator[Hit]:
    """Lines that systemd ignores: an unknown setting, a wrong section, or an invalid value."""
    known, nowhere = sections(), frozenset[str]()
    for unit in case.deployment.units:
        told: set[str] = set()
        own = ("Unit", "Install", unit.section)
        for entry in unit.entries:
            hit = None
            if entry.section not in own:
                if entry.section not in told:
                    told.add(entry.section)
                    hit = _section(unit, entry)
            elif entry.section not in (places := known.get(entry.key, nowhere)):
                hit = _key(unit, entry, places)
            elif entry.value:
                hit = _value(entry)
            theirs = entry.section.startswith("X-") or entry.key.startswith("X-")
            if hit and not theirs and not behind(entry):
                yield hit


def _section(unit: Unit, entry: Entry) -> Hit:
    near = meant(entry.section, ("Unit", "Install", unit.section), f"[{unit.section}]")
    right = near.removeprefix("did you mean ").rstrip("?").strip("[]")
    return Hit(
        entry,
        f"systemd knows no section [{entry.section}] in {unit.name}: it ignores all lines of the "
        "section",
        Advice(f"write [{right}] instead of [{entry.section}] in {unit.name}"),
    )


def _key(unit: Unit, entry: Entry, places: frozenset[str]) -> Hit:
    if right := sorted(places & {"Unit", "Install", unit.section}):
        return Hit(
            entry,
            f"systemd ignores {entry.key}= in [{entry.section}]: it belongs in [{right[0]}]",
            Advice(f"move the line to [{right[0]}]: {entry}"),
        )
    known = sections()
    here = [name for name, held in known.items() if entry.section in held]
    near = meant(entry.key, here, " ")
    if near == " ":
        folded = {name.lower(): name for name in here}
        near = f"did you mean {folded[entry.key.lower()]}?" if entry.key.lower() in folded else ""
    right_key = near.removeprefix("did you mean ").rstrip("?")
    return Hit(
        entry,
        f"systemd ignores this line: [{entry.section}] has no setting {entry.key}="
        + (f"; {near}" if near else ""),
        Advice(
            f"write {right_key}={entry.value}" if right_key else "remove the line, or correct it"
        ),
    )


def _value(entry: Entry) -> Hit | None:
    if entry.key == "Environment":
        if unread := unread_variables(split(entry.value)):
            return Hit(
                entry,
                f"systemd ignores {', '.join(map(repr, unread))}: words of Environment= are "
                "assignments, and a value with a space needs quotes around the whole assignment",
                Advice('Environment="NAME=a value" "OTHER=another"'),
            )
        if swallowed := swallowed_variables(split(entry.value)):
            inner, outer = swallowed[0]
            return Hit(
                entry,
                f"{inner} is not set: the quotes enclose both, so {inner}= is part of the value "
                f"of {outer}",
                Advice(
                    f'put quotes around each: "{outer}=…" "{inner}=…"; or write a line for each'
                ),
            )
        return None
    values = VALUES.get(entry.key)
    if values is None or "%" in entry.value or values.reads(entry.value):
        return None
    what = (
        "systemd does not start the unit" if entry.key == "WorkingDirectory"
        else "systemd ignores the line"
    )  # fmt: skip
    return Hit(
        entry,
        f"{what}: {entry.value!r} is not a value of {entry.key}=",
        Advice(f"{entry.key}= takes {values.allowed}"),
    )


_SHELLS_OWN = ("&&", "||", "|", ">", ">>", "<", "2>", "2>&1", "&>", "&")
_BUILT_IN = ("source", ".", "cd", "export", "exec", "if", "set", "ulimit", "umask")


def shell_syntax(case: Case) -> Iterator[Hit]:
    """Commands written for a shell: systemd runs the program itself, without a shell."""
    for service in common.services(case.service):
        for entry in (it for key in _COMMANDS for it in service.entries_of(key)):
            words = common.command(entry, service)
            if not words or posixpath.basename(words[0]) in SHELLS:
                continue
            if words[0] in _BUILT_IN:
                what = f"{words[0]} is a shell builtin, not a program"
            elif words[0].startswith("~") or ("$" in words[0] and "/" in words[0]):
                what = f"systemd does not expand {words[0]} to a path"
            elif "=" in words[0].partition("/")[0]:
                what = f"{words[0]} does not set a variable here: systemd takes it as the program"
            elif used := [it for it in words[1:] if it in _SHELLS_OWN]:
                what = f"{used[0]} is passed to the program as an argument"
            else:
                continue
            yield Hit(
                entry,
                f"no shell interprets {entry.key}=: {what}",
                Advice(_without_shell(words, entry.key)),
            )


_COMMANDS = ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop")


def _without_shell(words: list[str], key: str) -> str:
    if "=" in words[0].partition("/")[0]:
        return f"set Environment={words[0]} on a line of its own, and {key}= to the program's path"
    if words[0] in ("source", ".", "cd"):
        return (
            f"set {key}= to the absolute path of the program (in a virtual environment: "
            "/…/venv/bin/PROGRAM, without activate), and use WorkingDirectory= instead of cd"
        )
    return (
        f"set {key}= to the absolute path of one program and its arguments; if a shell is needed, "
        f"set {key}=/bin/sh -c 'exec …'"
    )
