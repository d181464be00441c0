"""What the tests of the runtime share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.life import Life, Lives


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Lives]:
    """Starts a Life in a directory of its own; it is over with the test."""
    started: list[Life] = []

    def start(*more: str, **settings: Any) -> Life:
        begun = Life(tmp_path, *more, **settings)
        started.append(begun)
        return begun

    yield start
    for begun in started:
        begun.close()
