"""Code is compiled without running it: neither root's rights nor root's reach are lent to it."""

import importlib.util
import marshal
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from sdactivate.cli import main
from sdactivate.errors import Error
from sdactivate.install import bytecode
from sdactivate.install.bytecode import compile_tree

TAG = sys.implementation.cache_tag
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to lend")
OWNER = 4321


@pytest.fixture
def tree() -> Iterator[Path]:
    """A site where the user nobody can reach it: pytest's own directory is 0700."""
    with tempfile.TemporaryDirectory() as directory:
        site = Path(directory, "site")
        (site / "below").mkdir(parents=True)
        (site / "one.py").write_text("print('run')\nX = 1\n")
        (site / "below/two.py").write_text("Y = 2\n")
        site.parent.chmod(0o755)
        yield site


def compiled(directory: Path) -> dict[str, Path]:
    return {path.name.partition(".")[0]: path for path in directory.rglob("*.pyc")}


def compile_it(tree: Path, python: str = sys.executable) -> list[str]:
    """Compile, and return what could not be."""
    result = compile_tree(tree, "/srv/mysite", python)
    return [*result.invalid, *(f"{source}: {why}" for source, why in result.failed.items())]


def give(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        os.chown(path, OWNER, OWNER, follow_symlinks=False)


def test_the_code_is_what_python_takes(tree: Path) -> None:
    (tree / "one.py").chmod(0o640)
    umask = os.umask(0o077)
    try:
        assert compile_it(tree) == []
    finally:
        os.umask(umask)
    assert sorted(compiled(tree)) == ["one", "two"]
    made = compiled(tree)["one"]
    assert made == Path(importlib.util.cache_from_source(str(tree / "one.py")))
    code = marshal.loads(made.read_bytes()[16:])
    assert isinstance(code, CodeType)
    assert code.co_filename == "/srv/mysite/one.py"
    assert stat.S_IMODE(made.stat().st_mode) == 0o640
    assert stat.S_IMODE(made.parent.stat().st_mode) == stat.S_IMODE(tree.stat().st_mode)
    # Python believes it: it does not compile again.
    argv = [sys.executable, "-v", "-c", "import one"]
    done = subprocess.run(argv, cwd=tree, capture_output=True, text=True, check=True, timeout=60)
    assert re.search(r"code object from '.*one\.cpython-\d+\.pyc'", done.stderr)


def test_only_what_is_missing_or_old_is_made(tree: Path) -> None:
    compile_it(tree)
    before = {path: path.stat().st_ino for path in compiled(tree).values()}
    (tree / "one.py").write_text("X = 123\n")
    assert compile_it(tree) == []
    changed = [path.name for path, inode in before.items() if path.stat().st_ino != inode]
    assert changed == [f"one.{TAG}.pyc"]


@pytest.mark.parametrize("source", [b"(", b"\0", b"\xff", b"(" * 5000, b"# coding: no-such\n"])
def test_what_can_not_be_compiled_is_named(source: bytes, tree: Path) -> None:
    (tree / "bad.py").write_bytes(source)
    assert compile_it(tree) == ["/srv/mysite/bad.py"]
    assert sorted(compiled(tree)) == ["one", "two"]


def test_a_virtual_environment_runs_nothing(tree: Path) -> None:
    """Its .pth files, sitecustomize and usercustomize are its packages' code."""
    venv.create(tree / "venv", with_pip=False)
    packages = next((tree / "venv").glob("lib/python*/site-packages"))
    mark = f"open({str(tree / 'ran')!r}, 'w')"
    (packages / "it.pth").write_text(f"import sys; {mark}\n")
    for name in ("sitecustomize", "usercustomize"):
        (packages / f"{name}.py").write_text(mark)
    tree.chmod(0o777)
    python = str(tree / "venv/bin/python")
    subprocess.run([python, "-I", "-c", ""], check=True, timeout=60)
    assert (tree / "ran").exists()  # else this would show nothing
    (tree / "ran").unlink()
    assert compile_it(tree, python) == []
    assert not (tree / "ran").exists()


@as_root
@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="see tests/machine")
def test_the_interpreter_never_runs_as_root(tree: Path) -> None:
    """It may be the site's owner's own file."""
    mine = tree / "python"
    mine.write_text(f'#!/bin/sh\nid -u >&2\nid -G >&2\nexec {sys.executable} "$@"\n')
    mine.chmod(0o755)
    with bytecode._Compiler(str(mine)) as compiler:
        assert compiler.compile("x.py", b"1")
        os.kill(compiler._process.pid, 9)
        assert compiler._process.stderr is not None
        assert compiler._process.stderr.read().split() == [b"65534", b"65534"]


