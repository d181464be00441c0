"""What a rule, a check, a finding and a fix are."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from sdactivate.doctor.units import Deployment
from sdactivate.systemd.unitfile import Entry, Unit

if TYPE_CHECKING:
    from sdactivate.doctor.asking import Visit
    from sdactivate.doctor.host_state import HostState


class Case(NamedTuple):
    """One deployment and, on a running system, its state there.

    visit: what a client got who asked the site's front for a page (--url), if one has asked.
    """

    deployment: Deployment
    host: "HostState | None" = None
    visit: "Visit | None" = None

    @property
    def service(self) -> Unit | None:
        """The service, if there is one."""
        return self.deployment.service

    @property
    def sockets(self) -> tuple[Unit, ...]:
        """Its sockets."""
        return self.deployment.sockets

    @property
    def running(self) -> "HostState":
        """The state of the running system. Only live rules use it, and they run only there."""
        assert self.host is not None
        return self.host


class Lines(NamedTuple):
    """A fix: lines for a unit. If `safe`, `doctor --fix` writes them as a drop-in."""

    unit: str
    section: str
    lines: tuple[str, ...]
    safe: bool = False

    def __str__(self) -> str:
        return f"in [{self.section}] of {self.unit}: " + ", ".join(self.lines)


class Command(NamedTuple):
    """A fix: a command. If `safe`, `doctor --fix` runs it. `first` is run before it."""

    argv: tuple[str, ...]
    safe: bool = False
    first: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[tuple[str, ...], ...]:
        """The commands to run, in order."""
        return (self.first, self.argv) if self.first else (self.argv,)

    def __str__(self) -> str:
        from shlex import join

        return " && ".join(map(join, self.steps))


def restart(unit: str, *, safe: bool = True) -> Command:
    """Return the command that restarts `unit`, the most common one."""
    return Command(("systemctl", "restart", unit), safe)


class Advice(NamedTuple):
    """A fix that needs a decision. It is shown, never applied."""

    text: str

    @property
    def safe(self) -> bool:
        """False: advice is never applied."""
        return False

    def __str__(self) -> str:
        return self.text


Fix = Lines | Command | Advice


class Hit(NamedTuple):
    """One place where a rule is broken.

    at: the line at fault; the unit, if a line is missing; or the name of another object of the
    running system. because: the reason, without a final full stop. unit: the deployment's unit
    whose comments can silence the finding, "" if that is `at`. then: the command that makes the
    fix take effect; not needed for lines of a unit. path: the file that the finding is about,
    such as the socket or the directory that denies access. `causes` compares it.
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
        """Whether the rule needs the running system."""
        return self.id >= "SDA100"


Place = tuple[str, str, str, str]
"""What distinguishes a finding from others: rule, subject, line at fault, file."""


class Finding(NamedTuple):
    """A broken rule: where, why, and what fixes it."""

    rule: Rule
    subject: str  # the unit or other object that it is about
    file: str  # "" if there is none
    line: int  # 0: the file as a whole
    text: str  # the line at fault, "" if a line is missing
    because: str
    fix: Fix
    then: str = ""  # the command that makes the fix take effect, if it needs one
    unit: str = ""  # the deployment's unit that it concerns, "" if that is the subject
    path: str = ""  # the file that it is about, "" if there is none
    because_of: tuple["Finding", ...] = ()  # its causes, the nearest first (`causes`)

    @property
    def depth(self) -> int:
        """How many findings are above it: 0 for one without a cause."""
        return 1 + self.because_of[0].depth if self.because_of else 0

    @property
    def place(self) -> Place:
        """What identifies it, even if its reason changes (counts, times)."""
        return self.rule.id, self.subject, self.text, self.path

    @property
    def name(self) -> str:
        """Its name in a sentence: SDA110 mysite.service."""
        return f"{self.rule.id} {self.subject}"
