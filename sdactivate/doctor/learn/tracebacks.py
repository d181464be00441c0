"""Find the line of Python behind a refusal in what a service has logged: its tracebacks."""

import re
import sysconfig
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sdactivate.doctor.learn.calls import Call

_FRAME = re.compile(r'\s*File "([^"]+)", line (\d+), in (\S+)')
_ERROR = re.compile(r"\s*([A-Za-z_][\w.]*): (?:\[Errno (\d+)\] )?(.*)")
_BEGIN = re.compile(r"\s*Traceback \(most recent call last\):")


class Traceback(NamedTuple):
    """One traceback of a log."""

    frames: tuple[str, ...]
    """FILE:LINE:FUNCTION, the innermost first."""
    kind: str
    """The exception's class."""
    errno: int
    """0 where it has none."""
    text: str


def read(lines: Iterable[str]) -> list[Traceback]:
    """Return the tracebacks in the lines of a log, in their order."""
    found: list[Traceback] = []
    frames: list[str] | None = None
    for line in lines:
        if _BEGIN.match(line):
            frames = []
        elif frames is None:
            continue
        elif frame := _FRAME.match(line):
            frames.append(f"{frame[1]}:{frame[2]}:{frame[3]}")
        elif frames and (error := _ERROR.fullmatch(line)) and not line.startswith("    "):
            number = int(error[2][:6]) if error[2] else 0
            kind = error[1].rpartition(".")[2]
            found.append(Traceback(tuple(reversed(frames)), kind, number, error[3]))
            frames = None
    return found


def behind(call: Call, number: int, tracebacks: Sequence[Traceback]) -> Traceback | None:
    """Return the traceback of `call`, which failed with errno `number`; None where none fits.

    It has that number, and, where it names a file, one of the call's.
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


_LIBRARIES = re.compile(r"/(?:site|dist)-packages/|/lib(?:64)?/python\d|/lib-dynload/")
_OWN = tuple(path for name in ("stdlib", "platstdlib") if (path := sysconfig.get_paths().get(name)))


def of_the_site(frames: Sequence[str]) -> str:
    """Return the innermost frame that is in no library: the site's own. "" where there is none."""
    for frame in frames:
        if not _LIBRARIES.search(frame) and not frame.startswith((*_OWN, "<")):
            return frame
    return ""


def words(frame: str) -> str:
    """Return a frame as one reads it: FILE:LINE in FUNCTION."""
    place, _, function = frame.rpartition(":")
    return f"{place} in {function}" if place else frame
