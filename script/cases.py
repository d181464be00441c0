#!/usr/bin/env python3
"""Write docs/cases.md: the symptoms of each rule's broken setups, their causes and fixes.

.venv/bin/python script/cases.py            write the page
.venv/bin/python script/cases.py --check    exit 1 if the page differs from the code
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
DOCUMENT = CHECKOUT / "docs" / "cases.md"
sys.path.insert(0, str(CHECKOUT))

from script import generated  # noqa: E402
from sdactivate.doctor import units  # noqa: E402
from sdactivate.doctor.examine import examine  # noqa: E402
from sdactivate.doctor.finding import Case, Finding, Rule  # noqa: E402
from sdactivate.doctor.rules import TABLE  # noqa: E402
from sdactivate.doctor.symptoms import TABLE as SYMPTOMS  # noqa: E402
from sdactivate.doctor.symptoms import Symptom, connecting  # noqa: E402
from sdactivate.fronts import FRONTS  # noqa: E402
from tests.doctor import broken  # noqa: E402
from tests.machine.broken_sites import LIVE, SINGLE  # noqa: E402
from tests.machine.front_docs import table  # noqa: E402

HEAD = """\
# Cases: symptoms and their causes

Look up the line that your front, systemd or your application has printed, and follow the links to
its possible causes. `sudo sdactivate doctor mysite` finds the actual cause, with the command for
your site.

Here the site is `mysite`, and its socket `/run/mysite.sock`. All cases except SDA115 are tests: a
broken setup on which the doctor reports the rule, and a working one on which it reports nothing.
`script/cases.py` generates this page from the tests.
"""
NO_LINE = "no such line"
KINDS = {
    "forbidden": "13: Permission denied",
    "missing": "2: No such file or directory",
    "refused": "111: Connection refused",
}
"""The errors of connect(2), in the order of the page."""


def heading(rule: Rule) -> str:
    """Return a rule's heading."""
    return f"{rule.id}: {rule.what}"


def link(rule: Rule) -> str:
    """Return a link to a rule, with what it is about."""
    return f"[{rule.id}](#{slug(heading(rule))}) {rule.what}"


def code(text: str) -> str:
    """Return text as code in a cell of a table: line by line."""
    return "<br>".join(f"`{line.replace('|', chr(92) + '|')}`" for line in text.splitlines())


def mysite(text: str) -> str:
    """Return the text with the setups' name `web` replaced by mysite."""
    return re.sub(r"\bweb\b(?!/)", "mysite", text).replace("/web/", "/mysite/")


def causes(words: str) -> str:
    """Return the rules that a line is a symptom of; those for the running system first."""
    rules = [rule for rule in TABLE if words in [it.words for it in SYMPTOMS[rule.id]]]
    return "<br>".join(map(link, sorted(rules, key=lambda rule: not rule.is_live)))


def by_symptom() -> Iterator[str]:
    """Yield the tables from symptoms to rules: the fronts' lines first, then all others."""
    yield "## The front cannot connect\n"
    yield (
        "The tests deny access to the socket, remove it, and leave it without a listener, and look "
        "for these lines.\nHAProxy and Cherokee log the same for all three: `sdactivate who "
        "mysite` shows which it is. For the path of\neach front's log see [troubleshooting]"
        "(troubleshooting.md#where-the-front-logs).\n"
    )
    told: set[str] = set()
    for kind, words in KINDS.items():
        yield f"### {words}\n"
        rows = [
            (FRONTS[it.place].title, str(FRONTS[it.place].failures.status), code(it.words))
            for it in connecting(kind)
        ]
        yield table(("front", "client sees", "log line"), rows) + "\n"
        yield "Causes:\n"
        first = next(connecting(kind)).words
        yield from (f"- {it}" for it in causes(first).split("<br>"))
        yield ""
        told |= {it.words for it in connecting(kind)}
    yield "## Other lines\n"
    rest: dict[str, Symptom] = {}
    for rule in TABLE:
        for symptom in SYMPTOMS[rule.id]:
            if symptom.words not in told:
                rest.setdefault(symptom.words, symptom)
    yield table(
        ("you see", "shown by", "causes"),
        ((code(it.words), code(it.shown_by), causes(it.words)) for it in rest.values()),
    )
    yield ""


def setups(rule: Rule) -> Iterator[tuple[str, ...]]:
    """Yield the rows of a rule of unit files: the broken line, the working one, why, the fix."""
    for setup in broken.OFFLINE[rule.id]:
        for found in findings(setup):
            works = setup.instead or "\n".join(missing(setup))
            lines = [code(text) or NO_LINE for text in (found.text, works)]
            cells = (*lines, found.because, code(str(found.fix)))
            yield tuple(map(mysite, cells))


def missing(setup: broken.Broken) -> list[str]:
    """Return the lines that the working twin has, but the broken setup has not."""
    had = {line for text in broken.units(setup).values() for line in text.splitlines()}
    works = [line for text in broken.twin(setup).values() for line in text.splitlines()]
    return [line for line in works if line not in had]


def findings(setup: broken.Broken) -> list[Finding]:
    """Return the doctor's findings on a broken setup, each kind once."""
    with tempfile.TemporaryDirectory() as directory:
        for name, text in broken.units(setup).items():
            Path(directory, name).write_text(text)
        found = [it for case in units.offline([directory]) for it in examine(Case(case))]
    return list({(it.text, it.because): it for it in found}.values())


def of_rule(rule: Rule) -> Iterator[str]:
    """Yield a rule's section."""
    yield f"### {heading(rule)}\n"
    yield f"{rule.why} Source: {rule.source}.\n"
    symptoms = SYMPTOMS[rule.id]
    kinds = {KINDS[it.kind]: None for it in symptoms if it.kind}
    lines = [f"- the front's line of [{it}](#{slug(it)})" for it in kinds]
    lines += [f"- {code(it.words)} in {code(it.shown_by)}" for it in symptoms if not it.kind]
    yield "You see:\n" if lines else "Nothing is printed.\n"
    yield from [*lines, ""] if lines else ()
    if not rule.is_live:
        yield table(("broken", "works", "because", "fix"), setups(rule)) + "\n"
        return
    rows = [
        (row.setup, f"… {row.because}", code(row.fix) if not row.fix.endswith(" ") else rule.fix)
        for row in LIVE
        if row.rule == rule.id
    ]
    if rule.id in SINGLE:
        rows.append((SINGLE[rule.id].setup, rule.why, rule.fix))
    yield table(("broken", "because", "fix"), rows) + "\n"


def slug(text: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")


def whole() -> str:
    """Return the page."""
    lines = [HEAD, *by_symptom()]
    for title, is_live in (("Unit files", False), ("The running system", True)):
        lines.append(f"## {title}\n")
        for rule in TABLE:
            if rule.is_live is is_live:
                lines += of_rule(rule)
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.exit(generated.main(DOCUMENT, whole()))
