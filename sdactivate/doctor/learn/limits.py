"""Count the processes that the kernel killed at a unit's memory limit."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sdactivate.doctor.learn.causes import Answer, Relax

_SAID = "killed by the OOM killer"  # systemd 248 and later; also for a unit that has ended
_ALSO = "OOM killer killed some processes"


def killed(group: str) -> int:
    """Return how many processes of the control group at the path `group` were killed for memory.

    See cgroups(7), memory.events. 0 if there is no such group, or no memory controller.
    """
    try:
        lines = Path(group, "memory.events").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    numbers = (line.removeprefix("oom_kill ") for line in lines if line.startswith("oom_kill "))
    return next((int(number) for number in numbers if number.isdigit()), 0)


def told(lines: Iterable[str]) -> int:
    """Return 1 if systemd logged in a unit's `lines` that the kernel killed a process, else 0."""
    return int(any(_SAID in line or _ALSO in line for line in lines))


def answers(times: int, memory_max: str) -> Iterator[tuple[Answer, int]]:
    """Yield the answer and the number of kills if the kernel killed processes of the unit.

    memory_max: MemoryMax= of the unit as `systemctl show` has it, in bytes.
    """
    if times <= 0:
        return
    relax = None
    if memory_max.isascii() and memory_max.isdigit() and int(memory_max) < 1 << 60:
        relax = Relax("memory-max", f"{max(2 * int(memory_max) >> 20, 1)}M")
    advice = "or reduce its use of memory, which `systemctl status` shows"
    what = "to use more memory: the kernel killed a process at the limit"
    yield Answer("MemoryMax", what, relax, advice), times
