"""What serving processes publish is read, and what a hostile one publishes harms nobody."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.cli import status as verb
from sdactivate.operate import status
from sdactivate.operate.status import Status
from sdactivate.status_record import NAME, SIZE, Record, percentile
from tests.servers.service import PATIENCE, eventually, serving

APPLICATION = """
import os
def application(environ, start_response):
    failing = environ["PATH_INFO"] == "/fails"
    start_response("503 No" if failing else "200 OK", [("Content-Length", "0")])
    if environ["PATH_INFO"] == "/forks" and not os.fork():
        os.read(0, 1)
    return []
"""


def ask(address: socket.socket) -> None:
    with address as peer:
        while peer.recv(4096):
            pass


def published(pid: int) -> Record:
    found = status.read(pid)
    assert found is not None
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_publishes_how_it_is_doing(tmp_path: Path, workers: int) -> None:
    (tmp_path / "told.py").write_text(APPLICATION)
    with serving(tmp_path, "told:application", workers=workers, threads=2) as service:
        for path in ("/", "/", "/fails"):
            peer = service.connect()
            peer.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            ask(peer)
        pid = service.process.pid
        eventually(lambda: published(pid).requests == 3, "three requests")
        main = published(pid)
        assert main.errors == 1
        assert main.workers == workers
        assert main.threads == 2 * workers
        assert main.reloaded == 0
        made = Status("mysite", "active")
        records = {pid: main}
        if workers > 1:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            records |= {int(child): published(int(child)) for child in children}
            assert len({id(record) for record in records.values()}) == 3
        found = status._published(made, records, pid)
        assert found.failed_last_minute == found.failed_last_hour == 1
        assert found.measured == 3
        assert found.p50 is not None
        assert 0 < found.p50 < PATIENCE


def test_a_child_of_the_application_has_no_record(tmp_path: Path) -> None:
    (tmp_path / "told.py").write_text(APPLICATION)
    with serving(tmp_path, "told:application", threads=1) as service:
        peer = service.connect()
        peer.sendall(b"GET /forks HTTP/1.0\r\n\r\n")
        pid = service.process.pid
        children = Path(f"/proc/{pid}/task")
        eventually(
            lambda: any((each / "children").read_text() for each in children.iterdir()), "a child"
        )
        (child,) = (
            int(word)
            for each in children.iterdir()
            for word in (each / "children").read_text().split()
        )
        try:
            eventually(lambda: status.read(child) is None, "the child to close what it inherited")
            assert status.read(pid) is not None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)
            peer.close()


HOSTILE = {
    "rubbish": f"os.pwrite(fd(), os.urandom({SIZE}), 0)",
    "endless": "os.truncate(fd(), 1 << 40)",
    "empty": "fd()",
    "named alike": "os.mkfifo('/tmp/x'); os.open('/tmp/x', os.O_RDWR)",
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_process_publishes_nothing(how: str, tmp_path: Path) -> None:
    code = f"""
import os, sys
def fd(): return os.memfd_create({NAME!r})
{HOSTILE[how].replace("/tmp", str(tmp_path))}
print(flush=True); sys.stdin.read()
"""
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert status.read(process.pid) is None
        process.communicate(timeout=PATIENCE)
    assert status.read(process.pid) is None  # it has gone


def test_what_a_process_says_is_shown_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Status("a\x1b[2J", "active", reason="b\nforged: \x1b]0;x", workers=1, failed_reloads=3)
    monkeypatch.setattr(status, "status", lambda _: site)
    monkeypatch.setattr(status, "every", lambda: [site])
    parser = __import__("argparse").ArgumentParser()
    verb.add_arguments(parser)
    for argv in (["a"], [], ["a", "--format", "json"], ["--format", "json"]):
        assert verb.run(parser.parse_args(argv)) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        assert "\nforged" not in shown


def test_why_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert "use sudo" in "\n".join(status.text(Status("mysite", "active", processes=1)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for state, why in (("activating", "before the service has started"), ("active", "its server")):
        said = "\n".join(status.text(Status("mysite", state, processes=1)))
        assert why in said
        assert "sudo" not in said


def test_durations_are_shown_with_two_digits() -> None:
    assert percentile((0, 0, 1) + (0,) * 93, 0.5) is not None
    shown = [status.duration(each) for each in (None, 0.000012, 0.0034, 0.0994, 0.12, 34.0)]
    assert shown == ["", "0.012 ms", "3.4 ms", "99 ms", "0.12 s", "34.00 s"]
