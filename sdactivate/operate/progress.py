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
    """Run the block as a step: print its name and how long it took.

    On a terminal the name appears when the step begins. For an Error or OSError of the block,
    raises Error with the step's name.
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
    """Print a message that is not a step."""
    _draw("")
    tell(f"sdactivate: {text}")


def _draw(line: str) -> None:
    """Replace the last line on the terminal by `line`, if standard error is a terminal."""
    if sys.stderr.isatty():
        print(_AGAIN + line, end="", file=sys.stderr, flush=True)
