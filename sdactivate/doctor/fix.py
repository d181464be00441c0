"""Apply safe fixes, one cause at a time, and examine again after each (doctor --fix).

A successful command proves nothing: the finding has to be gone. So after each fix the deployment is
examined again, and that result counts. No fix is applied twice. Consequences of a finding that is
still there are not fixed, because the cause would undo the fix. Only findings of the first
examination are fixed, because only those were shown; new findings after a fix are reported.

Lines go into a separate drop-in, NAME.d/zz-sdactivate-doctor.conf, so that no existing file is
changed and removing this file undoes them all. Its name sorts after the usual ones (systemctl edit:
override.conf), so that it overrides them. Commands are run as shown.
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
"""Examines the same deployments again."""


def apply(findings: Sequence[Finding], ask: Ask, look: Look, units: Path = _UNITS) -> int:
    """Show each safe fix of `findings`, and apply those that `ask` says yes to, causes first.

    findings: in the order of `causes.arrange`.
    look: examines again, after each fix.
    units: the directory for drop-ins.

    Returns how many of `findings` are gone at the end. Output goes to standard error, including the
    error of a command that fails. Sockets are not restarted: if a drop-in changes one, the command
    that makes the change take effect is printed. Errors of `look` are passed on.
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
    finally:  # what was written has to be loaded, even if a later step failed
        for unit, effect in changed.items():
            _tell(f"{unit} has changed; to apply it, run: {effect}")
    for finding in now:
        if finding.place not in first:
            _tell(f"new finding, not fixed: {finding.name}: {finding.because}")
    left = {it.place for it in now}
    return sum(it.place not in left for it in findings)


def _is_due(finding: Finding, now: Sequence[Finding], tried: Sequence[Fix]) -> bool:
    """Return whether a fix may be applied: its causes are gone, and it was not tried before."""
    about, found = f"{finding.name}:", {it.place for it in now}
    if cause := next((it for it in finding.because_of if it.place in found), None):
        _tell(f"{about} not fixed before its cause: {cause.name}")
    elif finding.fix in tried:
        _tell(f"{about} still there, although its fix was applied: {finding.fix}")
    else:
        return True
    return False


def _tell_outcome(finding: Finding, before: Collection[Place], now: Sequence[Finding]) -> None:
    """Print whether a finding is gone, and which others disappeared with it."""
    after = {it.place: it for it in now}
    if still := after.get(finding.place):
        _tell(f"{finding.name}: still there: {still.because}")
        return
    more = sorted(f"{it[0]} {it[1]}" for it in before if it not in after and it != finding.place)
    _tell(f"{finding.name}: gone" + (f", and with it {', '.join(more)}" if more else ""))


def _fix(finding: Finding, ask: Ask, units: Path, changed: dict[str, str]) -> bool:
    """Show what fixes one finding; apply it and return True if it is safe and agreed to.

    changed: gets each unit that lines were written for, with the command that makes them take
    effect.
    """
    about, fix = f"{finding.name}:", finding.fix
    try:
        if not fix.safe:
            _tell(f"{about} fix it by hand: {fix}")
        elif isinstance(fix, Lines):
            path, old, new = drop_in(fix, units)
            if new == old:
                _tell(f"{about} {path} has it, but a file that is read later overrides it")
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
    """Print one line. Newlines are escaped, so that a file name can't forge another line."""
    tell(escape(line))


def drop_in(fix: Lines, units: Path = _UNITS) -> tuple[Path, str, str]:
    """Return the drop-in for `fix`, its present contents, and its new contents.

    Both are equal if it has these lines already: then a file that is read later overrides them.
    """
    path = units / f"{fix.unit}.d" / _DROP_IN
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    section = f"[{fix.section}]\n" + "".join(f"{line}\n" for line in fix.lines)
    return path, old, old if section in old else (old or _FIRST) + "\n" + section


def diff(path: Path, old: str, new: str) -> str:
    """Return the unified diff from the drop-in's present contents to the new ones."""
    before = str(path) if old else "/dev/null"
    lines = unified_diff(old.splitlines(True), new.splitlines(True), before, str(path))
    return "".join(lines)


def run(argv: Sequence[str]) -> None:
    """Run a command. Raises Error with the command's standard error if it fails."""
    command = Command(tuple(argv))
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=_PATIENCE)  # noqa: S603
    except FileNotFoundError:
        raise Error(f"{command}: {argv[0]} isn't installed: install it and try again") from None
    except subprocess.TimeoutExpired:
        raise Error(f"{command}: still running after {_PATIENCE} seconds") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise Error(f"{command}: {words or f'exit {done.returncode}'}")


def asker(*, yes: bool) -> Ask:
    """Return the function that asks.

    With --yes it answers yes without asking; otherwise it asks at the terminal. Without a terminal
    it answers no.
    """
    if yes:
        return lambda _: True
    if not sys.stdin.isatty():
        tell("standard input is not a terminal: nothing is changed without --yes")
        return lambda _: False
    return _asked


def _asked(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
