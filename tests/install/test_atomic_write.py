import os
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.errors import Error
from sdactivate.generate.output import File
from sdactivate.install.atomic_write import replace, write

OURS = File("a.socket", "# a.socket, written by sdactivate.\nnew\n")


def test_files_are_written_with_their_mode_and_folder(tmp_path: Path) -> None:
    files = [OURS, File("run/start", "#!/bin/sh\n# written by sdactivate\n", 0o755)]
    assert write(tmp_path / "out", files) == files
    assert (tmp_path / "out/a.socket").read_text() == OURS.text
    assert (tmp_path / "out/run/start").stat().st_mode & 0o777 == 0o755
    assert sorted(os.listdir(tmp_path / "out")) == ["a.socket", "run"]


def test_what_has_not_changed_is_not_touched(tmp_path: Path) -> None:
    write(tmp_path, [OURS])
    before = (tmp_path / "a.socket").stat().st_ino
    assert write(tmp_path, [OURS]) == []
    assert (tmp_path / "a.socket").stat().st_ino == before
    assert write(tmp_path, [OURS._replace(mode=0o600)]) == [OURS._replace(mode=0o600)]


def test_what_others_wrote_is_not_overwritten_and_nothing_else_is_written(tmp_path: Path) -> None:
    (tmp_path / "b.socket").write_text("[Socket]\n")
    files = [OURS, File("b.socket", OURS.text)]
    with pytest.raises(Error, match=r"b\.socket exists and was not written by sdactivate"):
        write(tmp_path, files)
    assert os.listdir(tmp_path) == ["b.socket"]
    assert write(tmp_path, files, force=True) == files


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_file_is_not_written_through(force: bool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(OURS.text)
    (tmp_path / "a.socket").symlink_to("elsewhere")
    (tmp_path / "b.socket").symlink_to("nowhere")
    os.mkfifo(tmp_path / "c.socket")
    for name in ("a.socket", "b.socket", "c.socket"):
        file = File(name, OURS.text.replace("new", "newer"))
        if force:
            assert write(tmp_path, [file], force) == [file]
            assert (tmp_path / name).read_text() == file.text
            continue
        with pytest.raises(Error, match=f"{name} exists and is not a regular file"):
            write(tmp_path, [file])
    assert (tmp_path / "elsewhere").read_text() == OURS.text
    assert not (tmp_path / "nowhere").exists()


def test_all_of_them_or_none(tmp_path: Path) -> None:
    """The process may write 4 KiB to a file, and fails at the second one of two."""
    write(tmp_path, [OURS])
    code = f"""
import resource, signal
from pathlib import Path
from sdactivate.generate.output import File
from sdactivate.install.atomic_write import write
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
files = [File("a.socket", "# written by sdactivate"), File("b.socket", "x" * 10000)]
write(Path({str(tmp_path)!r}), files)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"File too large: '{tmp_path}/b.socket'" in run.stderr
    assert (tmp_path / "a.socket").read_text() == OURS.text
    assert os.listdir(tmp_path) == ["a.socket"]


def test_what_can_not_be_replaced_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.socket").mkdir()
    file = File("a.socket", "text")
    with pytest.raises(IsADirectoryError, match=r"directory: '[^']*/a\.socket'$"):
        write(tmp_path, [file], force=True)
    with pytest.raises(IsADirectoryError, match=r"directory: '[^']*/a\.socket'$"):
        replace(tmp_path / "a.socket", file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.socket"]
