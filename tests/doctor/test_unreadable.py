"""What refuses to be read costs a line, and keeps nothing else from being examined."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate.access import processes, who, who_report
from sdactivate.cli import main
from sdactivate.doctor import html_page, rules, units
from sdactivate.doctor.examine import examine
from sdactivate.doctor.finding import Case
from sdactivate.doctor.host_state import HostState
from sdactivate.errors import Error
from tests import refused

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a device, which root only may")
BROKEN = "[Socket]\nListenStream=/run/web.sock\nSocketGroup=web\n"  # SDA001


@pytest.fixture
def listening() -> Iterator[Path]:
    """A socket that a user's mount hides in that user's own namespace."""
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as directory,
        socket.socket(socket.AF_UNIX) as server,
    ):
        os.chmod(directory, 0o755)
        server.bind(f"{directory}/s")
        server.listen()
        yield Path(directory, "s")


@pytest.fixture
def bad_mount(listening: Path) -> Iterator[list[int]]:
    """Two processes of uid 20001 behind one mount over the socket's directory."""
    device = f"/var/tmp/fuse-{os.getpid()}"
    os.mknod(device, 0o020666, os.makedev(10, 229))
    os.chmod(device, 0o666)
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError:
        os.unlink(device)
        pytest.skip("this kernel has no FUSE")
    program = Path(refused.__file__).read_text()
    script = f'sleep 60 >&- 2>&- <&- & exec {sys.executable} -c "$0" {device} {listening.parent}'
    with subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, program],
        user=20001,
        group=20001,
        extra_groups=[],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"mounted\n"
            mine = [it.pid for it in processes.running() if os.getsid(it.pid) == process.pid]
            assert process.pid in mine
            yield mine
        finally:
            os.killpg(process.pid, 9)
            os.unlink(device)


@as_root
def test_a_users_mount_costs_the_doctor_one_line(bad_mount: list[int], listening: Path) -> None:
    host = HostState(units.Deployment(None, ()))
    seen = {it.pid: host.verdict(str(listening), it) for it in host.processes}
    assert [seen[pid] for pid in bad_mount] == [None] * len(bad_mount)
    assert seen[os.getpid()] is not None
    (line,) = host.unseen.values()
    assert "Permission denied even for root" in line
    assert f"process {min(bad_mount)}" in line


@as_root
def test_a_users_mount_costs_who_one_line(bad_mount: list[int], listening: Path) -> None:
    told = who.report(str(listening), [], list(processes.running()))
    text = who_report.as_text(told)
    (line,) = [it for it in text.splitlines() if "Permission denied even for root" in it]
    assert line.startswith("  ?")


def test_a_rule_that_can_t_be_checked_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both kinds of error, of the first rule and of another; the page is written all the same."""
    (tmp_path / "web.socket").write_text(BROKEN)
    (deployment,) = units.offline([str(tmp_path)])
    case = Case(deployment)

    def fails(error: Exception) -> object:
        def check(case: Case) -> Iterator[object]:
            raise error
            yield

        return check

    errors = {"SDA002": Error("a mount refuses"), "SDA003": OSError(107, "Not connected", "/mnt")}
    table = [it._replace(check=fails(errors[it.id])) if it.id in errors else it  # type: ignore[arg-type]
             for it in rules.TABLE]  # fmt: skip
    monkeypatch.setattr("sdactivate.doctor.examine.TABLE", table)
    with pytest.raises(Error, match="a mount refuses"):
        examine(case)
    troubles: list[str] = []
    assert [it.rule.id for it in examine(case, (), troubles)] == ["SDA001"]
    assert troubles == [
        "web: SDA002 can't be checked: a mount refuses",
        "web: SDA003 can't be checked: /mnt: Not connected",
    ]
    assert "SDA001" in html_page.page([(case, examine(case, (), troubles))])


def test_a_unit_that_can_t_be_read_keeps_no_other_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web.socket").write_text(BROKEN)
    (tmp_path / "huge.service").write_bytes(b"#" * ((1 << 20) + 1))
    (drop_in := tmp_path / "web.socket.d").mkdir()
    (drop_in / "loop.conf").symlink_to("loop.conf")
    (drop_in / "fine.conf").write_text("[Socket]\nRemoveOnStop=yes\n")
    os.mkfifo(tmp_path / "fifo.service")
    missing = str(tmp_path / "gone.socket")
    argv = ["doctor", "--offline", "--format", "json", str(tmp_path), missing]
    assert main([*argv, str(tmp_path / "fifo.service")]) == 1
    out, err = capsys.readouterr()
    assert {it["rule"] for it in json.loads(out)} == {"SDA001", "SDA010"}
    assert len(err.splitlines()) == 4
    for name in ("loop.conf", "huge.service", "fifo.service", "gone.socket"):
        assert name in err


def test_where_nothing_could_be_read_nothing_is_said_to_be_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--offline", str(tmp_path / "gone.socket")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no such file" in err
