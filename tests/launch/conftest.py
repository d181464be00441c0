"""A directory that root owns and everybody can enter, and the launcher as a process."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

LAUNCH = (sys.executable, "-m", "sdactivate", "launch")
PATIENCE = 120.0  # seconds: a guard against hanging, not an expectation

# The fixture `launch`: the arguments of the launcher, and keywords of subprocess.run
Launch = Callable[..., "subprocess.CompletedProcess[str]"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users, which only root can")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory under /run (without root: one's own), as a socket's directory should be."""
    path = Path(tempfile.mkdtemp(prefix="sdactivate-", dir="/run" if os.geteuid() == 0 else None))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def launch(directory: Path) -> Launch:
    """Run `sdactivate launch ARGUMENT…` to its end, with what else subprocess.run takes."""

    def run(
        *arguments: str, command: Sequence[str] = LAUNCH, **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        settings = {"capture_output": True, "text": True, "timeout": PATIENCE, **options}
        done: subprocess.CompletedProcess[str] = subprocess.run([*command, *arguments], **settings)
        return done

    return run


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
