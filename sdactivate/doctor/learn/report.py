"""The lessons as text: what was refused, at which line, what allows it, and its cost."""

from collections.abc import Iterator, Sequence

from sdactivate.doctor.learn.lessons import CAUGHT, Costs, Lesson
from sdactivate.sandbox import OPTIONS
from sdactivate.terminal import escape

STRANGERS = """\
Requests caused these refusals, and anyone who can reach the site can make requests: some may be an
attack that the sandbox has stopped. Allow none that you cannot explain. To see what the application
itself needs, watch a command of yours: --while 'python manage.py test'."""
AGAIN = (
    "One refusal may hide another: run it again after a change. Only what was used while watching "
    "is covered."
)


def as_text(lessons: Sequence[Lesson], costs: Costs, watched: str, by_requests: bool) -> str:
    """Return the report.

    watched: what was watched and how long, such as "mysite.service, 60 s". by_requests: whether
    requests caused the refusals; anyone may have sent them.
    """
    return "\n".join(_lines(lessons, costs, watched, by_requests)) + "\n"


def _lines(
    lessons: Sequence[Lesson], costs: Costs, watched: str, by_requests: bool
) -> Iterator[str]:
    ours = [it for it in lessons if it.answer.directive]
    needed = [it for it in ours if it.is_needed]
    rest = [it for it in ours if not it.is_needed]
    others = [it for it in lessons if not it.answer.directive]
    if not needed:
        yield f"{escape(watched)}: the sandbox refused nothing that seems to be needed"
    else:
        things = "one thing" if len(needed) == 1 else f"{len(needed)} things"
        yield f"{escape(watched)}: the sandbox refused {things}"
    for number, lesson in enumerate(needed, 1):
        yield ""
        yield from _one(number, lesson, costs)
    if rest:
        yield ""
        yield "Also refused, but the program continued. Leave these as they are:"
        for lesson in rest:
            option = f"; {lesson.answer.relax} allows it" if lesson.answer.relax else ""
            yield f"  {lesson.answer.directive}= {escape(lesson.what)}{escape(option)}"
            if lesson.is_handled:
                by = lesson.by_way_of or lesson.line
                yield f"    {escape(lesson.raised)} was handled by a library: {escape(by)}"
    if others:
        yield ""
        yield "Failed, but not because of the sandbox:"
        for lesson in others:
            by = f" ({', '.join(map(escape, lesson.processes))})" if lesson.processes else ""
            yield f"  {escape(lesson.what)}{by}"
            for text in (f"at {lesson.line}" if lesson.line else "", _fix(lesson)):
                if text:
                    yield f"    {escape(text)}"
    if needed:
        yield ""
        yield from (STRANGERS.split("\n") if by_requests else ())
        yield AGAIN


def _fix(lesson: Lesson) -> str:
    parts = [f"{lesson.answer.relax} helps" if lesson.answer.relax else "", lesson.answer.advice]
    return "; ".join(part for part in parts if part)


def _one(number: int, lesson: Lesson, costs: Costs) -> Iterator[str]:
    answer = lesson.answer
    times = "" if lesson.count == 1 else f" ({lesson.count} times)"
    yield f"{number}. {answer.directive}= does not allow the site {escape(lesson.what)}{times}"
    by = ", ".join(map(escape, lesson.processes))
    if lesson.calls:
        yield f"   call:     {escape(lesson.calls[0])}{f', by {by}' if by else ''}"
    if lesson.line:
        yield f"   line:     {escape(lesson.line)}, where {escape(lesson.raised)} was raised"
        if lesson.by_way_of:
            yield f"             through {escape(lesson.by_way_of)}"
    else:
        yield f"   line:     not known: {_why_not(lesson)}"
    if lesson.wanted:
        yield f"   wanted:   {escape(lesson.wanted)}"
    if answer.relax:
        row = OPTIONS[answer.relax.option]
        yield f"   allow it: {escape(answer.relax)}"
        yield f"   cost:     {_cost(lesson, costs)}{row.gives}"
        if answer.advice:
            yield f"   or:       {escape(answer.advice.removeprefix('or '))}"
    else:
        yield f"   instead:  {escape(answer.advice)}"


def _why_not(lesson: Lesson) -> str:
    if not lesson.calls:
        return "no system call shows it"
    if lesson.raised == CAUGHT:
        return "no exception followed"
    if any(not name.startswith(("python", "pypy")) for name in lesson.processes):
        return "another program made the call"
    return "no traceback in the journal has it; --while COMMAND finds more"


def _cost(lesson: Lesson, costs: Costs) -> str:
    if lesson.answer.relax not in costs:
        return ""
    before, after = costs[lesson.answer.relax]
    return f"exposure {before.overall} -> {after.overall}; "
