"""Fixtures for every test."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["tests.coverage_report"]

# Machines are shared: how long an example takes says nothing
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

CHECKOUT = Path(__file__).resolve().parent.parent

# Users have none of them, and PYTHONUNBUFFERED, for one, hides what happens at exit.
for _name in [name for name in os.environ if name.startswith("PYTHON")]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout: what users get, and so what is tested."""
    directory = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory)]
    subprocess.run([*build, str(CHECKOUT)], check=True, timeout=300, stdout=subprocess.DEVNULL)
    (built,) = directory.glob("*.whl")
    return built
