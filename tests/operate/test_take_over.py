"""Root copies what a build has left: plain files, directories, and links that stay inside."""

import contextlib
import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import Error
from sdactivate.operate import take_over as module
from sdactivate.operate.take_over import take_over

ME = os.geteuid()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    made = tmp_path / "tree"
    (made / "app").mkdir(parents=True)
    (made / "app/code.py").write_text("pass\n")
    return made


def refused(tree: Path, owner: int = ME) -> str:
    with pytest.raises(Error) as caught:
        take_over(tree, tree.with_name("taken"), owner)
    return str(caught.value)


def test_files_directories_and_links_are_copied(tree: Path) -> None:
    code = tree / "app/code.py"
    code.chmod(0o6711)
    os.utime(code, ns=(10**18 + 1, 10**18 + 1))
    (tree / "app").chmod(0o1777)
    (tree / "link").symlink_to("app/code.py")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "app/up").symlink_to("../app/./code.py")
    taken = tree.with_name("taken")
    count = take_over(tree, taken, ME)
    assert (count.files, count.size) == (5, 5)
    about = (taken / "app/code.py").stat()
    assert stat.S_IMODE(about.st_mode) == 0o755
    assert about.st_mtime_ns == 10**18 + 1
    assert stat.S_IMODE((taken / "app").stat().st_mode) == 0o755
    assert os.readlink(taken / "app/up") == "../app/./code.py"
    assert os.readlink(taken / "dangling") == "nowhere"


def _fifo(tree: Path) -> None:
    os.mkfifo(tree / "app/x")


def _socket(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tree / "app/x"))


def _link(target: str) -> Callable[[Path], None]:
    return lambda tree: (tree / "app/x").symlink_to(target)


def _round(tree: Path) -> None:
    """Two links, each of which stays inside by its name, and together do not."""
    (tree / "app/deep/deeper").mkdir(parents=True)
    (tree / "d").symlink_to("app/deep/deeper")
    (tree / "app/deep/deeper/x").symlink_to("../../../d/../../../..")
    (tree / "app/short").symlink_to("../app")
    (tree / "app/x").symlink_to("short/short/short/../../../..")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_fifo, "app/x is a FIFO"),
        (_socket, "app/x is a socket"),
        (_link("/etc/shadow"), "app/x is a link to /etc/shadow, outside the release"),
        (_link("../../x"), "outside the release"),
        (_round, "outside the release"),
    ],
)
def test_anything_else_is_refused(tree: Path, make: Callable[[Path], None], reason: str) -> None:
    make(tree)
    assert reason in refused(tree)


def test_another_user_s_file_is_refused(tree: Path) -> None:
    """Such as a hard link to it."""
    assert "does not belong to the build" in refused(tree, ME + 1)


@pytest.mark.skipif(ME != 0, reason="only root can make a device and give files away")
def test_devices_are_refused_and_all_becomes_root_s(tree: Path) -> None:
    for path in (tree, tree / "app", tree / "app/code.py"):
        os.chown(path, 4711, 4711)
    taken = tree.with_name("taken")
    take_over(tree, taken, 4711)
    for path in (taken, taken / "app", taken / "app/code.py"):
        assert (path.stat().st_uid, path.stat().st_gid) == (0, 0)
    os.mknod(tree / "app/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    shutil.rmtree(taken)
    assert "app/null is a device" in refused(tree, 4711)


def test_too_much_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 4)
    assert "more than" in refused(tree)
    shutil.rmtree(tree.with_name("taken"))
    monkeypatch.setattr(module, "MOST_FILES", 1)
    assert "more than 1 files" in refused(tree)


def test_too_deep_is_refused(tree: Path) -> None:
    deep = tree
    for _ in range(120):
        deep /= "d"
        deep.mkdir()
    assert "deeper than 100" in refused(tree)


def test_an_environment_s_interpreter_leads_where_root_says(tmp_path: Path) -> None:
    tree = tmp_path / "environment"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/python3").symlink_to("/home/evil/python")
    (tree / "bin/python").symlink_to("python3")
    taken = tmp_path / "taken"
    take_over(tree, taken, ME, "/usr/bin/python3")
    assert os.readlink(taken / "bin/python3") == "/usr/bin/python3"
    shutil.rmtree(taken)
    (tree / "bin/activate").symlink_to("/home/evil/activate")
    with pytest.raises(Error, match="bin/activate is a link to /home/evil/activate"):
        take_over(tree, taken, ME, "/usr/bin/python3")


def test_what_the_kernel_does_not_copy_is_copied(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    (tree / "large").write_bytes(b"x" * 3_000_000)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    taken = tree.with_name("taken")
    assert take_over(tree, taken, ME).size == 3_000_005
    assert (taken / "large").read_bytes() == b"x" * 3_000_000


PARTS = st.sampled_from(["a", "b", "..", ".", "", "/"])
TARGETS = st.lists(PARTS, min_size=1, max_size=6).map("/".join).filter(bool)


@given(
    links=st.dictionaries(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple), TARGETS, max_size=6
    )
)
def test_no_link_leads_out_however_they_are_combined(links: dict[tuple[str, ...], str]) -> None:
    with tempfile.TemporaryDirectory() as top:
        tree, taken = Path(top, "tree"), Path(top, "taken")
        tree.mkdir()
        for parts, target in links.items():
            path = tree.joinpath(*parts)
            with contextlib.suppress(OSError, RuntimeError):  # below a link, or there already
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.parent.resolve().is_relative_to(tree):
                    path.symlink_to(target)
        with contextlib.suppress(Error):
            take_over(tree, taken, ME)
            for path in taken.rglob("*"):
                assert f"{os.path.realpath(path)}/".startswith(f"{taken}/")
