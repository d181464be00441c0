"""What an environment is made of, and when one that is there is like it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import Error
from sdactivate.operate import environment
from sdactivate.operate.environment import find, script

PYTHON = "/usr/bin/python3"


def key(tree: Path, python: str = PYTHON, uv: str = "") -> str:
    found = find(tree, python, uv)
    assert found is not None
    return found.key


def test_without_requirements_there_is_none(tmp_path: Path) -> None:
    assert find(tmp_path, PYTHON, "") is None


def test_the_key_is_of_all_that_is_included_and_of_the_interpreter(tmp_path: Path) -> None:
    (tmp_path / "needs").mkdir()
    (tmp_path / "requirements.txt").write_text("-r needs/base.txt\nDjango==5.2\n")
    (tmp_path / "needs/base.txt").write_text("--constraint=limits.txt\nflup\n")
    limits = tmp_path / "needs/limits.txt"
    limits.write_text("flup<2\n")
    first = key(tmp_path)
    assert first == key(tmp_path)
    limits.write_text("flup<1.1\n")
    assert key(tmp_path) not in ("", first)
    limits.write_text("flup<2\n")
    assert key(tmp_path) == first
    assert key(tmp_path, "/usr/bin/python3.99") != first


@pytest.mark.parametrize(
    "line",
    ["-e .", "./vendor/a.whl", "/srv/a.whl", "a @ file:///srv/a.whl", "-r https://a.test/r.txt"],
)
def test_what_may_change_unseen_is_never_the_same(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"Django\n{line}\n")
    assert key(tmp_path) == ""


def test_uv_s_lock_counts_where_uv_is(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    (tmp_path / "uv.lock").write_text("version = 1\n")
    with_pip, with_uv = find(tmp_path, PYTHON, ""), find(tmp_path, PYTHON, "/usr/bin/uv")
    assert with_pip
    assert with_uv
    assert (with_pip.file, with_uv.file) == ("pyproject.toml", "uv.lock")
    assert with_pip.key != with_uv.key


@pytest.mark.parametrize(
    "included", ["missing.txt", "../outside.txt", "/etc/passwd", "a/link", "a\0"]
)
def test_what_cannot_be_included(tmp_path: Path, included: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/link").symlink_to("/etc/passwd")
    (tmp_path / "requirements.txt").write_text(f"-r {included}\n")
    with pytest.raises(Error, match=r"requirements: '|No such file|Too many levels|null byte"):
        key(tmp_path)


def test_requirements_that_are_no_file_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requirements.txt").write_text("x" * 100)
    monkeypatch.setattr(environment, "LARGEST", 50)
    with pytest.raises(Error, match="not a regular file of at most"):
        key(tmp_path)
    (tmp_path / "requirements.txt").unlink()
    (tmp_path / "requirements.txt").mkdir()
    with pytest.raises(Error, match=r"requirements\.txt: Is a directory"):
        key(tmp_path)


@given(data=st.binary(max_size=200) | st.text().map(str.encode))
def test_any_requirements_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    tree = tmp_path_factory.getbasetemp() / "any"
    tree.mkdir(exist_ok=True)
    (tree / "requirements.txt").write_bytes(data)
    try:
        key(tree)
    except Error:
        pass


def test_the_dependencies_of_a_project_are_installed_and_the_project_is_not(
    tmp_path: Path,
) -> None:
    """What pip is told; tests/machine/test_release.py has it build an environment."""
    argv = [sys.executable, "-c", environment._PIP_OF_PROJECT, "echo", "install"]

    def told(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "pyproject.toml").write_text(text)
        return subprocess.run(argv, cwd=tmp_path, timeout=60, capture_output=True, text=True)

    listed = told('[project]\nname = "it"\ndependencies = ["one>=1", "two"]\n')
    assert listed.stdout == "install one>=1 two\n"
    dynamic = told('[project]\nname = "it"\ndynamic = ["dependencies"]\n')
    assert dynamic.returncode == 1
    assert "its dependencies are dynamic; list them" in dynamic.stderr


def test_paths_reach_the_programs_whole() -> None:
    text = script("requirements.txt", Path("/srv/a b/1"), PYTHON, "", ["--find-links", "/c d"])
    first, second = map(shlex.split, text.splitlines())
    assert first == [PYTHON, "-m", "venv", "/srv/a b/1"]
    assert second[0] == "/srv/a b/1/bin/python"
    assert second[-2:] == ["--requirement", "requirements.txt"]
    assert "/c d" in second


def test_uv_s_command_lines() -> None:
    text = script("uv.lock", Path("/srv/x/environments/1"), PYTHON, "/usr/bin/uv", ["--no-index"])
    first, second, third = text.splitlines()
    assert first == f"/usr/bin/uv venv --quiet --python {PYTHON} /srv/x/environments/1"
    assert second.startswith("/usr/bin/uv export --quiet --frozen --no-dev --no-emit-project ")
    assert third.endswith("--compile-bytecode --no-index --requirement /tmp/uv.txt")
