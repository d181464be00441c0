"""Apply the fixes of findings that are safe, one by one, each shown first (doctor --fix).

Lines go into a drop-in of our own, NAME.d/zz-sdactivate-doctor.conf, so that nothing that
somebody wrote is touched and removing that file undoes them all. Its name comes after those that
people give theirs (systemctl edit: override.conf): the last one holds. Commands are run as shown.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from difflib import unified_diff
from pathlib import Path

from sdactivate.doctor.finding import Command, Finding, Fix, Lines
from sdactivate.errors import Error
from sdactivate.terminal import tell

_UNITS = Path("/etc/systemd/system")
_RELOAD = ("systemctl", "daemon-reload")
_PATIENCE = 300  # seconds; a restart waits for requests that are being served
_DROP_IN = "zz-sdactivate-doctor.conf"
_FIRST = "# Written by `sdactivate doctor --fix`; remove this file to undo it.\n"

Ask = Callable[[str], bool]


def apply(findings: Sequence[Finding], ask: Ask, units: Path = _UNITS) -> int:
    """Show each safe fix of `findings`, and apply those that `ask` says yes to.

    Returns how many were applied. What is shown goes to standard error. Sockets aren't restarted
    without being asked: where a drop-in changes one, the command that is left to run is said.
    Raises Error for a command that fails, and OSError where a drop-in can't be written.
    """
    applied: list[Fix] = []
    changed: dict[str, str] = {}
    try:
        for finding in findings:
            if finding.fix not in applied and _fix(finding, ask, units):
                applied.append(finding.fix)
                if isinstance(finding.fix, Lines):
                    changed[finding.fix.unit] = finding.then
    finally:  # what was written holds, whatever has failed after it
        if changed:
            run(_RELOAD)
        for unit, then in changed.items():
            effect = then.removeprefix(f"{Command(_RELOAD)} && ")
            tell(f"{unit} has changed; it takes effect with: {effect}")
    return len(applied)


def _fix(finding: Finding, ask: Ask, units: Path) -> bool:
    """Show what fixes one finding; apply it and return True if it is safe and agreed to."""
    about, fix = f"{finding.rule.id} {finding.subject}:", finding.fix
    if not fix.safe:
        tell(f"{about} left to you: {fix}")
    elif isinstance(fix, Lines):
        path, old, new = drop_in(fix, units)
        if new == old:
            tell(f"{about} {path} has it, but a later file differs")
            return False
        tell(f"{about}\n{diff(path, old, new)}")
        if ask("write it?"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(new, encoding="utf-8")
            return True
    elif isinstance(fix, Command):
        tell(f"{about} {fix}")
        if ask("run it?"):
            for argv in fix.steps:
                run(argv)
            return True
    return False


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
        said = done.stderr.decode(errors="replace").strip()
        raise Error(f"{command}: {said or f'exit {done.returncode}'}")


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
