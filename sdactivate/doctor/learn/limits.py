"""Count the processes that the kernel killed at a unit's memory limit."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sdactivate.doctor.learn.causes import Answer, Relax

_SAID = "killed by the OOM killer"  # systemd from 248 on; so says the unit that has ended, too
_ALSO = "OOM killer killed some processes"


def killed(group: str) -> int:
    """Return how many processes of the control group at the path `group` were killed for memory.

    See cgroups(7), memory.events. 0 where there is no such group, or no controller for it.
    """
    try:
        lines = Path(group, "memory.events").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    numbers = (line.removeprefix("oom_kill ") for line in lines if line.startswith("oom_kill "))
    return next((int(number) for number in numbers if number.isdigit()), 0)


def told(lines: Iterable[str]) -> int:
    """Return 1 where systemd says in the log `lines` of a unit that the kernel killed in it."""
    return int(any(_SAID in line or _ALSO in line for line in lines))


def answers(times: int, memory_max: str) -> Iterator[tuple[Answer, int]]:
    """Yield the lines to print if the kernel killed this many processes.

    memory_max: MemoryMax= of the unit as `systemctl show` has it, in bytes.
    """
    if times <= 0:
        return
    relax = None
    if memory_max.isascii() and memory_max.isdigit() and int(memory_max) < 1 << 60:
        relax = Relax("memory-max", f"{max(2 * int(memory_max) >> 20, 1)}M")
    advice = "or have it take less: `systemctl status` says what it takes"
    what = "memory: the kernel has killed a process for want of it"
    yield Answer("MemoryMax", what, relax, advice), times
