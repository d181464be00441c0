"""The wheel: all of the package, nothing else, and at work where there is no checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.conftest import build_wheel

CHECKOUT = Path(__file__).resolve().parent.parent
EXTENSION = f"sdactivate/servers/native/_accel{sysconfig.get_config_var('EXT_SUFFIX')}"


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; what it requires comes from this one."""
    return installed(wheel, tmp_path_factory.mktemp("elsewhere"))


def installed(wheel: Path, directory: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", directory], check=True, timeout=120)
    pip = [str(directory / "bin" / "pip"), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True, timeout=120)
    return directory


def run(elsewhere: Path, *command: str) -> str:
    # Not a site directory: what is installed as editable here, the checkout, is not seen there.
    environ = {**os.environ, "PYTHONPATH": sysconfig.get_path("platlib")}
    return subprocess.run(
        [elsewhere / "bin" / command[0], *command[1:]],
        cwd=elsewhere,
        env=environ,
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    package = CHECKOUT / "sdactivate"
    wanted = {
        str(path.relative_to(CHECKOUT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = {name for name in wanted if not name.endswith((".c", ".so"))}
    wanted.add(EXTENSION)
    assert {"sdactivate/py.typed", "sdactivate/generate/templates/socket.j2"} <= wanted
    with zipfile.ZipFile(wheel) as archive:
        # Completions and manual pages are test_shared_files.py's
        beside = (".dist-info/", ".data/data/share/")
        names = {n for n in archive.namelist() if not any(place in n for place in beside)}
        (entry_points,) = (n for n in archive.namelist() if n.endswith("/entry_points.txt"))
        assert "sdactivate = sdactivate.cli:entry" in archive.read(entry_points).decode()
    assert names == wanted


def test_is_what_runs_elsewhere(elsewhere: Path) -> None:
    where = run(elsewhere, "python", "-c", "import sdactivate; print(sdactivate.__file__)")
    assert Path(where).is_relative_to(elsewhere)


def test_generates_elsewhere(elsewhere: Path) -> None:
    unit = run(elsewhere, "sdactivate", "gen", "mysite", "--group", "www-data", "--systemd", "252")
    assert unit == (CHECKOUT / "units" / "mysite.socket").read_text()


def test_serves_compiled_elsewhere(elsewhere: Path) -> None:
    said = run(elsewhere, "sdactivate", "--version")
    assert said.startswith("sdactivate ")
    assert said.endswith("(native server: compiled)\n")


def test_is_built_where_there_is_no_compiler(tmp_path: Path) -> None:
    wheel, said = build_wheel(tmp_path / "built", CC="/nonexistent/cc")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "sdactivate is installed without it" in said
    elsewhere = installed(wheel, tmp_path / "elsewhere")
    wanted = "(native server: pure Python: not compiled when sdactivate was installed)\n"
    assert run(elsewhere, "sdactivate", "--version").endswith(wanted)


def test_says_what_is_wrong_where_a_compiler_is_insisted_on(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failure:
        build_wheel(tmp_path, CC="/nonexistent/cc", SDACTIVATE_BUILD_ACCEL="1")
    assert "/nonexistent/cc" in failure.value.output
    with pytest.raises(subprocess.CalledProcessError) as failure:
        build_wheel(tmp_path, SDACTIVATE_BUILD_ACCEL="yes")
    assert "SDACTIVATE_BUILD_ACCEL: 'yes' is not 0, 1 or auto" in failure.value.output


def test_is_pure_when_asked_for(pure_wheel: Path) -> None:
    assert pure_wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(pure_wheel) as archive:
        assert EXTENSION not in archive.namelist()
