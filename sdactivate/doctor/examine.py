"""Run the rules over a deployment, and leave out findings that are silenced."""

from collections.abc import Collection, Iterable

from sdactivate.doctor.finding import Case, Finding, Hit, Lines, Rule
from sdactivate.doctor.rules import BY_ID, TABLE
from sdactivate.errors import Error, UsageError, said
from sdactivate.suggest import meant
from sdactivate.systemd.unitfile import Entry, Unit


def examine(
    case: Case, ignored: Collection[str] = (), troubles: list[str] | None = None
) -> list[Finding]:
    """Return what is wrong with `case`, in the order of the table.

    `ignored` are rules to leave out. So are those that a comment silences: in the unit that the
    finding is about, or, where it is about the front or another service, in the socket unit that
    these connect to.

    A rule that can't be checked (a file or a process that refuses to be read) does not keep the
    others from it: a line about it is added to `troubles`. Without `troubles` its Error or OSError
    is raised. Raises UsageError for a rule that doesn't exist.
    """
    check_ids(ignored)
    silenced = {
        (ignore.rule, unit.name) for unit in case.deployment.units for ignore in unit.ignores
    }
    return [
        finding
        for rule in TABLE
        if rule.id not in ignored and (case.host is not None or not rule.is_live)
        for hit in _hits(rule, case, troubles)
        if (finding := _finding(rule, hit, case))
        and (rule.id, hit.unit or finding.subject) not in silenced
    ]


def _hits(rule: Rule, case: Case, troubles: list[str] | None) -> list[Hit]:
    try:
        return list(rule.check(case))
    except (Error, OSError) as error:
        if troubles is None:
            raise
        troubles.append(f"{case.deployment.name}: {rule.id} can't be checked: {said(error)}")
        return []


def check_ids(ids: Iterable[str]) -> None:
    """Raise UsageError if one of `ids` is not a rule."""
    for name in ids:
        if name not in BY_ID:
            raise UsageError(_no_such(name))


def misnamed(case: Case) -> list[str]:
    """Return what is to be said of comments in units that silence a rule which doesn't exist."""
    return [
        f"{ignore.file}:{ignore.line}: {_no_such(ignore.rule)}"
        for unit in case.deployment.units
        for ignore in unit.ignores
        if ignore.rule not in BY_ID
    ]


def _no_such(name: str) -> str:
    number = f"SDA{''.join(filter(str.isdecimal, name))[-3:]:0>3}"
    near = meant(number if number in BY_ID else name.upper(), BY_ID, "docs/doctor.md lists them")
    return f"{name}: there is no such rule; {near}"


def _effect(unit: str, case: Case) -> str:
    """The commands with which changed lines of a running system's unit take effect."""
    # A socket unit isn't started while its service runs.
    service = case.service.name if case.service and unit.endswith(".socket") else ""
    stop = f"systemctl stop {service} && " if service else ""
    return f"systemctl daemon-reload && {stop}systemctl restart {unit}"


def _finding(rule: Rule, hit: Hit, case: Case) -> Finding:
    subject, file, line, text = _place(hit.at, case)
    then = hit.then
    if isinstance(hit.fix, Lines) and case.host is not None:
        then = _effect(hit.fix.unit, case)
    return Finding(rule, subject, file, line, text, hit.because, hit.fix, then)


def _place(at: Entry | Unit | str, case: Case) -> tuple[str, str, int, str]:
    if isinstance(at, Entry):
        unit = next(unit for unit in case.deployment.units if at in unit.entries)
        return unit.name, at.file, at.line, str(at)
    if isinstance(at, Unit):
        return at.name, at.files[0] if at.files else "", 0, ""
    return at, "", 0, ""
