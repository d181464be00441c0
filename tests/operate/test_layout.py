"""Records of releases, which ones are kept, and who uses them."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import Error
from sdactivate.operate.layout import Layout, Release, in_use, order

IDS = [f"20261128-10150{number}" for number in range(6)]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout("mysite", tmp_path)
    made.prepare()
    return made


def add(layout: Layout, identity: str, environment: str = "") -> None:
    (layout.releases / identity).mkdir()
    if environment:
        (layout.environments / environment).mkdir(exist_ok=True)
    layout.write(Release(identity, made="today", environment=environment))


def ids(layout: Layout) -> list[str]:
    return [release.id for release in layout.all()]


def test_the_oldest_go_with_their_environments(layout: Layout) -> None:
    for number, identity in enumerate(IDS):
        add(layout, identity, IDS[number // 2 * 2])
    layout.link(IDS[0])
    assert layout.linked() == IDS[0]
    assert layout.prune(2, {IDS[0]}) == IDS[1:4]
    assert ids(layout) == [IDS[0], *IDS[4:]]
    assert sorted(os.listdir(layout.environments)) == [IDS[0], IDS[4]]
    assert sorted(os.listdir(layout.releases)) == sorted(
        name for one in ids(layout) for name in (one, f"{one}.json")
    )


@pytest.mark.parametrize("where", ["cwd", "argv", "maps"])
def test_what_a_process_uses_stays(layout: Layout, where: str) -> None:
    for identity in IDS[:3]:
        add(layout, identity)
    used = layout.releases / IDS[0]
    (used / "library").write_bytes(bytes(4096))
    program = {
        "cwd": f"import os; os.chdir({str(used)!r})",
        "argv": "",
        "maps": "import mmap, os, sys; it = os.open(sys.stdin.readline().strip(), 0); "
        "kept = mmap.mmap(it, 4096, prot=mmap.PROT_READ); os.close(it)",
    }[where]
    argv = [sys.executable, "-c", f"{program}\nprint(flush=True); import sys; sys.stdin.read()"]
    argv += [f"{used}/x"] if where == "argv" else []
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        if where == "maps":
            user.stdin.write(f"{used}/library\n")
            user.stdin.flush()
        user.stdout.readline()
        assert in_use(layout.base) == {f"releases/{IDS[0]}"}
        assert layout.prune(1, set()) == [IDS[1]]
        assert ids(layout) == [IDS[0], IDS[2]]
        user.stdin.close()
        user.wait(60)
    assert layout.prune(1, set()) == [IDS[0]]


def test_what_is_not_whole_is_cleared(layout: Layout) -> None:
    add(layout, IDS[0], IDS[0])
    (layout.releases / IDS[1]).mkdir()  # killed before its record was written
    (layout.releases / f"{IDS[2]}.json").write_text("{}")  # while it was removed
    (layout.environments / IDS[1]).mkdir()
    (layout.base / ".sdactivate.x1").mkdir()
    layout.staging.mkdir()
    folder = os.open(layout.staging, os.O_RDONLY)
    for _ in range(1200):  # more than Python may recurse, and a path may be long
        os.mkdir("d" * 9, dir_fd=folder)
        below = os.open("d" * 9, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    layout.clear()
    assert ids(layout) == [IDS[0]]
    assert sorted(os.listdir(layout.base)) == ["environments", "releases"]
    assert sorted(os.listdir(layout.releases)) == [IDS[0], f"{IDS[0]}.json"]
    assert os.listdir(layout.environments) == [IDS[0]]


def test_a_new_id_is_the_newest_whatever_the_clock_says(layout: Layout) -> None:
    first = layout.new_id()
    add(layout, first)
    add(layout, "29991231-235959")
    second = layout.new_id()
    assert second == "29991231-235959.1"
    add(layout, second)
    for _ in range(10):
        add(layout, layout.new_id())
    assert ids(layout)[-1] == "29991231-235959.11"
    assert [order(one) for one in ids(layout)] == sorted(map(order, ids(layout)))
    assert order("29991231-235959.01") == ("", 0)


def test_two_cannot_be_at_work(layout: Layout) -> None:
    held = pytest.raises(Error, match=rf"is running \(PID {os.getpid()}\)")
    with layout.alone(), held, layout.alone():
        pass
    with layout.alone():
        assert stat.S_IMODE((layout.base / ".lock").stat().st_mode) == 0o600


def test_directories_that_others_could_replace_are_refused(tmp_path: Path) -> None:
    layout = Layout("mysite", tmp_path)
    layout.prepare()
    layout.releases.chmod(0o775)
    with pytest.raises(Error, match=f"`chown root: {layout.releases}; chmod 755"):
        layout.prepare()
    layout.releases.rmdir()
    layout.releases.symlink_to("/tmp")
    with pytest.raises(Error, match="is not a directory"):
        layout.prepare()


def test_a_link_that_is_somebody_else_s(layout: Layout) -> None:
    assert layout.linked() == ""
    layout.current.symlink_to("/opt/mysite")
    with pytest.raises(Error, match="leads to '/opt/mysite', which is not a release"):
        layout.linked()
    layout.current.unlink()
    layout.current.mkdir()
    with pytest.raises(Error, match="is not a link"):
        layout.linked()


VALUES = st.none() | st.integers() | st.text() | st.lists(st.text(), max_size=2)
RECORDS = st.dictionaries(st.sampled_from(Release._fields) | st.text(), VALUES, max_size=8)


def test_records_are_read_whatever_is_in_them(layout: Layout) -> None:
    add(layout, IDS[0])

    @given(record=(RECORDS | VALUES).map(json.dumps).map(str.encode) | st.binary(max_size=300))
    def read(record: bytes) -> None:
        (layout.releases / f"{IDS[0]}.json").write_bytes(record)
        (found,) = layout.all()
        assert found.id == IDS[0]
        assert all(isinstance(value, str) and len(value) <= 1000 for value in found)
        assert not found.environment or order(found.environment) > ("", 0)

    read()


def test_records_that_are_no_files_are_not_read(layout: Layout) -> None:
    for identity in IDS[:3]:
        (layout.releases / identity).mkdir()
    os.mkfifo(layout.releases / f"{IDS[0]}.json")
    (layout.releases / f"{IDS[1]}.json").symlink_to("/etc/passwd")
    assert layout.all() == []
