"""What a rule, a check, a finding and a fix are."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from sdactivate.doctor.units import Deployment
from sdactivate.systemd.unitfile import Entry, Unit

if TYPE_CHECKING:
    from sdactivate.doctor.host_state import HostState


class Case(NamedTuple):
    """One deployment and, on a running system, what is known of it there."""

    deployment: Deployment
    host: "HostState | None" = None

    @property
    def service(self) -> Unit | None:
        """The service, where there is one."""
        return self.deployment.service

    @property
    def sockets(self) -> tuple[Unit, ...]:
        """Its sockets."""
        return self.deployment.sockets

    @property
    def running(self) -> "HostState":
        """What is known of the running system: for live rules, which run only where it is."""
        assert self.host is not None
        return self.host


class Lines(NamedTuple):
    """A fix: lines for a unit. `doctor --fix` writes them as a drop-in where `safe`."""

    unit: str
    section: str
    lines: tuple[str, ...]
    safe: bool = False

    def __str__(self) -> str:
        return f"in [{self.section}] of {self.unit}: " + ", ".join(self.lines)


class Command(NamedTuple):
    """A fix: a command. `doctor --fix` runs it where `safe`. `first` is run before it."""

    argv: tuple[str, ...]
    safe: bool = False
    first: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """What is run, in order."""
        return (self.first, self.argv) if self.first else (self.argv,)

    def __str__(self) -> str:
        from shlex import join

        return " && ".join(map(join, self.steps))


def restart(unit: str, *, safe: bool = True) -> Command:
    """Return the commonest command: what restarts `unit`."""
    return Command(("systemctl", "restart", unit), safe)


class Advice(NamedTuple):
    """A fix that needs a decision: said, never applied."""

    text: str

    @property
    def safe(self) -> bool:
        """Never: nothing is applied."""
        return False

    def __str__(self) -> str:
        return self.text


Fix = Lines | Command | Advice


class Hit(NamedTuple):
    """One place where a rule is broken.

    `at` is the line at fault, or the unit where a line is missing, or the name of what it is
    about on a running system. `because` is one sentence. `unit` is the deployment's unit that
    can silence it, "" where `at` is that unit. `then` is the command that a fix needs after it
    to take effect; for lines of a unit it need not be said. `path` is the file that it is about:
    the socket's, or the directory or program that refuses. `causes` goes by it.
    """

    at: Entry | Unit | str
    because: str
    fix: Fix
    unit: str = ""
    then: str = ""
    path: str = ""


Check = Callable[[Case], Iterator[Hit]]

Severity = Literal["error", "warning", "note"]


class Rule(NamedTuple):
    """One row of `rules.TABLE`. `fix` is a general instruction; a finding has the exact line."""

    id: str
    severity: Severity
    what: str
    why: str
    source: str
    fix: str
    check: Check

    @property
    def is_live(self) -> bool:
        """Whether it needs the running system."""
        return self.id >= "SDA100"


Place = tuple[str, str, str, str]
"""What tells a finding from others: its rule, its subject, the line at fault, the file."""


class Finding(NamedTuple):
    """A rule that is broken, where, why, and what fixes it."""

    rule: Rule
    subject: str  # the unit, or what else it is about
    file: str  # "" where there is none
    line: int  # 0: the file as a whole
    text: str  # the line at fault, "" where one is missing
    because: str
    fix: Fix
    then: str = ""  # the command with which the fix takes effect, where it needs one
    unit: str = ""  # the deployment's unit that it concerns, "" where that is the subject
    path: str = ""  # the file that it is about, "" where there is none
    because_of: tuple["Finding", ...] = ()  # what explains it, the nearest first (`causes`)

    @property
    def depth(self) -> int:
        """How many findings lie above it: 0 for one that nothing explains."""
        return 1 + self.because_of[0].depth if self.because_of else 0

    @property
    def place(self) -> Place:
        """What tells it from other findings, and stays while its reason changes: counts, times."""
        return self.rule.id, self.subject, self.text, self.path

    @property
    def name(self) -> str:
        """What to call it in a sentence: SDA110 mysite.service."""
        return f"{self.rule.id} {self.subject}"
