"""Checks on the running system: what the application has logged while it served."""

import re
from collections.abc import Iterator, Sequence

from sdactivate.doctor import refusals, tracebacks
from sdactivate.doctor.checks import common
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.systemd.unitfile import Unit

# What the native server logs about a 5xx for which the application has logged nothing
_SILENT = re.compile(r"^(.+): answered (5\d\d.*?); the application has written nothing")


def refused(case: Case) -> Iterator[Hit]:
    """What the sandbox refuses a serving application. SDA110 covers one that fails to start."""
    for service in _serving(case):
        found: dict[tuple[str, str], list[tuple[refusals.Refusal, str]]] = {}
        for error in errors(case.running.said(service.name)):
            if refusal := refusals.refusal(error, service):
                key = (refusal.directive, refusal.what)
                found.setdefault(key, []).append((refusal, error))
        for (directive, _), all_ in found.items():
            refusal, error = all_[-1]
            times = common.times(len(all_))
            option = f"; with gen or install: {refusal.option}" if refusal.option else ""
            yield Hit(
                refusal.at,
                f"{directive}= refuses {refusal.what}. The application has failed because of that "
                f"{times} in the last hour: {error}. Allow it only if the site is meant to do "
                f"this{option}",
                refusal.fix,
                service.name,
            )


def silent(case: Case) -> Iterator[Hit]:
    for service in _serving(case):
        answers = [found for it in case.running.said(service.name) if (found := _SILENT.match(it))]
        if answers:
            times = f"{len(answers)} requests were" if len(answers) > 1 else "a request was"
            yield Hit(
                service.name,
                f"{times} answered 5xx in the last hour, and the application has not logged why. "
                f"The last: {answers[-1][1]}: {answers[-1][2]}",
                Advice(
                    "configure its logging so that errors go to standard error (Django: LOGGING; "
                    "see docs/troubleshooting.md, 'A 500 and nothing in the journal'); then "
                    "request the page again and run the doctor again"
                ),
            )


def _serving(case: Case) -> Iterator[Unit]:
    for service in common.services(case.service):
        if "@." in service.name or case.running.property(service.name, "ActiveState") != "active":
            continue
        yield service


def errors(lines: Sequence[str]) -> list[str]:
    """Return the exceptions that are logged in `lines`, in their order: one for each traceback."""
    return [str(it.causes[0]) for it in tracebacks.chains(lines) if it.causes]
