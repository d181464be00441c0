"""Tell what is done, one line a step with its time, and say of a failure which step it was."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sdactivate.errors import Error, said
from sdactivate.terminal import tell


@contextmanager
def step(name: str) -> Iterator[None]:
    """Be a step: tell its name and how long it took; what fails in it is told with its name.

    Raises Error for an Error or OSError of the block.
    """
    began = time.monotonic()
    try:
        yield
    except (Error, OSError) as error:
        raise Error(f"{name}: {said(error)}") from error
    tell(f"sdactivate: {name} ({time.monotonic() - began:.1f} s)")


def note(text: str) -> None:
    """Tell something that is no step."""
    tell(f"sdactivate: {text}")
