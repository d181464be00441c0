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
    to take effect; for lines of a unit it need not be said.
    """

    at: Entry | Unit | str
    because: str
    fix: Fix
    unit: str = ""
    then: str = ""


Check = Callable[[Case], Iterator[Hit]]

Severity = Literal["error", "warning", "note"]


class Rule(NamedTuple):
    """One row of `rules.TABLE`. `fix` says it in general; a finding has the exact line."""

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
