"""What others write, and what changes under the doctor's eyes: a report or an error, never more."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sdactivate import terminal
from sdactivate.access import who, who_report
from sdactivate.access.accounts import asked
from sdactivate.access.processes import running
from sdactivate.cli import main
from sdactivate.doctor import exposure, html_page, report, units
from sdactivate.doctor.checks.live_fronts import says
from sdactivate.doctor.checks.live_services import denials
from sdactivate.doctor.examine import examine, misnamed
from sdactivate.doctor.finding import Case
from sdactivate.doctor.host_state import stamp, tail
from sdactivate.errors import Error
from sdactivate.fronts import FRONTS, Front
from sdactivate.systemd.systemctl import listed, parse_show
from tests.doctor import sarif
from tests.effort import examples

FINDINGS = jsonschema.Draft202012Validator(json.loads(report.JSON_SCHEMA.read_text()))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which root only may")
anything = settings(
    deadline=None, suppress_health_check=list(HealthCheck), max_examples=examples(150)
)


def reported(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Report on all units in a directory, in every form."""
    monkeypatch.setattr(html_page, "measure", lambda *_, **__: None)  # systemd's own program
    cases = [Case(it) for it in units.offline([str(directory)])]
    examined = [(case, examine(case)) for case in cases]
    found = [finding for _, its in examined for finding in its]
    text = "\n".join([report.as_text(found), html_page.page(examined), *map(str, found)])
    assert "\x1b" not in report.as_text(found)
    text.encode()
    for case in cases:
        misnamed(case)
    FINDINGS.validate(json.loads(json.dumps(report.as_json(found))))
    sarif.validate(report.as_sarif(found))


# Unit files

_NAMES = """
    ListenStream ListenDatagram SocketMode SocketUser SocketGroup DirectoryMode Backlog Accept
    MaxConnections TriggerLimitBurst TriggerLimitIntervalSec FlushPending Service
    FileDescriptorName User Group DynamicUser RuntimeDirectory RuntimeDirectoryPreserve
    PrivateTmp ProtectHome ProtectSystem ExecStart WorkingDirectory IPAddressAllow IPAddressDeny
    Requires Sockets Type BindPaths Environment
"""
_KEYS = _NAMES.split()
_VALUES = st.text() | st.sampled_from(
    ["", "²", "0999", "9" * 5000, "0x10", "yes", "/", "/tmp/%", "%", "%%%i", "@", "sh -c", "-@!",
     "infinity", "1e999", "nan", "a:b:c", "[::1]:80", "/home/x y", '"', "\\x00", "\\", "..", "/.."]
)  # fmt: skip
_LINES = st.lists(st.tuples(st.sampled_from(_KEYS), _VALUES).map("=".join), max_size=12)


