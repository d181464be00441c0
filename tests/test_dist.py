"""The files of a release, as script/build-dist makes them: the same twice, and as installed."""

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from sdactivate import __version__

pytestmark = pytest.mark.by_hand

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this commit."""
    return build(tmp_path_factory.mktemp("first") / "dist")


def build(target: Path) -> Path:
    subprocess.run([CHECKOUT / "script" / "build-dist", target], check=True, timeout=1800)
    return target


def environment(directory: Path, *packages: str | Path) -> Path:
    """Make a virtual environment with these packages; return its bin."""
    venv.create(directory, with_pip=True)
    pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", *packages]
    subprocess.run(pip, check=True, timeout=900)
    return directory / "bin"


def digests(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()
    }


def test_two_builds_give_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    first = digests(dist)
    assert digests(build(tmp_path / "second")) == first
    for name, digest in sorted(first.items()):
        print(digest, name)


def test_the_checksums_and_the_sbom(dist: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist, check=True)
    listed = {line.split()[1] for line in (dist / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in dist.iterdir()} - {"SHA256SUMS"}
    sbom = json.loads((dist / f"sdactivate-{__version__}.cdx.json").read_text())
    assert sbom["metadata"]["component"]["name"] == "sdactivate"
    names = {component["name"].lower() for component in sbom["components"]}
    assert {"systemd-python", "jinja2", "flup", "httptools", "markupsafe"} <= names


def test_the_pure_wheel_as_installed(dist: Path, tmp_path: Path) -> None:
    bin = environment(tmp_path / "venv", dist / f"sdactivate-{__version__}-py3-none-any.whl")
    said = subprocess.check_output([bin / "sdactivate", "--version"], text=True)
    assert said.startswith(f"sdactivate {__version__} (native server: pure Python: not compiled")
    assert (tmp_path / "venv/share/man/man1/sdactivate-install.1").exists()


def test_the_compiled_wheel_as_installed(dist: Path, tmp_path: Path) -> None:
    tag = "cp{}{}".format(*sys.version_info)
    (wheel,) = dist.glob(f"sdactivate-{__version__}-{tag}-{tag}-*manylinux*.whl")
    bin = environment(tmp_path / "venv", wheel)
    said = subprocess.check_output([bin / "sdactivate", "--version"], text=True)
    assert said == f"sdactivate {__version__} (native server: compiled)\n"


def test_uvx_runs_the_generator(dist: Path, tmp_path: Path) -> None:
    bin = environment(tmp_path / "venv", "uv")
    wheel = dist / f"sdactivate-{__version__}-py3-none-any.whl"
    uvx = [str(bin / "uvx"), "--python", sys.executable, "--from", str(wheel)]
    unit = subprocess.check_output(
        [*uvx, "sdactivate", "gen", "mysite", "--group", "www-data"],
        text=True,
        cwd=tmp_path,
        env={**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache")},
    )
    assert "\nListenStream=/run/mysite.sock\n" in unit
    assert "\nSocketGroup=www-data\n" in unit
