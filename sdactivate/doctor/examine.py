"""Run the rules over a deployment, and leave out what was silenced."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from sdactivate.doctor.finding import Case, Hit, Remedy
from sdactivate.doctor.rules import BY_ID, TABLE, Rule
from sdactivate.doctor.unitfile import Entry, Unit
from sdactivate.errors import UsageError


class Finding(NamedTuple):
    """A rule that is broken, where, why, and what mends it."""

    rule: Rule
    subject: str  # the unit, or what else it is about
    file: str  # "" where there is none
    line: int  # 0: the file as a whole
    text: str  # the line at fault, "" where one is missing
    because: str
    remedy: Remedy


def examine(case: Case, ignored: Collection[str] = ()) -> list[Finding]:
    """Return what is wrong with `case`, in the order of the table.

    `ignored` are rules to leave out. So are those that a comment silences: in the unit that the
    finding is about, or, where it is about the front or another service, in the socket unit that
    these connect to. Raises UsageError for a rule that doesn't exist.
    """
    check_ids(ignored)
    silenced = {
        (ignore.rule, unit.name) for unit in case.deployment.units for ignore in unit.ignores
    }
    return [
        finding
        for rule in TABLE
        if rule.id not in ignored and (case.facts is not None or not rule.is_live)
        for hit in rule.check(case)
        if (finding := _finding(rule, hit, case))
        and (rule.id, hit.unit or finding.subject) not in silenced
    ]


def check_ids(ids: Iterable[str]) -> None:
    """Raise UsageError if one of `ids` is no rule."""
    for name in ids:
        if name not in BY_ID:
            raise UsageError(f"{name}: there is no such rule; docs/doctor.md lists them")


def _finding(rule: Rule, hit: Hit, case: Case) -> Finding:
    if isinstance(hit.at, Entry):
        entry = hit.at
        unit = next(unit for unit in case.deployment.units if entry in unit.entries)
        return Finding(rule, unit.name, entry.file, entry.line, str(entry), hit.because, hit.remedy)
    if isinstance(hit.at, Unit):
        file = hit.at.files[0] if hit.at.files else ""
        return Finding(rule, hit.at.name, file, 0, "", hit.because, hit.remedy)
    return Finding(rule, hit.at, "", 0, "", hit.because, hit.remedy)
