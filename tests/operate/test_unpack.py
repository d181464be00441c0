"""Tars that others have packed: what is unpacked stays inside, and what can't is refused."""

import contextlib
import gzip
import io
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.operate import unpack as module
from sdactivate.operate.unpack import Refused, stays_inside, unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def packed(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for one in members:
            info, data = one if isinstance(one, tuple) else (one, b"")
            info.size = info.size or len(data)
            archive.addfile(info, io.BytesIO(data.ljust(info.size, b"\0")))
    return file.getvalue()


def refused(data: bytes, directory: Path) -> str:
    with pytest.raises(Refused) as caught:
        unpack(io.BytesIO(data), str(directory))
    return str(caught.value)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (member("/etc/cron.d/x"), "outside the release"),
        (member("a/../../x"), "outside the release"),
        (member("a", tarfile.SYMTYPE, linkname="/etc/passwd"), "outside the release"),
        (member("a/b", tarfile.SYMTYPE, linkname="../../x"), "outside the release"),
        (member("a", tarfile.LNKTYPE, linkname="/etc/shadow"), "a hard link"),
        (member("a", tarfile.CHRTYPE), "a device"),
        (member("a", tarfile.BLKTYPE), "a device"),
        (member("a", tarfile.FIFOTYPE), "a FIFO"),
        (member("/".join("d" * 120)), "too deep"),
        (member("x" * 3001), "too long"),
    ],
)
def test_hostile_members_are_refused(info: tarfile.TarInfo, reason: str, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    assert reason in refused(packed(info), top)
    assert sorted(tmp_path.rglob("*")) == [top, *sorted(top.rglob("*"))]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    inside = packed(
        member("real", tarfile.DIRTYPE),
        member("link", tarfile.SYMTYPE, linkname="real"),
        (member("link/file"), b"data"),
    )
    assert "'link/file' lies below 'link'" in refused(inside, tmp_path)
    assert list((tmp_path / "real").iterdir()) == []


def test_what_comes_twice_is_refused(tmp_path: Path) -> None:
    twice = packed(member("file", tarfile.SYMTYPE, linkname="other"), (member("file"), b"data"))
    assert "twice" in refused(twice, tmp_path)


def test_what_is_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 20)
    many = packed(*(member(f"f{number}") for number in range(22)))
    assert "more than" in refused(many, tmp_path)
    sparse = member("huge", size=module.MOST_BYTES + 1).tobuf(tarfile.GNU_FORMAT)
    assert "more than 16 GiB" in refused(sparse + bytes(10240), tmp_path)


@pytest.mark.parametrize("data", [b"", b"not a tar at all" * 100, bytes(10240)], ids=len)
def test_what_is_no_tar_is_refused(data: bytes, tmp_path: Path) -> None:
    refused(data, tmp_path)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_damaged_ones_are_refused_and_whole_ones_unpacked(compress: Any, tmp_path: Path) -> None:
    data = compress(packed((member("file"), os.urandom(50000))))
    (tmp_path / "damaged").mkdir()
    refused(data[: len(data) // 2], tmp_path / "damaged")
    (tmp_path / "whole").mkdir()
    unpack(io.BytesIO(data), str(tmp_path / "whole"))
    assert (tmp_path / "whole/file").stat().st_size == 50000


NAMES = st.text("ab./é\n", max_size=12) | st.sampled_from(["..", "a/b", "/a", "a/../b", "./a/"])
TYPES = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, b"S"]
)
MEMBERS = st.builds(
    lambda name, kind, link, mode, time: member(name, kind, linkname=link, mode=mode, mtime=time),
    *(NAMES, TYPES, NAMES, st.integers(0, 0o7777), st.floats(-1e12, 1e12) | st.integers()),
)


@given(members=st.lists(MEMBERS, max_size=8), damage=st.binary(max_size=3), at=st.integers(0, 4000))
def test_whatever_is_packed_all_stays_inside(
    members: list[tarfile.TarInfo], damage: bytes, at: int
) -> None:
    try:
        data = bytearray(packed(*members))
    except (ValueError, OverflowError):
        return  # tarfile itself can't write it
    data[at : at + len(damage)] = damage
    with tempfile.TemporaryDirectory() as around:
        top = Path(around, "top")
        top.mkdir()
        with contextlib.suppress(Refused, OSError):
            unpack(io.BytesIO(bytes(data)), str(top))
        assert os.listdir(around) == ["top"]
        for path in top.rglob("*"):
            if path.is_symlink():
                assert stays_inside(path.relative_to(top).parts, os.readlink(path))
            else:
                assert path.is_file() or path.is_dir()
                assert path.stat().st_mode & 0o7022 == 0


@given(data=st.binary(max_size=2000))
def test_any_bytes_are_unpacked_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as top, contextlib.suppress(Refused):
        unpack(io.BytesIO(data), top)


def test_it_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    """As a build runs it: with nothing but the standard library, and git's commit is told."""
    repository = tmp_path / "repository"
    (repository / "app").mkdir(parents=True)
    (repository / "app/run").write_text("#!/bin/sh\n")
    (repository / "app/run").chmod(0o775)
    (repository / "link").symlink_to("app/run")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x.test", "-C", str(repository)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True, timeout=60)
    archive = subprocess.run([*git, "archive", "HEAD"], check=True, capture_output=True).stdout
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True).stdout
    top = tmp_path / "top"
    top.mkdir()
    argv = [sys.executable, "-I", "-S", "-c", Path(module.__file__).read_text(), str(top)]
    done = subprocess.run(argv, input=archive, check=True, capture_output=True, timeout=60)
    assert done.stdout == commit
    assert (top / "app/run").stat().st_mode & 0o7777 == 0o755
    assert os.readlink(top / "link") == "app/run"
    again = subprocess.run(argv, input=b"nonsense", capture_output=True, timeout=60, text=False)
    assert again.returncode == 1
    assert again.stderr.startswith(b"the tar archive is damaged or incomplete: ")
    assert b"Traceback" not in again.stderr
