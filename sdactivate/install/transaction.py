"""Run steps, and undo them if one fails."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from sdactivate.errors import Error

Say = Callable[[str], None]


class Step(NamedTuple):
    """One action, and how to undo it. `undo` must also work after half of it, and twice."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None]


def carry_out(steps: Iterable[Step], say: Say) -> None:
    """Do the steps in order.

    If one fails, it and those before it are undone; `say` gets what could not be undone. Then
    Error is raised, which names the step that failed and why. An interruption is undone and
    reported in the same way, and raised again.
    """
    begun: list[Step] = []
    for step in steps:
        begun.append(step)
        try:
            say(step.name)
            step.do()
        except BaseException as error:
            end = "all changes were undone"
            for back in reversed(begun):
                try:
                    back.undo()
                except (Error, OSError) as trouble:
                    say(f"could not undo '{back.name}': {trouble}")
                    end = "not all changes could be undone: see above"
            if isinstance(error, Error | OSError):
                raise Error(f"{step.name}: {error}; {end}") from error
            say(f"{step.name}: interrupted; {end}")
            raise
