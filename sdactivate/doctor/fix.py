"""Apply safe fixes, one cause at a time, and look again after each (doctor --fix).

A command that ran has fixed nothing by that: the finding must be gone. So after each fix the
deployment is examined anew, and what counts is what is found then. A fix that has been applied is
never applied again, and what follows from a finding that is still there is left alone: its fix
would be undone by its cause. Only what the first look has found is touched, since that is what was
shown; what a fix has brought up is said.

Lines go into a drop-in of our own, NAME.d/zz-sdactivate-doctor.conf, so that nothing that
somebody wrote is touched and removing that file undoes them all. Its name comes after those that
people give theirs (systemctl edit: override.conf): the last one holds. Commands are run as shown.
"""

import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from difflib import unified_diff
from pathlib import Path

from sdactivate.doctor.finding import Command, Finding, Fix, Lines, Place
from sdactivate.errors import Error, said
from sdactivate.terminal import escape, tell

_UNITS = Path("/etc/systemd/system")
_RELOAD = ("systemctl", "daemon-reload")
_PATIENCE = 300  # seconds; a restart waits for requests that are being served
_DROP_IN = "zz-sdactivate-doctor.conf"
_FIRST = "# Written by `sdactivate doctor --fix`; remove this file to undo it.\n"

Ask = Callable[[str], bool]
Look = Callable[[], Sequence[Finding]]
"""Examine the same deployments anew."""


def apply(findings: Sequence[Finding], ask: Ask, look: Look, units: Path = _UNITS) -> int:
    """Show each safe fix of `findings`, and apply those that `ask` says yes to, causes first.

    findings: what is found, as `causes.arrange` has put it.
    look: finds anew, after each fix.
    units: where drop-ins go.

    Returns how many of `findings` are gone at the end. What is shown goes to standard error, the
    words of a command that fails included. Sockets aren't restarted without being asked: where a
    drop-in changes one, the command that is left to run is said. Raises what `look` raises.
    """
    first, now = {it.place for it in findings}, findings
    tried: list[Fix] = []
    changed: dict[str, str] = {}
    told: set[Place] = set()
    try:
        while finding := next((it for it in now if it.place in first - told), None):
            told.add(finding.place)
            if not _is_due(finding, now, tried) or not _fix(finding, ask, units, changed):
                continue
            tried.append(finding.fix)
            known = {it.place for it in now}
            now = look()
            _tell_outcome(finding, known & first, now)
    finally:  # what was written holds, whatever has failed after it
        for unit, effect in changed.items():
            _tell(f"{unit} has changed; it takes effect with: {effect}")
    for finding in now:
        if finding.place not in first:
            _tell(f"found now, and left as it is: {finding.name}: {finding.because}")
    left = {it.place for it in now}
    return sum(it.place not in left for it in findings)


def _is_due(finding: Finding, now: Sequence[Finding], tried: Sequence[Fix]) -> bool:
    """Whether nothing stands before this fix: no cause that is still found, no earlier try."""
    about, found = f"{finding.name}:", {it.place for it in now}
    if cause := next((it for it in finding.because_of if it.place in found), None):
        _tell(f"{about} left until {cause.name} is fixed, which explains it")
    elif finding.fix in tried:
        _tell(f"{about} its fix has been applied, and it is still there: {finding.fix}")
    else:
        return True
    return False


def _tell_outcome(finding: Finding, before: Collection[Place], now: Sequence[Finding]) -> None:
    """Say whether a finding is gone, and which of those that there were before are gone with it."""
    after = {it.place: it for it in now}
    if still := after.get(finding.place):
        _tell(f"{finding.name}: still there: {still.because}")
        return
    more = sorted(f"{it[0]} {it[1]}" for it in before if it not in after and it != finding.place)
    _tell(f"{finding.name}: gone" + (f", and with it {', '.join(more)}" if more else ""))


def _fix(finding: Finding, ask: Ask, units: Path, changed: dict[str, str]) -> bool:
    """Show what fixes one finding; apply it and return True if it is safe and agreed to.

    changed: gets the unit that lines were written for, and with which command they take effect.
    """
    about, fix = f"{finding.name}:", finding.fix
    try:
        if not fix.safe:
            _tell(f"{about} left to you: {fix}")
        elif isinstance(fix, Lines):
            path, old, new = drop_in(fix, units)
            if new == old:
                _tell(f"{about} {path} has it, but a later file differs")
                return False
            _tell(about)
            tell(diff(path, old, new))
            if ask("write it?"):
                path.parent.mkdir(exist_ok=True)
                path.write_text(new, encoding="utf-8")
                changed[fix.unit] = finding.then.removeprefix(f"{Command(_RELOAD)} && ")
                run(_RELOAD)
                return True
        elif isinstance(fix, Command):
            _tell(f"{about} {fix}")
            if ask("run it?"):
                for argv in fix.steps:
                    run(argv)
                return True
    except (Error, OSError) as error:
        _tell(f"{about} failed: {said(error)}")
    return False


def _tell(line: str) -> None:
    """Print one line: a newline in the name of a file begins no other, which would be believed."""
    tell(escape(line))


def drop_in(fix: Lines, units: Path = _UNITS) -> tuple[Path, str, str]:
    """Return the drop-in for `fix`, what it holds now, and what it would hold.

    The two are equal where it has these lines already: another file, read later, overrides them.
    """
    path = units / f"{fix.unit}.d" / _DROP_IN
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    section = f"[{fix.section}]\n" + "".join(f"{line}\n" for line in fix.lines)
    return path, old, old if section in old else (old or _FIRST) + "\n" + section


def diff(path: Path, old: str, new: str) -> str:
    """Return the unified diff of a drop-in, as it is and as it would be."""
    before = str(path) if old else "/dev/null"
    lines = unified_diff(old.splitlines(True), new.splitlines(True), before, str(path))
    return "".join(lines)


def run(argv: Sequence[str]) -> None:
    """Run a command; Error with its own words where it fails."""
    command = Command(tuple(argv))
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=_PATIENCE)  # noqa: S603
    except FileNotFoundError:
        raise Error(f"{command}: {argv[0]} isn't installed here; install it, then again") from None
    except subprocess.TimeoutExpired:
        raise Error(f"{command}: it has not ended within {_PATIENCE} seconds") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise Error(f"{command}: {words or f'exit {done.returncode}'}")


def asker(*, yes: bool) -> Ask:
    """Return how to ask: not at all with --yes, else at the terminal; without one, no is said."""
    if yes:
        return lambda _: True
    if not sys.stdin.isatty():
        tell("there is no terminal to ask at: nothing is changed without --yes")
        return lambda _: False
    return _asked


def _asked(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
