"""Print one line for each step with its duration, and name the step that failed."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sdactivate.errors import Error, said
from sdactivate.terminal import escape, tell

_AGAIN = "\r\x1b[K"  # to the beginning of the line, and clear it: console_codes(4)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Be a step: tell its name and how long it took; what fails in it is told with its name.

    On a terminal the name is there from its beginning on. Raises Error for an Error or OSError of
    the block.
    """
    began = time.monotonic()
    _draw(f"sdactivate: {escape(name)} …")
    try:
        yield
    except (Error, OSError) as error:
        raise Error(f"{name}: {said(error)}") from error
    finally:
        _draw("")
    tell(f"sdactivate: {name} ({time.monotonic() - began:.1f} s)")


def note(text: str) -> None:
    """Tell something that is no step."""
    _draw("")
    tell(f"sdactivate: {text}")


def _draw(line: str) -> None:
    """Have `line` as the last one of a terminal, for the time being."""
    if sys.stderr.isatty():
        print(_AGAIN + line, end="", file=sys.stderr, flush=True)
