"""install and uninstall below another root: what is written, what is refused, what is taken back.

What systemd makes of it is in tests/machine.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.cli import main

SITE = ["--group=www-data", "--app=mysite.wsgi:application", "--systemd=252"]


def install(root: Path, *options: str) -> int:
    return main(["install", "mysite", f"--root={root}", *SITE, *options])


def files(root: Path) -> set[str]:
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


ALL = {
    "etc/systemd/system/mysite.socket",
    "etc/systemd/system/mysite.service",
    "etc/systemd/system/sockets.target.wants/mysite.socket",
    "var/lib/sdactivate/mysite.json",
}


def test_units_are_written_enabled_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(tmp_path) == 0
    assert files(tmp_path) == ALL
    out, err = capsys.readouterr()
    assert out == ""
    assert f"write {tmp_path}/etc/systemd/system/mysite.socket" in err
    assert main(["uninstall", "mysite", f"--root={tmp_path}"]) == 0
    assert files(tmp_path) == set()
    assert capsys.readouterr().out.split() == [
        f"{tmp_path}/etc/systemd/system/mysite.service",
        f"{tmp_path}/etc/systemd/system/mysite.socket",
    ]


def test_a_second_time_only_what_changed_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path)
    socket = tmp_path / "etc/systemd/system/mysite.socket"
    before = socket.stat().st_ino
    capsys.readouterr()
    assert install(tmp_path, "--threads=4") == 0
    assert socket.stat().st_ino == before
    assert f"write {tmp_path}/etc/systemd/system/mysite.service\n" in capsys.readouterr().err
    assert install(tmp_path, "--threads=4") == 0
    assert "sdactivate: no file has changed\n" in capsys.readouterr().err


def test_what_the_site_has_no_more_is_removed(tmp_path: Path) -> None:
    timer = ["--chdir=/srv/mysite", "--command=clearsessions"]
    assert install(tmp_path, *timer) == 0
    units = tmp_path / "etc/systemd/system"
    assert (units / "mysite-clearsessions.timer").exists()
    assert install(tmp_path) == 0
    assert not (units / "mysite-clearsessions.timer").exists()
    assert not (units / "mysite-clearsessions.service").exists()


def test_dry_run_is_a_diff_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(tmp_path, "--dry-run") == 0
    assert files(tmp_path) == set()
    assert "\n+SocketGroup=www-data\n" in capsys.readouterr().out
    install(tmp_path)
    capsys.readouterr()
    assert install(tmp_path, "--dry-run", "--mode=0600") == 0
    out = capsys.readouterr().out
    assert [
        line for line in out.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")
    ] == [
        "-SocketMode=0660",
        "+SocketMode=0600",
    ]


@pytest.mark.parametrize("installed", [False, True])
def test_what_others_wrote_or_changed_is_refused(
    installed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = tmp_path / "etc/systemd/system/mysite.socket"
    if installed:
        install(tmp_path)
        socket.write_text(socket.read_text() + "Backlog=1\n")
    else:
        socket.parent.mkdir(parents=True)
        socket.write_text("[Socket]\n")
    before = files(tmp_path), socket.read_text()
    capsys.readouterr()
    assert install(tmp_path, "--mode=0600") == 1
    said = "was changed since it was installed" if installed else "was not written by sdactivate"
    assert said in capsys.readouterr().err
    assert (files(tmp_path), socket.read_text()) == before
    if installed:
        assert main(["uninstall", "mysite", f"--root={tmp_path}"]) == 1
        assert socket.exists()
    assert install(tmp_path, "--mode=0600", "--force") == 0
    assert "SocketMode=0600" in socket.read_text()


def test_a_link_is_somebody_elses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "mysite.socket").symlink_to("/dev/null")  # systemctl mask
    assert install(tmp_path, "--force") == 1
    assert "mysite.socket exists and is not a regular file" in capsys.readouterr().err
    assert files(tmp_path) == {"etc/systemd/system/mysite.socket"}


def test_what_another_site_has_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(tmp_path, "--chdir=/srv/mysite", "--command=x") == 0
    before = files(tmp_path)
    assert main(["install", "mysite-x", f"--root={tmp_path}", *SITE, "--force"]) == 1
    assert "mysite-x.service belongs to the site mysite" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_what_has_no_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sites.toml").write_text('[sites.mysite]\nkind = "nginx"\napp = "a:b"\n')
    argv = ["install", "mysite", "--from", f"{tmp_path}/sites.toml", f"--root={tmp_path}/root"]
    assert main(argv) == 2
    assert "kind nginx: it has no units to install" in capsys.readouterr().err


def test_one_at_a_time(tmp_path: Path) -> None:
    state = tmp_path / "var/lib/sdactivate"
    state.mkdir(parents=True)
    argv = [sys.executable, "-m", "sdactivate", "install", "mysite", f"--root={tmp_path}", *SITE]
    held = os.open(state, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert any("wait for another install" in line for line in said)
        assert files(tmp_path) == set()
        os.close(held)
        process.stderr.read()
    assert process.returncode == 0
    assert files(tmp_path) == ALL


def test_what_was_removed_by_hand_is_no_obstacle(tmp_path: Path) -> None:
    assert install(tmp_path) == 0
    (tmp_path / "etc/systemd/system/mysite.socket").unlink()
    assert main(["uninstall", "mysite", f"--root={tmp_path}"]) == 0
    assert files(tmp_path) == set()


def test_uninstall_takes_names_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uninstall", "../mysite", f"--root={tmp_path}"]) == 2
    assert "NAME '../mysite': a name consists of" in capsys.readouterr().err


def test_nothing_of_the_working_directory_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "root/srv/mysite"
    code.mkdir(parents=True)
    (code / "a.py").write_text("")
    (code / "compileall.py").write_text("open('run', 'w')")
    monkeypatch.chdir(code)
    assert install(tmp_path / "root", "--chdir=/srv/mysite", f"--python={sys.executable}") == 0
    assert not (code / "run").exists()
    assert sorted(path.name.partition(".")[0] for path in code.rglob("*.pyc")) == [
        "a",
        "compileall",
    ]


def test_what_was_never_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uninstall", "mysite", f"--root={tmp_path}"]) == 1
    assert "nothing of this name was installed" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"files": 1}', '{"files": ["a", "b"]}'])
def test_a_record_that_is_broken_is_not_guessed_at(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path)
    (tmp_path / "var/lib/sdactivate/mysite.json").write_text(text)
    assert install(tmp_path, "--mode=0600") == 1
    assert "is damaged or was changed" in capsys.readouterr().err


def test_a_step_that_fails_takes_the_others_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(tmp_path) == 0
    regular = [tmp_path / name for name in ALL if "wants" not in name]
    before = {path: path.read_text() for path in regular}
    # Enabling fails after the files were written.
    link = tmp_path / "etc/systemd/system/sockets.target.wants/mysite.socket"
    assert os.readlink(link) == "/etc/systemd/system/mysite.socket"
    link.unlink()
    link.write_text("")
    assert install(tmp_path, "--mode=0600") == 1
    err = capsys.readouterr().err
    assert f"enable the units: {link} exists and is not a symbolic link" in err
    assert "all changes were undone" in err
    assert {path: path.read_text() for path in regular} == before
    assert files(tmp_path) == ALL


@pytest.mark.skipif(not shutil.which("strace"), reason="strace kills it at a system call")
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_killed_at_each_rename(number: int, tmp_path: Path) -> None:
    """Of the record, the two units, the record: what is there is whole, and on the record."""
    root = tmp_path / "root"
    root.mkdir()
    argv = [sys.executable, "-m", "sdactivate", "install", "mysite", f"--root={root}", *SITE]
    fault = f"inject=rename,renameat,renameat2:signal=KILL:when={number}"
    strace = ["strace", "-qq", "-o", f"{tmp_path}/log", "-e", fault, *argv]
    killed = subprocess.run(strace, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    units = {path for path in root.glob("etc/systemd/system/*") if path.is_file()}
    whole = {path for path in units if not path.name.startswith(".")}
    record = root / "var/lib/sdactivate/mysite.json"
    known = json.loads(record.read_text())["files"] if record.exists() else {}
    assert whole <= {Path(f"{root}{path}") for path in known}
    assert all(path.read_text().endswith("\n") for path in whole)
    if number % 2:
        assert install(root) == 0
        assert files(root) >= ALL
    code = main(["uninstall", "mysite", f"--root={root}"])
    assert code == (0 if known or number % 2 else 1)
    assert {name for name in files(root) if name.startswith("etc/")} == set()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace sends signals at system calls")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_stop_the_undoing(number: signal.Signals, tmp_path: Path) -> None:
    """One comes as the unit is enabled, and others as what was done is removed."""
    root = tmp_path / "root"
    root.mkdir()
    argv = [sys.executable, "-m", "sdactivate", "install", "mysite", f"--root={root}", *SITE]
    strace = ["strace", "-qq", "-o", f"{tmp_path}/log"]
    strace += ["-e", f"inject=symlink,symlinkat:signal={number.name}:when=1"]
    strace += ["-e", f"inject=unlink,unlinkat:signal={number.name}"]
    done = subprocess.run([*strace, *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130
    assert done.stderr.endswith("enable the units: interrupted; all changes were undone\n")
    assert (tmp_path / "log").read_text().count(f"--- {number.name} ") >= 3
    assert files(root) == set()


def test_the_record_tells_what_was_written(tmp_path: Path) -> None:
    install(tmp_path)
    record = json.loads((tmp_path / "var/lib/sdactivate/mysite.json").read_text())
    units = "/etc/systemd/system"  # as the image names it
    assert set(record["files"]) == {f"{units}/mysite.socket", f"{units}/mysite.service"}
