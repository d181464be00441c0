"""Run the rules on a deployment, and leave out silenced findings."""

from collections.abc import Collection, Iterable

from sdactivate.doctor.causes import arrange
from sdactivate.doctor.finding import Case, Command, Finding, Hit, Lines, Rule, restart
from sdactivate.doctor.rules import BY_ID, TABLE
from sdactivate.errors import Error, UsageError, said
from sdactivate.suggest import meant
from sdactivate.systemd.unitfile import Entry, Unit


def examine(
    case: Case, ignored: Collection[str] = (), troubles: list[str] | None = None
) -> list[Finding]:
    """Return what is wrong with `case`: causes before their effects (`causes.arrange`).

    ignored: rules to leave out. A comment leaves out a rule too: in the unit that the finding is
    about, or, for a finding about the front or another service, in the socket unit to which these
    connect.

    If a rule can't be checked because a file or a process can't be read, a line about that is added
    to `troubles`, and the other rules are checked. Without `troubles` its Error or OSError is
    raised. Raises UsageError for a rule that doesn't exist.
    """
    check_ids(ignored)
    silenced = {
        (ignore.rule, unit.name) for unit in case.deployment.units for ignore in unit.ignores
    }
    return arrange(
        [
            finding
            for rule in TABLE
            if rule.id not in ignored and (case.host is not None or not rule.is_live)
            for hit in _hits(rule, case, troubles)
            if (finding := _finding(rule, hit, case))
            and (rule.id, finding.unit or finding.subject) not in silenced
        ]
    )


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
    """Return a line for each comment in a unit that silences a rule which doesn't exist."""
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
    """Return the command that makes changed lines of a unit take effect on a running system."""
    return f"systemctl daemon-reload && {_restart(unit, case)}"


def _restart(unit: str, case: Case) -> Command:
    # systemd doesn't start a socket unit while its service is running.
    is_socket = unit.endswith(".socket")
    stop = ("systemctl", "stop", case.service.name) if is_socket and case.service else ()
    return restart(unit, safe=is_socket)._replace(first=stop)


def _finding(rule: Rule, hit: Hit, case: Case) -> Finding:
    subject, file, line, text = _place(hit.at, case)
    fix, then = hit.fix, hit.then
    if isinstance(fix, Lines) and case.host is not None:
        then = _effect(fix.unit, case)
        if _holds_already(fix, case):
            # Writing them again would change nothing: the running unit is older than its files.
            fix, then = _restart(fix.unit, case), ""
    return Finding(rule, subject, file, line, text, hit.because, fix, then, hit.unit, hit.path)


def _holds_already(fix: Lines, case: Case) -> bool:
    """Return whether the unit has all lines of a fix. The last line of each key counts."""
    unit = next((it for it in case.deployment.units if it.name == fix.unit), None)
    wanted = [line.partition("=") for line in fix.lines if not line.endswith("=")]
    return unit is not None and all(
        value in unit.words(key, fix.section)
        if key in ("Environment", "Requires", "After")
        else unit.value(key, section=fix.section) == value
        for key, _, value in wanted
    )


def _place(at: Entry | Unit | str, case: Case) -> tuple[str, str, int, str]:
    if isinstance(at, Entry):
        unit = next(unit for unit in case.deployment.units if at in unit.entries)
        return unit.name, at.file, at.line, str(at)
    if isinstance(at, Unit):
        return at.name, at.files[0] if at.files else "", 0, ""
    return at, "", 0, ""
