"""Read Python's tracebacks, including chained ones, from the lines of a log.

A server logs a traceback as separate lines, some with a prefix ("ERROR:    Traceback …"), others
indented or, in an exception group, after a bar. Each traceback is a list of frames, followed by the
exception. If one exception was raised while another was handled, or from it, Python prints both,
the first one first, with a sentence between.

The functions depend only on the lines and take linear time. They accept any text.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_START = re.compile(r"Traceback \(most recent call last\):\s*$")
_FRAME = re.compile(r'\s*File "([^"]{1,4096})", line (\d{1,9})(?:, in (.{1,200}))?')
_EXCEPTION = re.compile(r"((?:[^\W\d]\w{0,99}\.){0,20}[^\W\d]\w{0,99})(?:: (.*))?$")
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_BAR = re.compile(r"^\s*(?:\+-[+-]*|\|)\s?")
_SAID = 300  # characters of an exception's message that are shown
_FRAMES = 2000  # lines that one traceback may have
PACKAGED = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d")
"""Matches the path of a file of Python or of an installed package."""
_LIBRARY = re.compile(rf"{PACKAGED.pattern}|/lib/pypy|/bin/[^/]+$|^<")

WRAPPERS = frozenset(
    ("SystemExit", "KeyboardInterrupt", "CancelledError", "GeneratorExit", "HaltServer",
     "BrokenPipeError", "WorkerShutdown", "WorkerTerminate", "BrokenProcessPool")
)  # fmt: skip
"""Exceptions that end a process or report that one has ended. They never give the reason."""
_UNRAISABLE = re.compile(r"Exception ignored (?:in|while)|Task exception was never retrieved|"
                         r"Exception in callback|Error in atexit|Error in sys\.excepthook"
                         )  # fmt: skip
"""Python's line before the traceback of an exception that it ignores."""


class Frame(NamedTuple):
    """Where something was called: a file, its line, and that line's text if it is printed."""

    file: str
    line: int
    text: str = ""
    function: str = ""

    @property
    def is_library(self) -> bool:
        """Whether it belongs to Python or a package, not to the site."""
        return _LIBRARY.search(self.file) is not None


class Raised(NamedTuple):
    """One exception: its class, its message's first line, and where it came from."""

    name: str
    message: str
    frames: tuple[Frame, ...]

    @property
    def short(self) -> str:
        """The class without its module."""
        return self.name.rpartition(".")[2]

    @property
    def place(self) -> Frame | None:
        """The nearest frame of the site's own code, None if there is none."""
        return next((it for it in reversed(self.frames) if not it.is_library), None)

    def __str__(self) -> str:
        return f"{self.short}: {self.message[:_SAID]}" if self.message else self.short


class Chain(NamedTuple):
    """A traceback as printed: its exceptions in order. The last one is what reached the top."""

    raised: tuple[Raised, ...]
    start: int
    """The index of its first line."""
    end: int
    """The index of its last line."""
    is_ignored: bool = False
    """Whether Python says that it ignored the exception."""

    @property
    def causes(self) -> tuple[Raised, ...]:
        """The exceptions that give a reason, without those that only end a process."""
        return tuple(it for it in self.raised if it.short not in WRAPPERS)

    def __str__(self) -> str:
        """The first exception that gives a reason, where it was raised, and the resulting one."""
        first, *more = self.causes or self.raised
        said = str(first)
        if place := first.place:
            said += f" ({place.file}, line {place.line}{f': {place.text}' if place.text else ''})"
        became = [it for it in more if (it.short, it.message) != (first.short, first.message)]
        return said + (f", which became {became[-1]}" if became else "")


def chains(lines: Sequence[str]) -> list[Chain]:
    """Return the tracebacks in `lines`, in their order."""
    found: list[Chain] = []
    at = 0
    while at < len(lines):
        if not _START.search(lines[at]):
            at += 1
            continue
        start, is_ignored = at, at > 0 and _UNRAISABLE.search(lines[at - 1]) is not None
        raised, at = _one(lines, at + 1)
        if raised is None:
            continue
        chain = found[-1] if found else None
        if chain and _is_continued(lines, chain.end + 1, start):
            found[-1] = chain._replace(raised=(*chain.raised, raised), end=at - 1)
        else:
            found.append(Chain((raised,), start, at - 1, is_ignored))
    return found


def _is_continued(lines: Sequence[str], start: int, end: int) -> bool:
    """Return whether one of Python's sentences follows a traceback at `start`, before another."""
    for line in lines[start : min(start + 4, end)]:
        if line.strip(" |+-").startswith(_CHAINED):
            return True
        if _START.search(line):
            return False
    return False


def _one(lines: Sequence[str], at: int) -> tuple[Raised | None, int]:
    """Return the exception of the traceback whose frames begin at `at`, and the index after it."""
    frames: list[Frame] = []
    last = min(len(lines), at + _FRAMES)
    while at < last:
        line = _BAR.sub("", lines[at])
        if _START.search(line):
            return None, at
        if frame := _FRAME.match(line):
            at += 1
            text = ""
            if at < last and not _FRAME.match(_BAR.sub("", lines[at])) and lines[at][:2].isspace():
                text = _BAR.sub("", lines[at]).strip()[:_SAID]
                at += 1
            frames.append(Frame(frame[1], int(frame[2]), text, frame[3] or ""))
        elif line[:1].isspace() or not line.strip() or not (found := _exception(line)):
            at += 1  # carets, "[Previous line repeated …]", lines of another thread
        else:
            return Raised(found[0], found[1], tuple(frames)), at + 1
    return None, at


def _exception(line: str) -> tuple[str, str] | None:
    """Return the class and the message of a line that ends a traceback; None for other lines."""
    if not (found := _EXCEPTION.match(line.rstrip())):
        return None
    name, message = found[1], (found[2] or "").strip()
    last = name.rpartition(".")[2]
    if last.isupper() or (found[2] is None and not last[0].isupper()):  # INFO: …; a word alone
        return None
    return name, message
