"""What `doctor --learn --apply` writes as root, and where it writes nothing."""

import argparse
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sdactivate.cli.doctor_learn import (
    _in_file,
    _options,
    _watched_command,
    _write,
    ask_to_write,
)
from sdactivate.doctor.learn.causes import Relax
from sdactivate.doctor.learn.facts import Sandbox
from sdactivate.errors import Error
from sdactivate.systemd.unitfile import Unit

SITE = '[sites.s]\napp = "a:b"\n'
OTHER = '[sites.s]\napp = "root:owned"\n'
PERSON = 4321
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def yes(question: str) -> bool:
    return True


def change(path: Path, ask: Callable[[str], bool] = yes) -> bool:
    return ask_to_write(*_in_file(path, "s", _options([Relax("network")])), ask)


def test_a_file_that_is_changed_keeps_what_it_was(tmp_path: Path) -> None:
    (real := tmp_path / "real.toml").write_bytes(SITE.replace("\n", "\r\n").encode())
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 0, PERSON)
    before = real.stat()
    (link := tmp_path / "link.toml").symlink_to("real.toml")
    assert change(link)
    after = real.stat()
    assert real.read_bytes() == b'[sites.s]\r\nnetwork = true\napp = "a:b"\r\n'
    assert link.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        *(before.st_mode, before.st_uid, before.st_gid),
    )
    assert sorted(os.listdir(tmp_path)) == ["link.toml", "real.toml"]
    assert not change(link)


def test_a_drop_in_is_made(tmp_path: Path) -> None:
    path = tmp_path / "s.service.d/x.conf"
    assert ask_to_write(path, "", "[Service]\n", yes)
    assert path.read_text() == "[Service]\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@root_only
def test_what_the_site_can_write_is_neither_read_nor_written(tmp_path: Path) -> None:
    """It may be a link to a file of root's, now or by the time of the answer."""
    (tmp_path / "other.toml").write_text(OTHER)
    (site := tmp_path / "site").mkdir()
    (site / "link.toml").symlink_to("../other.toml")
    (site / "own.toml").write_text(SITE)
    for path in (site / "link.toml", site / "own.toml", site):
        os.chown(path, PERSON, PERSON, follow_symlinks=False)
    for name in ("link.toml", "own.toml"):
        with pytest.raises(Error, match="users other than root can change"):
            change(site / name)
    assert (tmp_path / "other.toml").read_text() == OTHER
    assert (site / "own.toml").stat().st_uid == PERSON


@root_only
def test_the_lines_are_printed_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "sites.toml").write_text(SITE)
    os.chown(path, PERSON, PERSON)
    args = argparse.Namespace(sites=str(path))
    _write(args, Unit("s.service", [], []), [Relax("network"), Relax("writable", "/srv/x")], yes)
    said = capsys.readouterr().err
    assert "users other than root can change" in said
    assert "    network = true\n" in said
    assert '    writable = ["/srv/x"]\n' in said
    assert path.read_text() == SITE


@root_only
def test_a_directory_that_is_swapped_while_root_reads_the_diff(tmp_path: Path) -> None:
    """Nothing is written where the link leads that is there by then."""
    (etc := tmp_path / "etc").mkdir()
    (conf := tmp_path / "top/conf").mkdir(parents=True)
    (conf / "new.toml").write_text(SITE)

    def swap(question: str) -> bool:
        for path in (tmp_path / "top", conf):
            os.chown(path, PERSON, PERSON)
        conf.rename(tmp_path / "top/was")
        conf.symlink_to(etc)
        os.chown(conf, PERSON, PERSON, follow_symlinks=False)
        return True

    with pytest.raises(Error, match="users other than root can change"):
        change(conf / "new.toml", swap)
    assert os.listdir(etc) == []
    assert (tmp_path / "top/was/new.toml").read_text() == SITE


def test_a_directory_that_anyone_can_write_to_is_not_written_to(tmp_path: Path) -> None:
    """A sticky one neither, though nobody else can take the file's place there."""
    (tmp := tmp_path / "tmp").mkdir()
    (tmp / "sites.toml").write_text(SITE)
    tmp.chmod(0o1777)
    with pytest.raises(Error, match="users other than root can write to"):
        change(tmp / "sites.toml")
    assert (tmp / "sites.toml").read_text() == SITE


def test_what_has_changed_meanwhile_stays(tmp_path: Path) -> None:
    (path := tmp_path / "sites.toml").write_text(SITE)

    def edit(question: str) -> bool:
        path.write_text(SITE + "# mine\n")
        return True

    with pytest.raises(Error, match="was changed meanwhile"):
        change(path, edit)
    assert path.read_text() == SITE + "# mine\n"
    assert os.listdir(tmp_path) == ["sites.toml"]


@root_only
def test_a_signal_after_the_command_leaves_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then it is passed on to nobody, and would end us before the directory is removed."""

    def ended(number: int, frame: object) -> None:
        raise RuntimeError("the handler that ends the process")

    def run(*args: object, **options: object) -> int:
        made.append(Path(str(options["more"]).partition("PYTHONPATH=")[2].partition("'")[0]))
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    made: list[Path] = []
    monkeypatch.setattr("sdactivate.operate.run.run", run)
    before = signal.signal(signal.SIGTERM, ended)
    try:
        with pytest.raises(SystemExit) as end:
            _watched_command(Unit("s.service", [], []), ["true"], Sandbox({}))
        assert signal.getsignal(signal.SIGTERM) is ended
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 128 + signal.SIGTERM
    assert made
    assert not made[-1].exists()
