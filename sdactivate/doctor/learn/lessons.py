"""Turn observed refusals into a list: one lesson for all refusals with the same answer."""

import errno
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sdactivate.doctor.exposure import Exposure
from sdactivate.doctor.learn import tracebacks
from sdactivate.doctor.learn.causes import Answer, Relax, explain, text_of
from sdactivate.doctor.learn.facts import Look, Sandbox
from sdactivate.doctor.learn.watch import Seen
from sdactivate.sandbox import OPTIONS

_NUMBERS = {name: number for number, name in errno.errorcode.items()}

_TOGETHER = ("ProcSubset", "ProtectHome", "ProtectProc")
"""Directives whose refusals differ only by the file."""
_SHOWN = 4

UNKNOWN, CAUGHT = "", "none raised"


@dataclass
class Lesson:
    """One thing that was refused, once or several times."""

    answer: Answer
    whats: list[str] = field(default_factory=list)
    """What was refused. Refusals with the same directive and the same option are collected here."""
    count: int = 0
    calls: list[str] = field(default_factory=list)
    """Examples, as strace shows them."""
    processes: list[str] = field(default_factory=list)
    raised: str = UNKNOWN
    """The Python exception that the refusal raised.

    CAUGHT: none was raised, and the program went on.
    """
    frames: tuple[str, ...] = ()
    is_handled: bool = False
    """Whether a library handled every such exception, so that none reached the site's code."""
    wanted: str = ""

    @property
    def what(self) -> str:
        """What was refused, in words."""
        more = f" and {len(self.whats) - _SHOWN} more" if len(self.whats) > _SHOWN else ""
        shown = self.whats[:_SHOWN]
        begin = "to read "
        if all(it.startswith(begin) for it in shown):
            return begin + ", ".join(it.removeprefix(begin) for it in shown) + more
        return ", ".join(shown) + more

    @property
    def is_needed(self) -> bool:
        """Whether the application seems to need it: there is no sign that it can do without."""
        return not (self.answer.is_probe or self.is_handled or self.raised == CAUGHT)

    @property
    def line(self) -> str:
        """The line of the site's Python behind it, FILE:LINE in FUNCTION; "" if unknown."""
        if not self.frames:
            return ""
        return tracebacks.words(tracebacks.of_the_site(self.frames) or self.frames[0])

    @property
    def by_way_of(self) -> str:
        """The line of a library that made the call, if that is a different one."""
        if not self.frames:
            return ""
        inner = tracebacks.words(self.frames[0])
        return inner if inner != self.line else ""


def learn(
    seen: Iterable[Seen],
    unit: Sandbox,
    look: Look,
    logged: Sequence[tracebacks.Traceback] = (),
    *,
    counted: Iterable[tuple[Answer, int]] = (),
    hooked: bool,
) -> list[Lesson]:
    """Return a lesson for each thing that was refused in `seen`.

    Those of the sandbox come first, and of these the needed ones. logged: tracebacks that the
    service has logged meanwhile. hooked: whether hook.py was in the Python processes, so that a
    refusal without an exception is known to have raised none. counted: refusals that no call shows,
    with their number: see `limits`.
    """
    made: dict[object, Lesson] = {it: Lesson(it, [it.what], times) for it, times in counted}
    for one in seen:
        answer = explain(one.call, unit, look)
        if answer is None:
            continue
        apart = "" if answer.directive in _TOGETHER else answer.what
        key = (answer.directive, apart, answer.relax, answer.is_probe)
        lesson = made.setdefault(key, Lesson(answer))
        if answer.what not in lesson.whats:
            lesson.whats.append(answer.what)
        lesson.count += one.count
        if len(lesson.calls) < 5:
            lesson.calls.append(text_of(one.call))
        if one.process and one.process not in lesson.processes:
            lesson.processes.append(one.process)
        lesson.wanted = lesson.wanted or one.wanted
        number = _NUMBERS.get(one.call.errno, 0)
        if one.raised:
            raised, frames = one.raised, one.lines
        elif found := tracebacks.behind(one.call, number, logged):
            raised, frames = found.kind, found.frames
        else:
            raised = CAUGHT if hooked and one.process.startswith(("python", "pypy")) else UNKNOWN
            frames = ()
        handled = hooked and bool(one.raised) and not one.has_reached_site
        if frames and (not lesson.frames or (lesson.is_handled and not handled)):
            lesson.raised, lesson.frames, lesson.is_handled = raised, frames, handled
        elif lesson.raised == UNKNOWN and lesson.count == one.count:
            lesson.raised = raised
        elif raised == UNKNOWN and lesson.raised == CAUGHT:
            lesson.raised = UNKNOWN
    return sorted(
        made.values(),
        key=lambda it: (not it.answer.directive, not it.is_needed, not it.frames, -it.count),
    )


def reliefs(lessons: Iterable[Lesson]) -> list[Relax]:
    """Return the options that the needed lessons ask for, each once.

    --network replaces its local form. Of two paths, one inside the other, the outer is returned.
    """
    asked = list(
        dict.fromkeys(it.answer.relax for it in lessons if it.is_needed and it.answer.relax)
    )
    if any(it.option == "network" for it in asked):
        asked = [it for it in asked if it.option != "network-local"]
    return [
        it
        for it in asked
        if it.option != "writable"
        or not any(
            other.option == "writable"
            and it != other
            and it.value.startswith(f"{other.value.rstrip('/')}/")
            for other in asked
        )
    ]


Costs = Mapping[Relax | None, tuple[Exposure, Exposure]]
"""For each option: the exposure of the unit without it, and with it."""


def as_data(lessons: Iterable[Lesson], costs: Costs, watched: str, by_requests: bool) -> object:
    """Return the lessons as data for JSON; docs/learn.md describes the fields."""
    return {
        "watched": watched,
        "provoked_by": "requests" if by_requests else "command",
        "refusals": [
            {
                "what": it.whats,
                "directive": it.answer.directive or None,
                "is_sandbox": bool(it.answer.directive),
                "needed": it.is_needed,
                "count": it.count,
                "processes": it.processes,
                "calls": it.calls,
                "exception": it.raised if it.frames else None,
                "line": it.line or None,
                "frames": list(it.frames),
                "wanted": it.wanted or None,
                "option": str(it.answer.relax) if it.answer.relax else None,
                "gives": OPTIONS[it.answer.relax.option].gives if it.answer.relax else None,
                "exposure": [each.overall for each in costs[it.answer.relax]]
                if it.answer.relax in costs
                else None,
                "advice": it.answer.advice or None,
            }
            for it in lessons
        ],
    }
