"""Explain one rule: what it finds, its symptoms, and what fixes it."""

from collections.abc import Iterator
from textwrap import wrap

from sdactivate.doctor.examine import check_ids
from sdactivate.doctor.finding import Rule
from sdactivate.doctor.rules import BY_ID
from sdactivate.doctor.symptoms import TABLE

WIDTH = 88


def find(name: str) -> Rule:
    """Return the rule `name`, such as SDA102. Raises UsageError if there is none."""
    check_ids([name])
    return BY_ID[name]


def as_text(rule: Rule) -> str:
    """Return the rule for people."""
    return "\n".join(_lines(rule)) + "\n"


def _lines(rule: Rule) -> Iterator[str]:
    yield f"{rule.id} ({rule.severity}): {rule.what}"
    yield from _wrapped("why", rule.why)
    shown_by = ""
    for symptom in TABLE[rule.id]:
        if symptom.shown_by != shown_by:
            shown_by = symptom.shown_by
            yield f"  seen  {shown_by or symptom.place}"
        yield f"          {symptom.words}"
    if not TABLE[rule.id]:
        yield "  seen  nothing: no program prints a message about it"
    yield from _wrapped("fix", rule.fix)
    where = "the running system" if rule.is_live else "unit files (--offline)"
    yield from _wrapped("read", f"{rule.source}; found on {where}")


def _wrapped(name: str, text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=f"  {name:<6}", subsequent_indent=" " * 8)
