"""packaging/debian and pyproject.toml agree with the code and with each other."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sdactivate import __version__
from sdactivate.cli import generator
from tests.test_house import commands, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parent.parent
DEBIAN = CHECKOUT / "packaging" / "debian"
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]

# What Debian has of the dependencies, new enough in Debian 12
OF_DEBIAN = {"systemd-python": "python3-systemd", "Jinja2": "python3-jinja2"}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def dependencies() -> dict[str, str]:
    """Each requirement of the installed package, with the least version that it takes."""
    found = {}
    for line in PROJECT["dependencies"]:
        name, marker = re.split(r"\s*>=\s*|\s*;", line)[0], line.partition(";")[2]
        if not marker:  # tomli: Debian 12 has Python 3.11
            found[name] = line.partition(">=")[2].strip()
    return found


def components() -> dict[str, str]:
    """What the package brings along or is built with, with its version."""
    lines = (DEBIAN / "components.txt").read_text()
    return dict(re.findall(r"^([\w-]+)==(\S+) --hash=sha256:[0-9a-f]{64}$", lines, re.MULTILINE))


def field(name: str) -> dict[str, str]:
    """The packages of a field of debian/control, each with its least version."""
    text = (DEBIAN / "control").read_text()
    (value,) = re.findall(rf"^{name}:\n((?: .*\n)+)", text, re.MULTILINE)
    return dict(re.findall(r"^ ([\w-]+)(?: \(>= )?([\d.]*)", value, re.MULTILINE))


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("DEB_VERSION_UPSTREAM", __version__)
    spec = importlib.util.spec_from_file_location("debian_build", DEBIAN / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_versions_are_the_same() -> None:
    first = (DEBIAN / "changelog").read_text().splitlines()[0]
    assert re.fullmatch(rf"sdactivate \({re.escape(__version__)}-\d+\) \w+; urgency=medium", first)
    galaxy = (CHECKOUT / "ansible" / "galaxy.yml").read_text()
    assert f"\nversion: {__version__}\n" in galaxy
    for page in ("README.md", "docs/guide.md", "examples/mysite/requirements.txt"):
        assert f"\nsdactivate=={__version__}\n" in (CHECKOUT / page).read_text()


def test_each_dependency_is_debian_s_or_brought_along() -> None:
    depends, brought = field("Depends"), components()
    for name, least in dependencies().items():
        if name in OF_DEBIAN:
            assert depends[OF_DEBIAN[name]] == least
        else:
            assert numbers(brought[name]) >= numbers(least), name
    assert set(OF_DEBIAN) <= set(dependencies())


def test_what_it_is_built_with_is_declared() -> None:
    build_depends = field("Build-Depends")
    for package in OF_DEBIAN.values():
        assert build_depends[package] == field("Depends")[package]
    assert {"cython3", "dh-python", "python3-dev", "python3-hatchling"} <= set(build_depends)


def test_what_is_brought_along_is_in_the_copyright_file() -> None:
    text = (DEBIAN / "copyright").read_text()
    for name in components():
        assert f"\nFiles: {name}/*\n" in text
    used = set(re.findall(r"^Files:.*\nCopyright:.*\nLicense: (.*)$", text, re.MULTILINE))
    assert used == set(re.findall(r"^License: (.*)\n ", text, re.MULTILINE))


def test_commands_completions_and_the_generator(build: ModuleType) -> None:
    import hatch_build

    scripts = {name: place.partition(":")[0] for name, place in PROJECT["scripts"].items()}
    assert scripts == build.COMMANDS
    assert set(build.COMPLETIONS) == set(hatch_build.COMPLETIONS.values())
    # A link that `sdactivate generator --install` has made takes the place of the package's
    name = Path(generator.LINK).name
    assert f'"usr/lib/systemd/system-generators/{name}"' in (DEBIAN / "build.py").read_text()


def test_overrides_are_of_files_that_exist() -> None:
    text = (DEBIAN / "sdactivate.lintian-overrides").read_text()
    paths = re.findall(r"\[usr/lib/python3/dist-packages/(.*)\]", text)
    assert paths
    for path in paths:
        assert list(CHECKOUT.glob(path)), path


def test_the_commands_of_its_own_test_are_understood() -> None:
    found = list(commands((DEBIAN / "tests" / "first-page").read_text()))
    assert len(found) >= 4
    for words in found:
        parse(words)


def test_there_is_a_classifier_for_each_python() -> None:
    least = numbers(PROJECT["requires-python"])[1]
    known = "\n".join(PROJECT["classifiers"])
    found = list(map(int, re.findall(r"^Programming Language :: Python :: 3\.(\d+)$", known, re.M)))
    assert found == list(range(least, 15))
