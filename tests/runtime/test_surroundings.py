"""What an application does to the process around it, and who does not listen to the process."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate import log
from sdactivate.systemd.notify import Supervisor
from tests.runtime.life import ONE_AND_MORE, Life, Lives

STREAMS = {
    "none": "sys.stdout = None",
    "closed": "sys.stdout.close()",
    "another": "sys.stdout = object()",
    "both": "sys.stdout = sys.stderr = None; os.close(0); os.close(1)",
}


@ONE_AND_MORE
@pytest.mark.parametrize("more", STREAMS.values(), ids=STREAMS)
def test_an_application_that_closes_the_standard_streams(
    life: Lives, workers: int, more: str
) -> None:
    service = life(more, workers=workers).ready()
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert {"0", "1", "2"} <= set(os.listdir(f"/proc/{service.process.pid}/fd"))
    service.signal(signal.SIGHUP)
    main = service.main()
    assert service.process.wait(60) == 0
    assert service.ask().startswith(b"HTTP/1.1 200")
    os.kill(main, signal.SIGTERM)
    service.told("STOPPING=1")
    service.all_leave()


@ONE_AND_MORE
def test_an_application_that_clears_the_environment(
    life: Lives, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    service = life("os.environ.clear()", workers=workers).ready()
    service.told("WATCHDOG=1")
    before = service.pid()
    service.signal(signal.SIGHUP)
    assert service.main() != service.process.pid
    assert service.process.wait(60) == 0
    assert service.pid() != before


def unreachable(service: Life) -> None:
    """Let nobody reach the supervisor any more, but for the end of the test."""
    path = service.directory / "notify"
    path.rename(path.with_name("moved"))


@ONE_AND_MORE
def test_a_hangup_when_the_supervisor_cant_be_reached(life: Lives, workers: int) -> None:
    service = life(workers=workers).ready()
    service.pid()
    unreachable(service)
    service.release("print('afresh', file=sys.stderr)")
    service.signal(signal.SIGHUP)
    service.logged("can't notify the supervisor")
    service.logged("afresh")
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert service.process.poll() is None


@ONE_AND_MORE
def test_a_limit_that_is_reached_when_the_supervisor_cant_be_reached(
    life: Lives, workers: int
) -> None:
    service = life(workers=workers, max_requests=5).ready()
    unreachable(service)
    for _ in range(30):
        assert service.ask().startswith(b"HTTP/1.1 200")
        time.sleep(0.05)
    assert service.process.poll() is None


# Who does not read what is written


@contextlib.contextmanager
def unread(kind: str) -> Iterator[tuple[int, int]]:
    """Two ends, to read and to write, of something that holds only so much."""
    if kind == "pipe":
        ends = os.pipe()
    else:
        pair = socket.socketpair()
        ends = pair[0].detach(), pair[1].detach()
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


@ONE_AND_MORE
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_log_that_nobody_reads_holds_up_no_request(life: Lives, workers: int, kind: str) -> None:
    with unread(kind) as (reader, writer):
        service = life(workers=workers, stderr=writer).ready()
        for _ in range(10):
            assert service.ask("/loud").startswith(b"HTTP/1.1 200")
        os.set_blocking(reader, False)
        text = b""
        until = time.monotonic() + 60
        while b"entries were dropped here" not in text and time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                text += os.read(reader, 1 << 20)
            service.ask()  # a worker that has something to say is not asleep
        assert b"entries were dropped here" in text
        assert b"errors xxx" in text
        assert b"logging xxx" in text
        assert b"print xxx" in text
        service.signal(signal.SIGTERM)
        assert service.process.wait(60) == 0


def test_a_journal_that_nobody_reads_holds_up_no_access_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        monkeypatch.setattr(log, "_JOURNAL", str(tmp_path / "journal"))
        monkeypatch.setattr(log, "_is_journal", True)
        for number in range(3000):
            log.record("GET /", {"REQUEST_PATH": f"/{number}\nFORGED=1"})
        first = journal.recv(65536).decode().splitlines()
        assert first == [
            "MESSAGE=GET /",
            "PRIORITY=6",
            "SYSLOG_IDENTIFIER=sdactivate",
            "REQUEST_PATH=/0\\nFORGED=1",
        ]
    log.say(log.INFO, "and then")
    said = capfd.readouterr().err
    assert "entries were dropped here" in said
    assert said.endswith("<6>and then\n")


def test_a_supervisor_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        told = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with contextlib.suppress(BlockingIOError):
            while told.tell(STATUS="serving"):
                pass
        assert supervisor.recv(4096) == b"STATUS=serving"


def test_an_abstract_address_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"\0sdactivate-{os.getpid()}")
        told = Supervisor({"NOTIFY_SOCKET": f"@sdactivate-{os.getpid()}"})
        assert told.tell(READY=1, STATUS="one\ntwo")
        assert supervisor.recv(4096) == b"READY=1\nSTATUS=one two"
    with pytest.raises(OSError, match="refused"):
        told.tell(READY=1)
    assert not Supervisor({}).tell(READY=1)


# The names that gevent's and eventlet's monkey patches replace, by what does nothing
PATCH = """
import _thread, select, socket
def green(*args, **kwargs):
    raise RuntimeError("green")
_thread.start_new_thread = threading._start_new_thread = green
threading.Lock = threading.RLock = _thread.allocate_lock = green
time.sleep = socket.socket = select.poll = select.select = os.fork = os.waitpid = green
del select.epoll
"""


@ONE_AND_MORE
@pytest.mark.parametrize("preload", ["yes", "no"])
def test_an_application_that_replaces_threads_is_refused_in_a_sentence(
    life: Lives, workers: int, preload: str
) -> None:
    service = life(PATCH, workers=workers, preload=preload)
    with service.send() as peer:
        said = peer.recv(4096)
    assert service.process.wait(60) == 1
    service.logged("importing life:application has replaced Python's threads")
    assert "Traceback" not in service.log
    if preload == "yes" or workers == 1:
        assert said.startswith(b"HTTP/1.1 503")
