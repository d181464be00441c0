"""Which .pyc files count: those that the service's own Python finds current."""

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.doctor import units
from sdactivate.doctor.checks.bytecode import cache_tag, interpreter, is_compiled, not_compiled
from sdactivate.doctor.finding import Case

TAG = sys.implementation.cache_tag or ""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text("x = 1\n")
    py_compile.compile(str(path))
    return path


def test_what_has_been_compiled_is(source: Path) -> None:
    assert is_compiled(source)
    assert is_compiled(source, TAG)


def test_what_has_changed_since_is_not(source: Path) -> None:
    """As Python itself sees it: with the old file it reads the source again."""
    run = [sys.executable, "-v", "-B", "-c", "import app"]
    for is_current in (True, False):
        done = subprocess.run(run, cwd=source.parent, capture_output=True, text=True, check=True)
        assert (f"app.{TAG}.pyc matches " in done.stderr) is is_current
        assert is_compiled(source) is is_current
        source.write_text("x = 22\n")


def test_a_newer_time_with_the_same_text_is_older_too(source: Path) -> None:
    os.utime(source, (1, 1))
    assert not is_compiled(source)


def test_another_python_s_is_none(source: Path) -> None:
    assert not is_compiled(source, "cpython-27")
    assert not is_compiled(source, "pypy310")


@pytest.mark.parametrize("mode", ["CHECKED_HASH", "UNCHECKED_HASH"])
def test_one_by_hash_is_the_interpreter_s_to_judge(source: Path, mode: str) -> None:
    kind = py_compile.PycInvalidationMode[mode]
    py_compile.compile(str(source), invalidation_mode=kind)
    os.utime(source, (1, 1))
    assert is_compiled(source, TAG)


def test_an_optimised_one_is_not_read(source: Path) -> None:
    (compiled,) = source.parent.glob("__pycache__/*.pyc")
    compiled.rename(compiled.with_name(f"app.{TAG}.opt-1.pyc"))
    assert not is_compiled(source)


@pytest.mark.parametrize("data", [b"", b"abc", b"\0" * 15])
def test_one_that_is_cut_short_is_none(source: Path, data: bytes) -> None:
    (compiled,) = source.parent.glob("__pycache__/*.pyc")
    compiled.write_bytes(data)
    assert not is_compiled(source)


def test_the_interpreter_s_tag_is_known_without_running_it(tmp_path: Path) -> None:
    for name, tag in (
        ("python3.11", "cpython-311"),
        ("python3.13t", "cpython-313t"),
        ("pypy3.10", "pypy310"),
        ("python3", ""),
    ):
        (tmp_path / name).write_text("")
        (link := tmp_path / f"link-{name}").symlink_to(name)
        assert cache_tag(str(link)) == tag
    assert cache_tag(sys.executable) in (TAG, "")


def test_a_stale_one_is_found_in_a_site(source: Path) -> None:
    site = source.parent
    (site / "gunicorn").write_text(f"#!{os.path.realpath(sys.executable)}\n")
    unit = site / "web.service"
    unit.write_text(
        f"[Service]\nWorkingDirectory={site}\nProtectSystem=strict\n"
        f"ExecStart={site}/gunicorn app:application\n"
    )
    (deployment,) = units.offline([str(unit)])
    assert deployment.service
    assert interpreter(deployment.service) == os.path.realpath(sys.executable)
    assert not list(not_compiled(Case(deployment)))
    source.write_text("x = 22\n")
    (hit,) = not_compiled(Case(deployment))
    assert "1 of 1 modules" in hit.because
    assert "(1 have one that is out of date or from another Python)" in hit.because
    elsewhere = "Environment=PYTHONPYCACHEPREFIX=/var/cache/web\n"
    unit.write_text(unit.read_text() + elsewhere)
    (deployment,) = units.offline([str(unit)])
    assert not list(not_compiled(Case(deployment)))
