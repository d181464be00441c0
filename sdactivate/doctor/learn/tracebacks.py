"""Find the line of Python that caused a refusal, in the tracebacks of a service's log."""

import re
import sysconfig
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sdactivate.doctor.learn.calls import Call
from sdactivate.doctor.tracebacks import PACKAGED, chains

_ERRNO = re.compile(r"(?:\[Errno (\d+)\] )?(.*)")


class Traceback(NamedTuple):
    """One traceback of a log."""

    frames: tuple[str, ...]
    """FILE:LINE:FUNCTION, the innermost first."""
    kind: str
    """The exception's class."""
    errno: int
    """0 if it has none."""
    text: str


def read(lines: Iterable[str]) -> list[Traceback]:
    """Return the tracebacks in the lines of a log, in their order: one for each exception."""
    found: list[Traceback] = []
    for raised in (it for chain in chains(list(lines)) for it in chain.raised):
        frames = [f"{it.file}:{it.line}:{it.function}" for it in raised.frames if it.function]
        if frames and raised.message and (error := _ERRNO.fullmatch(raised.message)):
            number = int(error[1][:6]) if error[1] else 0
            found.append(Traceback(tuple(reversed(frames)), raised.short, number, error[2]))
    return found


def behind(call: Call, number: int, tracebacks: Sequence[Traceback]) -> Traceback | None:
    """Return the traceback of `call`, which failed with errno `number`; None if none matches.

    A traceback matches if it has that number and names no file, or a file of the call.
    """
    for one in tracebacks:
        if one.errno != number:
            continue
        named = re.search(r": b?(['\"])(.+?)\1", one.text)
        if named and not any(_same(named[2], path) for path in call.paths):
            continue
        return one
    return None


def _same(named: str, path: str) -> bool:
    return path == named or path.endswith("/" + named.removeprefix("./"))


_OWN = tuple(path for name in ("stdlib", "platstdlib") if (path := sysconfig.get_paths().get(name)))


def of_the_site(frames: Sequence[str]) -> str:
    """Return the innermost frame of the site's own code, not a library's; "" if there is none."""
    for frame in frames:
        if not PACKAGED.search(frame) and not frame.startswith((*_OWN, "<")):
            return frame
    return ""


def words(frame: str) -> str:
    """Return a frame for people: FILE:LINE in FUNCTION."""
    place, _, function = frame.rpartition(":")
    return f"{place} in {function}" if place else frame
