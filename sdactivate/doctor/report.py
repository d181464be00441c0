"""Findings as text, as JSON and as SARIF."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sdactivate import __version__
from sdactivate.doctor.finding import Finding
from sdactivate.doctor.rules import TABLE
from sdactivate.terminal import escape

JSON_SCHEMA = Path(__file__).parent / "schemas" / "findings-1.json"
"""The JSON Schema of what `as_json` returns. It applies to all versions that have this file."""
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings for people: each cause, with its consequences below it.

    findings: in the order of `causes.arrange`. Without findings it is one line.
    """
    if not findings:
        return "nothing found\n"
    lines: list[str] = []
    heading = ""
    for finding in findings:
        if not finding.because_of and finding.subject != heading:
            heading = finding.subject
            lines += ["", heading] if lines else [heading]
        lines += _block(finding)
    return "\n".join(map(escape, lines)) + f"\n\n{count(findings)}\n"


def _block(finding: Finding) -> list[str]:
    indent, rule = "  " * (1 + finding.depth), finding.rule
    if finding.because_of:
        lines = [f"so    {rule.severity} {rule.id}: {rule.what} ({finding.subject})"]
    else:
        lines = [f"{rule.severity} {rule.id}: {rule.what}"]
    if place := where(finding):
        lines.append(f"  at    {place}" + (f": {finding.text}" if finding.text else ""))
    lines += [f"  why   {finding.because}"]
    # A consequence may disappear with its cause. Its fix is for what is left then, if anything.
    lines += [f"  {'after' if finding.because_of else 'fix  '} {finding.fix}"]
    lines += [f"  then  {finding.then}"] if finding.then else []
    return [f"{indent}{line}" for line in lines]


def where(finding: Finding) -> str:
    """Return FILE:LINE, or FILE, or nothing."""
    return f"{finding.file}:{finding.line}" if finding.line else finding.file


def count(findings: Sequence[Finding]) -> str:
    """Return "2 errors, 1 warning"."""
    parts = []
    for severity in ("error", "warning", "note"):
        if number := sum(it.rule.severity == severity for it in findings):
            parts.append(f"{number} {severity}{'s' if number > 1 else ''}")
    return ", ".join(parts)


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the findings as plain values: schemas/findings-1.json, docs/doctor.md."""
    return [
        {
            "rule": it.rule.id,
            "severity": it.rule.severity,
            "what": it.rule.what,
            "why": it.rule.why,
            "source": it.rule.source,
            "subject": it.subject,
            "file": it.file or None,
            "line": it.line or None,
            "text": it.text or None,
            "because": it.because,
            "fix": str(it.fix),
            "then": it.then or None,
            "safe": it.fix.safe,
            "explained_by": [
                {"rule": rule, "subject": subject}
                for rule, subject in dict.fromkeys(
                    (cause.rule.id, cause.subject) for cause in it.because_of
                )
            ],
        }
        for it in findings
    ]


def as_sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as SARIF 2.1.0 (OASIS), one run."""
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.what},
            "fullDescription": {"text": f"{rule.why} Source: {rule.source}."},
            "help": {"text": f"To fix it: {rule.fix}."},
            "defaultConfiguration": {"level": rule.severity},
        }
        for rule in TABLE
    ]
    places = {rule.id: index for index, rule in enumerate(TABLE)}
    results = [
        {
            "ruleId": it.rule.id,
            "ruleIndex": places[it.rule.id],
            "level": it.rule.severity,
            "message": {"text": escape(_message(it))},
            "locations": [_location(it)],
            **_related(it),
        }
        for it in findings
    ]
    driver = {"name": "sdactivate doctor", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    return {"$schema": _SARIF, "version": "2.1.0", "runs": [run]}


def _message(finding: Finding) -> str:
    then = f", then: {finding.then}" if finding.then else ""
    return f"{finding.subject}: {finding.because}. Fix it: {finding.fix}{then}"


def _related(finding: Finding) -> dict[str, Any]:
    """Return the causes of a finding as relatedLocations (SARIF 2.1.0, section 3.27.22)."""
    causes = [
        {**_location(it), "message": {"text": escape(f"{it.name} explains it: {it.rule.what}")}}
        for it in finding.because_of
    ]
    different = [it for place, it in enumerate(causes) if it not in causes[:place]]
    return {"relatedLocations": different} if different else {}


def _location(finding: Finding) -> dict[str, Any]:
    if not finding.file:
        return {"logicalLocations": [{"fullyQualifiedName": escape(finding.subject)}]}
    path = Path(finding.file)
    uri = path.as_uri() if path.is_absolute() else quote(os.fsencode(path))
    # A missing line is a finding about the file as a whole: its first line stands for it.
    region = {"startLine": finding.line or 1}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
