"""Findings as text, as JSON and as SARIF."""

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sdactivate import __version__
from sdactivate.doctor.finding import Finding
from sdactivate.doctor.rules import TABLE
from sdactivate.terminal import escape

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(findings: Sequence[Finding]) -> str:
    """Return the findings for people, by what they are about; one line where there is none."""
    if not findings:
        return "nothing found\n"
    ordered = sorted(findings, key=lambda it: it.subject)
    blocks = []
    for subject, group in groupby(ordered, key=lambda it: it.subject):
        blocks.append("\n".join([escape(subject), *(_block(it) for it in group)]))
    return "\n\n".join(blocks) + f"\n\n{count(findings)}\n"


def _block(finding: Finding) -> str:
    lines = [f"  {finding.rule.severity} {finding.rule.id}: {finding.rule.what}"]
    if place := where(finding):
        lines.append(f"    at    {place}" + (f": {finding.text}" if finding.text else ""))
    lines += [f"    why   {finding.because}", f"    fix   {finding.fix}"]
    lines += [f"    then  {finding.then}"] if finding.then else []
    return "\n".join(map(escape, lines))


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
    """Return the findings as plain values; the names of docs/doctor.md."""
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
            "help": {"text": f"Fix it: {rule.fix}."},
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
        }
        for it in findings
    ]
    driver = {"name": "sdactivate doctor", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results}
    return {"$schema": _SARIF, "version": "2.1.0", "runs": [run]}


def _message(finding: Finding) -> str:
    then = f", then: {finding.then}" if finding.then else ""
    return f"{finding.subject}: {finding.because}. Fix it: {finding.fix}{then}"


def _location(finding: Finding) -> dict[str, Any]:
    if not finding.file:
        return {"logicalLocations": [{"fullyQualifiedName": escape(finding.subject)}]}
    path = Path(finding.file)
    uri = path.as_uri() if path.is_absolute() else quote(os.fsencode(path))
    # A missing line is a finding about the file as a whole: its first line stands for it.
    region = {"startLine": finding.line or 1}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
