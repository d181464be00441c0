"""The compiled twin loses no memory, survives the want of it, and touches none but its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.servers.native import accel
from tests.conftest import CHECKOUT

pytestmark = pytest.mark.skipif(accel.module is None, reason=accel.why_not)


def test_every_allocation_may_fail_and_none_leaks() -> None:
    run = [sys.executable, "-X", "faulthandler", "-m", "tests.servers.native.accel.exercise"]
    done = subprocess.run(run, cwd=CHECKOUT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "serve http: no leak" in done.stdout


def libasan() -> str:
    """Where gcc has AddressSanitizer's library, "" where it has none."""
    if not shutil.which("gcc"):
        return ""
    name = ["gcc", "-print-file-name=libasan.so"]
    found = subprocess.run(name, capture_output=True, text=True, timeout=60).stdout.strip()
    return found if Path(found).exists() else ""


@pytest.mark.skipif("TEST_SANITIZED" in os.environ, reason="this is what it runs")
@pytest.mark.skipif(not libasan(), reason="gcc has no libasan")
def test_under_sanitizers() -> None:
    done = subprocess.run(
        [CHECKOUT / "script" / "sanitize"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    assert "sanitize: compiled" in done.stdout