@as_root
def test_links_are_not_followed_and_owners_stay_owners(tree: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret.py").write_text("S = 1")
    (tree / "below/__pycache__").symlink_to(victim)
    (tree / "link.py").symlink_to(victim / "secret.py")
    (tree / "linked").symlink_to(victim)
    os.mkfifo(tree / "pipe.py")
    give(tree)
    failed = compile_it(tree)
    assert [text.partition(":")[0] for text in failed] == [
        "/srv/mysite/pipe.py",
        "/srv/mysite/below/two.py",
    ]
    assert sorted(path.name for path in victim.iterdir()) == ["secret.py"]
    assert list(compiled(tree)) == ["one"]
    made = compiled(tree)["one"]
    assert [made.stat().st_uid, made.parent.stat().st_uid] == [OWNER, OWNER]
    assert os.geteuid() == 0


@as_root
def test_a_link_in_the_place_of_a_compiled_file_is_replaced(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tree / "__pycache__").mkdir()
    (tree / f"__pycache__/one.{TAG}.pyc").symlink_to(tmp_path / "victim")
    give(tree)
    assert compile_it(tree) == []
    assert (tmp_path / "victim").read_text() == "mine"
    assert not compiled(tree)["one"].is_symlink()


@as_root
def test_what_the_owner_may_not_read_is_not_read_for_it(tree: Path) -> None:
    (tree / "one.py").chmod(0o600)
    give(tree)
    os.chown(tree / "one.py", 0, 0)
    assert compile_it(tree) == ["/srv/mysite/one.py: Permission denied"]


@pytest.mark.parametrize(
    "script", ["exit 3", "echo hello", "head -c 100 /dev/zero", "printf '\\377\\377\\377\\377'"]
)
def test_an_interpreter_that_is_none(script: str, tree: Path) -> None:
    fake = tree / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    with pytest.raises(Error, match=re.escape(str(fake))):
        compile_it(tree, str(fake))
    with pytest.raises(Error, match="No such file"):
        compile_it(tree, str(tree / "nothing"))


@pytest.mark.skipif(not shutil.which("sleep"), reason="something that does not answer")
@as_root
def test_an_interpreter_in_a_home_is_told_of(tree: Path) -> None:
    """With systemd and without: it can't be reached by the site's service either."""
    with tempfile.TemporaryDirectory(dir="/root") as home:  # its mode is 0700
        (Path(home) / "python").touch(0o755)
        (tree / "python").symlink_to(f"{home}/python")
        with pytest.raises(Error, match=rf"it leads to {home}/\S*; other users can't reach"):
            compile_it(tree, str(tree / "python"))


def test_an_interpreter_that_does_not_answer(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "DEADLINE", 0.2)
    fake = tree / "python"
    fake.write_text("#!/bin/sh\nexec sleep 1000\n")
    fake.chmod(0o755)
    with pytest.raises(Error, match="ended while it compiled"):
        compile_it(tree, str(fake))


def test_names_that_would_steer_a_terminal_are_escaped(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "bad\x1b[2J\nfine\u202e.py").write_text("(")
    assert main(["compile", str(tree)]) == 0
    said = f"{tree}/bad\\x1b[2J\\nfine\\u202e.py: skipped: not valid in this version of Python\n"
    assert capsys.readouterr().err == said


def test_the_verb(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "bad.py").write_text("(")
    assert main(["compile", str(tree)]) == 0
    assert sorted(compiled(tree)) == ["one", "two"]
    assert (
        capsys.readouterr().err == f"{tree}/bad.py: skipped: not valid in this version of Python\n"
    )
    (tree / "__pycache__" / f"one.{TAG}.pyc").unlink()
    shutil.rmtree(tree / "below/__pycache__")
    (tree / "below/__pycache__").write_text("in the way")
    assert main(["compile", str(tree)]) == 1
    assert f"{tree}/below/two.py: Not a directory" in capsys.readouterr().err
    assert main(["compile", str(tree / "nothing")]) == 1
    assert main(["compile", str(tree), "--python", "python3"]) == 2
    assert "--python 'python3' is not an absolute path" in capsys.readouterr().err
