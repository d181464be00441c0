"""Libraries that a distribution's package brings along are used instead of the environment's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sdactivate"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A directory of Python modules with sdactivate in it, as a package installs it."""
    shutil.copytree(PACKAGE, tmp_path / "sdactivate")
    return tmp_path


def run(library: Path, program: str) -> str:
    argv = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(library)!r}); {program}"]
    return subprocess.run(
        argv, check=True, capture_output=True, text=True, timeout=60, cwd=library
    ).stdout


def test_the_bundled_one_is_used_before_the_environment_s(library: Path) -> None:
    bundled = library / "sdactivate" / "_bundled"
    spec = "import httptools; print(httptools.__path__[0])"
    own = run(library, spec).strip()
    shutil.copytree(own, bundled / "httptools")
    program = "from sdactivate.servers.native.wire import http; print(http.httptools.__file__)"
    assert run(library, program).startswith(f"{bundled}/httptools/")


def test_without_one_the_environment_s_is_used(library: Path) -> None:
    program = "from sdactivate.servers.native.wire import http; print(*sys.path)"
    assert "_bundled" not in run(library, program)


def test_without_systemd_python_a_sentence_says_what_brings_it(library: Path) -> None:
    (library / "systemd").mkdir()
    (library / "systemd" / "__init__.py").touch()
    argv = [sys.executable, "-m", "sdactivate", "serve", "app:application"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=library)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    for package in ("python3-systemd", "libsystemd-dev", "pkg-config"):
        assert package in line
