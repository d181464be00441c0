"""Run steps, and undo those that were done where one fails."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from sdactivate.errors import Error

Say = Callable[[str], None]


class Step(NamedTuple):
    """One thing that is done, and how to take it back; undoing half of it, or twice, is fine."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None]


def carry_out(steps: Iterable[Step], say: Say) -> None:
    """Do the steps in their order.

    Raises Error, which names the step that failed and why, after it and those before it have
    been undone, or `say` has told what could not be; an interruption is told of and passed on
    after the same.
    """
    begun: list[Step] = []
    for step in steps:
        begun.append(step)
        try:
            say(step.name)
            step.do()
        except BaseException as error:
            end = "what had been done was undone"
            for back in reversed(begun):
                try:
                    back.undo()
                except (Error, OSError) as trouble:
                    say(f"could not undo '{back.name}': {trouble}")
                    end = "not all that had been done could be undone: see above"
            if isinstance(error, Error | OSError):
                raise Error(f"{step.name}: {error}; {end}") from error
            say(f"{step.name}: interrupted; {end}")
            raise
