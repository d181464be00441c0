"""What a check is given, what it finds, and what mends it."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from sdactivate.doctor.units import Deployment
from sdactivate.systemd.unitfile import Entry, Unit

if TYPE_CHECKING:
    from sdactivate.doctor.host_state import Facts


class Case(NamedTuple):
    """One deployment and, on a running system, what is known of it there."""

    deployment: Deployment
    facts: "Facts | None" = None

    @property
    def service(self) -> Unit | None:
        """The service, where there is one."""
        return self.deployment.service

    @property
    def sockets(self) -> tuple[Unit, ...]:
        """Its sockets."""
        return self.deployment.sockets

    @property
    def running(self) -> "Facts":
        """What is known of the running system: for live rules, which run only where it is."""
        assert self.facts is not None
        return self.facts


class Lines(NamedTuple):
    """A remedy: lines for a unit. `doctor --fix` writes them as a drop-in where `safe`."""

    unit: str
    section: str
    lines: tuple[str, ...]
    safe: bool = False

    def __str__(self) -> str:
        return f"in [{self.section}] of {self.unit}: " + ", ".join(self.lines)


class Command(NamedTuple):
    """A remedy: a command. `doctor --fix` runs it where `safe`. `first` is run before it."""

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
    """A remedy that needs a decision: said, never applied."""

    text: str

    @property
    def safe(self) -> bool:
        """Never: nothing is applied."""
        return False

    def __str__(self) -> str:
        return self.text


Remedy = Lines | Command | Advice


class Hit(NamedTuple):
    """One place where a rule is broken.

    `at` is the line at fault, or the unit where a line is missing, or the name of what it is
    about on a running system. `because` is one sentence. `unit` is the deployment's unit that
    can silence it, "" where `at` is that unit. `then` is the command that a remedy needs after it
    to take effect; for lines of a unit it need not be said.
    """

    at: Entry | Unit | str
    because: str
    remedy: Remedy
    unit: str = ""
    then: str = ""


Check = Callable[[Case], Iterator[Hit]]
