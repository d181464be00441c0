"""Fixtures for every test."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

from tests.effort import examples

pytest_plugins = ["tests.coverage_report"]

# Machines are shared: how long an example takes says nothing
hypothesis.settings.register_profile("shared", deadline=None, max_examples=examples(100))
hypothesis.settings.load_profile("shared")

CHECKOUT = Path(__file__).resolve().parent.parent

# Users have none of them, and PYTHONUNBUFFERED, for one, hides what happens at exit.
for _name in [name for name in os.environ if name.startswith("PYTHON")]:
    del os.environ[_name]


def pytest_report_header() -> str:
    """Say which form of the native server's hot path is tested where a test does not choose."""
    from sdactivate.servers.native import accel

    both = "" if accel.module is None else " and pure (test_wsgi, test_rules, tests of wire)"
    return f"servers: {accel.in_use}{both}"


def build_wheel(directory: Path, source: Path = CHECKOUT, **environ: str) -> tuple[Path, str]:
    """Build the wheel of a checkout; return it and what was said."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory)]
    said = subprocess.run(
        [*build, str(source)],
        env={**os.environ, **environ},
        check=True,
        timeout=300,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    (built,) = directory.glob("*.whl")
    return built, said


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, for this Python: what users get, and so what is tested."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))[0]


@pytest.fixture(scope="session")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout that fits any Python: without the compiled hot path."""
    return build_wheel(tmp_path_factory.mktemp("pure"), SDACTIVATE_BUILD_ACCEL="0")[0]