@anything
@given(socket=_LINES, service=_LINES)
def test_any_value_of_any_directive_is_examined(
    socket: list[str], service: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("units")
    for name, section, lines in (("a.socket", "Socket", socket), ("a.service", "Service", service)):
        text = "\n".join([f"[{section}]", *lines])
        (directory / name).write_bytes(text.encode(errors="surrogatepass"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        reported(directory, monkeypatch)


@anything
@given(socket=st.binary(), name=st.text(st.characters(codec="utf-8", exclude_characters="/\0")))
@example(
    socket=b"[Socket]\nListenStream=@\xff\x1b\x00b\r[x]\n# sdactivate: ignore=\xff,SDA005\n",
    name="a b%#",
)
def test_any_bytes_under_any_name_are_examined(
    socket: bytes, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("units")
    (directory / f"{name[:20]}.socket").write_bytes(b"[Socket]\nListenStream=@a\n" + socket)
    with pytest.MonkeyPatch.context() as monkeypatch:
        reported(directory, monkeypatch)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _masked(path: Path) -> None:
    path.symlink_to("/dev/null")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _one_long_line(path: Path) -> None:
    path.write_text("[Socket]\nListenStream=/" + "a" * (1 << 21))


ODD = (_fifo, _loop, _endless, _masked, _huge, _one_long_line)


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("name", ["a.socket", "a.socket.d/x.conf"])
def test_what_is_no_unit_file_is_refused_with_a_sentence(
    make: Callable[[Path], None], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    code = main(["doctor", "--offline", str(path)])
    said = capsys.readouterr()
    if make is _masked and path.suffix == ".conf":  # which hides another drop-in, and is no error
        assert (code, said.out, said.err) == (0, "nothing found\n", "")
        return
    assert code in (1, 2)
    assert said.out == ""
    assert said.err.startswith(f"sdactivate doctor: {path}: ")
    assert said.err.count("\n") == 1


# Without root


def as_nobody(job: Callable[[], int]) -> int:
    """What `job` returns in a child process without any right."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        os.setgroups([])
        os.setresgid(20001, 20001, 20001)
        os.setresuid(20001, 20001, 20001)
        code = job()
    finally:
        os._exit(code)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory of units that only root may enter, in one that everyone may."""
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    inside = tmp_path / "closed"
    inside.mkdir()
    (inside / "a.socket").write_text("[Socket]\nListenStream=/run/a\n")
    (tmp_path / "b.socket").write_text("[Socket]\nListenStream=/run/b\nSocketMode=0660\n")
    (tmp_path / "b.socket").chmod(0o600)
    inside.chmod(0o700)
    return tmp_path


@as_root
def test_what_may_not_be_read_is_said(closed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for target in (closed / "closed", closed / "closed" / "a.socket", closed / "b.socket"):
        argv = ["doctor", "--offline", str(target)]
        assert as_nobody(partial(main, argv)) in (1, 2)
        assert str(target) in capfd.readouterr().err
    assert as_nobody(lambda: main(["who", str(closed / "closed" / "s")])) == 1
    assert "run as root" in capfd.readouterr().err
    assert as_nobody(lambda: main(["who", str(closed / "nothing"), "--prove"])) == 1
    assert "run as root" in capfd.readouterr().err
    assert as_nobody(lambda: main(["doctor", "anything"])) == 1


# What the system says


@anything
@given(st.text() | st.binary().map(os.fsdecode))
def test_any_answer_of_systemd_s_is_read(text: str) -> None:
    parse_show(text)
    listed(text)
    exposure.gaps(text)


@pytest.mark.parametrize("make", ODD)
def test_a_log_that_is_no_log_has_no_lines(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(path := tmp_path / "error.log")
    assert sum(map(len, tail(str(path)))) <= 1 << 18
    assert tail(str(tmp_path / "none")) == []


@anything
@given(st.text(), st.sampled_from(list(FRONTS.values())))
def test_any_line_of_a_log_is_read(line: str, front: Front) -> None:
    stamp(line)
    denials([line], "/run/a")
    failures = front.failures
    for template in (failures.missing, failures.forbidden, failures.refused):
        says(line, template, "/run/a")


_STATUS = b"Name:\t\xff\x1b\nUid:\t0 0 0 0\nGid:\t0 0 0 0\nGroups:\t\nCapEff:\t0\nVmSize:\n"


@anything
@given(
    files=st.dictionaries(st.sampled_from(["status", "cgroup", "uid_map", "gid_map"]), st.binary())
)
@example(files={"status": b"Name:\tx\nUid:\t1 2\nVmSize:\n"})
@example(files={"status": _STATUS, "cgroup": b"\0", "uid_map": b"1 2", "gid_map": b""})
@example(files={"status": _STATUS, "cgroup": b"0::/\xff\n", "uid_map": b"", "gid_map": b""})
def test_any_process_is_read_or_left_out(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    proc = tmp_path_factory.mktemp("proc")
    for number in ("1", "self", "2"):
        (proc / number).mkdir()
    for name, content in files.items():
        (proc / "1" / name).write_bytes(content)
    assert len(list(running(str(proc)))) <= 1


def test_processes_that_leave_in_the_middle_are_left_out(tmp_path: Path) -> None:
    crowd = [subprocess.Popen(["sleep", "600"]) for _ in range(20)]
    seen = []
    try:
        for process in running():
            seen.append(process)
            if process.pid == crowd[0].pid:
                for one in crowd[10:]:
                    one.kill()
                    one.wait()
        gone = [it for it in seen if it.pid in {one.pid for one in crowd[10:]}]
        assert gone == []
        assert {one.pid for one in crowd[:10]} <= {it.pid for it in seen}
    finally:
        for one in crowd:
            one.kill()
            one.wait()
    # and those that leave between the reading and the asking
    elsewhere = [it._replace(root=f"/proc/{it.pid}/root", view=("x",)) for it in seen]
    mine = [it for it in elsewhere if it.pid in {one.pid for one in crowd}]
    told = who.report(str(tmp_path), [], mine)
    assert told.processes == ()


@anything
@given(st.text())
def test_any_name_is_somebody_or_an_error(name: str) -> None:
    try:
        person = asked(name)
    except Error:
        return
    assert terminal.escape(person.name).isprintable()


@anything
@given(st.text() | st.binary().map(os.fsdecode))
def test_any_path_has_a_report(path: str) -> None:
    told = who.report(f"/{path}", [asked("root")])
    who_report.as_text(told).encode()
    json.dumps(who_report.as_json(told))


def test_a_terminal_that_lacks_letters_is_no_obstacle(tmp_path: Path) -> None:
    for argv in (["who", "/"], ["doctor", "--offline", str(tmp_path)]):
        (tmp_path / "a.socket").write_text("[Socket]\nListenStream=@ä\n")
        done = subprocess.run(
            [sys.executable, "-m", "sdactivate", *argv],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert b"Traceback" not in done.stderr
        assert done.stdout
