"""Peers that read nothing, or send a byte now and then, hold no thread: others are served."""

import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate.servers.native.held_bodies import BEHIND, Held, Upload, spool_directory
from sdactivate.servers.native.pending_output import FileRange, Output, Pace, Piece
from sdactivate.servers.native.server import Server
from sdactivate.servers.native.wsgi import PeerGone
from sdactivate.settings import resolve
from tests.servers.peers import PROTOCOLS, Answer, Request, ask, record
from tests.servers.service import Service, eventually, serving

APPLICATION = "tests.servers.native.applications:application"
MiB = 1 << 20
SIZE = 4 * MiB  # more than any socket's buffers
SLOW = 40
THREADS = [1, 8]


def served(service: Service, protocol: str, times: int = 20) -> None:
    """Ordinary requests are answered."""
    for _ in range(times):
        with service.connect(timeout=20) as peer:
            assert ask(peer, protocol, Request()).body == b"hello"


@contextlib.contextmanager
def readers(
    service: Service, protocol: str, path: str, count: int = SLOW
) -> Iterator[list[socket.socket]]:
    """So many peers that have asked for `path` and read nothing."""
    with service.crowd(count) as peers:
        for peer in peers:
            peer.sendall(PROTOCOLS[protocol].encode(Request(path)))
        yield peers


def whole(peer: socket.socket, protocol: str, size: int = SIZE) -> Answer:
    """Read an answer that has waited."""
    answer = PROTOCOLS[protocol].read(peer, Request())
    assert (answer.status, answer.whole, len(answer.body)) == (200, True, size)
    return answer


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", [f"/file/{SIZE}", f"/blob/{SIZE}"])
def test_who_reads_nothing(tmp_path: Path, protocol: str, threads: int, path: str) -> None:
    """Of a file, and of one object: for neither there is memory for each peer."""
    with serving(tmp_path, APPLICATION, threads=threads) as service:
        served(service, protocol)
        before = service.resident
        with readers(service, protocol, path) as peers:
            served(service, protocol)
            assert service.resident - before < SIZE + 16 * MiB
            assert service.threads <= threads + 2
            for peer in peers[::7]:
                whole(peer, protocol)
        served(service, protocol)
        assert "closed" not in service.log
        assert "Traceback" not in service.log


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_over_the_bound_of_memory_waits_in_files(tmp_path: Path, protocol: str) -> None:
    with serving(tmp_path, APPLICATION, threads=1, held_bytes=8 * MiB) as service:
        served(service, protocol)
        before = service.resident
        with readers(service, protocol, f"/fresh/{SIZE}") as peers:
            served(service, protocol)
            assert service.resident - before < 32 * MiB
            for peer in peers:
                assert not whole(peer, protocol).body.strip(b"x")


def split(protocol: str, size: int, path: str = "/read", left: int = 20) -> tuple[bytes, bytes]:
    """A request with a body of so many bytes, but for its last bytes, and these."""
    data = PROTOCOLS[protocol].encode(Request(path, "POST", body=b"x" * size))
    return data[:-left], data[-left:]


def test_an_upload_is_spooled_where_systemd_says_whatever_the_application_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$CACHE_DIRECTORY, though the application clears the environment when it is imported."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(cache := tmp_path / "cache"))
    cache.mkdir()
    (tmp_path / "cleared.py").write_text(
        "import os\nos.environ.clear()\nfrom tests.servers.native.applications import application\n"
    )
    start, _ = split("http", 2 * MiB)
    with serving(tmp_path, "cleared:application") as service, service.connect() as peer:
        peer.sendall(start)

        def spooled() -> bool:
            links = Path(f"/proc/{service.process.pid}/fd").iterdir()
            with contextlib.suppress(FileNotFoundError):
                return any(os.readlink(link).startswith(str(cache)) for link in links)
            return False

        eventually(spooled, "a file in $CACHE_DIRECTORY")


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("size", [100_000, 2 * MiB])
def test_who_sends_slowly(tmp_path: Path, protocol: str, threads: int, size: int) -> None:
    """A body that is kept in memory, and one in a file; each byte by byte at its end."""
    start, end = split(protocol, size)
    with serving(tmp_path, APPLICATION, threads=threads, held_bytes="4M") as service:
        served(service, protocol)
        before = service.resident
        with service.crowd(SLOW) as peers:
            for peer in peers:
                peer.sendall(start)
            for byte in end[:5]:
                for peer in peers:
                    peer.sendall(bytes((byte,)))
            served(service, protocol)
            assert service.resident - before < 32 * MiB
            assert service.threads <= threads + 2
            for peer in peers:
                peer.sendall(end[5:])
                answer = PROTOCOLS[protocol].read(peer, Request())
                assert answer.body == f"{size} {size}".encode()
        assert service.log == ""


@pytest.mark.parametrize("protocol", ["scgi", "fastcgi"])
def test_flups_codecs_as_well(tmp_path: Path, protocol: str) -> None:
    start, end = split(protocol, 2 * MiB)
    with (
        serving(tmp_path, APPLICATION, threads=1, server="flup") as service,
        readers(service, protocol, f"/blob/{SIZE}", 10) as blobs,
        readers(service, protocol, f"/file/{SIZE}", 10) as files,
        service.crowd(10) as uploads,
    ):
        for peer in uploads:
            peer.sendall(start)
        served(service, protocol)
        for peer in uploads:
            peer.sendall(end)
            assert PROTOCOLS[protocol].read(peer, Request()).body == b"2097152 2097152"
        for peer in blobs + files:
            whole(peer, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_made_piece_by_piece_lends_threads_and_no_more(
    tmp_path: Path, protocol: str
) -> None:
    with (
        serving(tmp_path, APPLICATION, threads=2, lent_threads=6) as service,
        readers(service, protocol, "/big/100", 10) as peers,
    ):
        service.logged(r"the slowest of 6 peers that each hold a thread \(lent_threads\)", 4)
        served(service, protocol)
        assert service.threads <= 2 + 6 + 2
        sizes = []
        for peer in peers:
            with contextlib.suppress(ConnectionResetError):
                sizes.append(len(PROTOCOLS[protocol].read(peer, Request()).body))
        assert sizes.count(100 * 65536) == 6
        served(service, protocol)


def test_the_slowest_is_never_who_has_just_come(tmp_path: Path) -> None:
    """Slow peers that hold all lent threads don't drive out who takes what it is sent."""
    with (
        serving(tmp_path, APPLICATION, threads=4, lent_threads=6) as service,
        readers(service, "http", "/big/100", 6) as slow,
        service.crowd(6) as quick,
        concurrent.futures.ThreadPoolExecutor() as takers,
    ):
        for peer in slow:
            peer.recv(40_000)
        served(service, "http")
        time.sleep(2.5)
        for peer in quick:
            peer.sendall(PROTOCOLS["http"].encode(Request("/big/100")))
        list(takers.map(lambda peer: whole(peer, "http", 100 * 65536), quick))
        service.logged("the slowest of 6 peers")


ALONE = """
import threading, time
inside = threading.Lock()

def alone():
    assert inside.acquire(False), "two at the same time"
    time.sleep(0.002)
    inside.release()

def pieces():
    for _ in range(100):
        alone()
        yield b"x" * 65536

def application(environ, start_response):
    alone()
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/":
        return [b"hello"]
    return pieces()
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_thread_is_lent_and_never_are_two_in_the_application(
    tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    with (
        serving(tmp_path, "alone:application", threads=1, connections=50) as service,
        readers(service, protocol, "/pieces", 6) as peers,
    ):
        served(service, protocol)
        taking = [
            threading.Thread(target=whole, args=(peer, protocol, 100 * 65536)) for peer in peers
        ]
        for thread in taking:
            thread.start()
        served(service, protocol, 50)
        for thread in taking:
            thread.join()
        served(service, protocol)
        assert "two at the same time" not in service.log
        assert "Traceback" not in service.log


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_streamed_upload_lends_its_thread(tmp_path: Path, protocol: str) -> None:
    start, end = split(protocol, 2 * MiB, "/read/now")
    settings = {"threads": 2, "stream": "/other,/read/now/"}
    with serving(tmp_path, APPLICATION, **settings) as service, service.crowd(10) as peers:
        for peer in peers:
            peer.sendall(start)
        served(service, protocol)
        assert service.threads > 10
        for peer in peers:
            peer.sendall(end)
            assert PROTOCOLS[protocol].read(peer, Request()).body == b"2097152 2097152"


@pytest.mark.parametrize(
    ("setting", "path", "streamed"),
    [
        ("/up", "/up", True),
        ("/up/", "/up/load", True),
        ("/up", "/upload", False),
        ("/", "/anything", True),
        ("/\u00fcp", "/\u00c3\u00bcp/1", True),  # PATH_INFO has UTF-8's bytes as characters
        ("/%C3%BCp", "/\u00c3\u00bcp", True),
    ],
)
def test_which_uploads_are_streamed(setting: str, path: str, streamed: bool) -> None:
    server = Server(lambda *_: [], [], resolve({"stream": setting}, {}, {}))
    assert server.is_streamed({"SCRIPT_NAME": "", "PATH_INFO": path}) is streamed


@pytest.mark.parametrize("protocol", ["http", "fastcgi"])
@pytest.mark.parametrize("path", [f"/file/{SIZE}", f"/blob/{SIZE}"])
def test_a_kept_connection_goes_on_when_its_response_is_taken(
    tmp_path: Path, protocol: str, path: str
) -> None:
    """With what was asked meanwhile: at once with the first request, and later."""
    codec = PROTOCOLS[protocol]
    large, small = Request(path, keep=True), Request(keep=True)
    with serving(tmp_path, APPLICATION, threads=1) as service, service.connect() as peer:
        pipelined = protocol == "http"  # FastCGI has one request at a time (FCGI_MPXS_CONNS)
        peer.sendall(codec.encode(large) + (codec.encode(small) if pipelined else b""))
        served(service, protocol)
        if pipelined:
            peer.sendall(codec.encode(small))
        whole(peer, protocol)
        for _ in range(2 if pipelined else 0):
            assert codec.read(peer, small).body == b"hello"
        assert ask(peer, protocol, small).body == b"hello"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_stop_waits_for_what_is_being_taken(tmp_path: Path, protocol: str) -> None:
    with (
        serving(tmp_path, APPLICATION, threads=1) as service,
        readers(service, protocol, f"/blob/{SIZE}", 3) as peers,
    ):
        served(service, protocol)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert service.runs()
        for peer in peers:
            whole(peer, protocol)
        assert service.process.wait(20) == 0


WAITING = """
import os, time

def application(environ, start_response):
    _, kind, size = environ["PATH_INFO"].split("/")
    open("begun", "w").close()
    while not os.path.exists("go on"):
        time.sleep(0.01)
    start_response("200 OK", [])
    body = b"x" * int(size)
    if kind == "pieces":
        return (body[at : at + 1000] for at in range(0, len(body), 1000))
    if kind == "file":
        open("file", "wb").write(body)
        return environ["wsgi.file_wrapper"](open("file", "rb"))
    return [body]
"""


@pytest.mark.parametrize(
    ("server", "protocol"), [*(("native", each) for each in PROTOCOLS), ("flup", "fastcgi")]
)
@pytest.mark.parametrize("kind", ["whole", "pieces", "file"])
@pytest.mark.parametrize("size", [100_000, SIZE])
def test_a_response_that_begins_during_a_stop_is_sent_whole(
    tmp_path: Path,
    server: str,
    protocol: str,
    kind: str,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a kept connection, where the protocol has them."""
    monkeypatch.chdir(tmp_path)
    Path("waiting.py").write_text(WAITING)
    kept = protocol in ("http", "fastcgi")
    request = Request(f"/{kind}/{size}", keep=kept)
    with (
        serving(tmp_path, "waiting:application", server=server) as service,
        service.connect() as peer,
        service.connect() as idle,
    ):
        peer.sendall(PROTOCOLS[protocol].encode(request))
        eventually(Path("begun").exists, "the application to be called")
        service.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "it drains, and closes who has said nothing"
        Path("go on").touch()
        whole(peer, protocol, size)
        assert service.process.wait(20) == 0


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with (
        serving(tmp_path, APPLICATION, threads=1, graceful_timeout=0.5) as service,
        readers(service, "scgi", f"/blob/{SIZE}", 3),
    ):
        served(service, "scgi")
        assert service.stop() == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("path", [f"/file/{SIZE}", f"/blob/{SIZE}", "/big/100"])
def test_who_takes_nothing_for_long_is_cut_off(tmp_path: Path, protocol: str, path: str) -> None:
    with serving(tmp_path, APPLICATION, threads=2, write_timeout=0.5) as service:
        served(service, protocol)
        before = service.descriptors + 8
        with readers(service, protocol, path, 6):
            takes = rf"unix peer \({protocol}\): accepted no byte for 0.5 s .*; connection closed"
            service.logged(takes, 6)
            eventually(lambda: service.descriptors <= before, "their descriptors to be closed")
        served(service, protocol)
        assert len(re.findall(takes, service.log)) == 6


def test_who_is_too_slow_is_cut_off_in_both_directions(tmp_path: Path) -> None:
    """After the time of grace. A peer on a unix socket takes in lumps of 32 KiB."""
    rates = {"body_rate": "1M", "write_rate": "1M"}
    with (
        serving(tmp_path, APPLICATION, threads=2, stream="/read/now", **rates) as service,
        service.crowd(len(PROTOCOLS)) as uploads,
        service.crowd(len(PROTOCOLS)) as streamed,
        service.crowd(len(PROTOCOLS)) as downloads,
    ):
        rest: dict[socket.socket, bytes] = {}
        for number, protocol in enumerate(PROTOCOLS):
            for peers, path in ((uploads, "/read"), (streamed, "/read/now")):
                start, rest[peers[number]] = split(protocol, 2 * MiB, path, 1000)
                peers[number].sendall(start)
            downloads[number].sendall(PROTOCOLS[protocol].encode(Request(f"/file/{SIZE}")))
        until = time.monotonic() + 60
        slow = r"the body arrives at less than 1048576 bytes per second \(body_rate\)"
        takes = r"accepts less than 1048576 bytes per second \(write_rate\)"

        def cut() -> tuple[int, int]:
            return len(re.findall(slow, service.log)), len(re.findall(takes, service.log))

        while cut() != (2 * len(PROTOCOLS), len(PROTOCOLS)) and time.monotonic() < until:
            for peer, data in rest.items():
                with contextlib.suppress(OSError):
                    peer.send(data[:1])
                rest[peer] = data[1:]
            for peer in downloads:
                with contextlib.suppress(OSError):
                    peer.recv(1000)
            time.sleep(1)
        assert cut() == (2 * len(PROTOCOLS), len(PROTOCOLS)), service.log
        for number, protocol in enumerate(PROTOCOLS):
            assert PROTOCOLS[protocol].read(uploads[number], Request()).status == 408


def test_who_waits_for_a_busy_server_is_not_slow(tmp_path: Path) -> None:
    """What has come, and what has been taken, when no thread was free to see to it."""
    with (
        serving(tmp_path, APPLICATION, threads=1, write_timeout=2, body_rate="1M") as service,
        service.crowd(len(PROTOCOLS)) as uploads,
        service.crowd(len(PROTOCOLS)) as downloads,
        service.connect() as busy,
        concurrent.futures.ThreadPoolExecutor() as takers,
    ):
        rest: list[bytes] = []
        for protocol, sender, reader in zip(PROTOCOLS, uploads, downloads, strict=True):
            start, end = split(protocol, 100_000)
            rest.append(end)
            sender.sendall(start)
            reader.sendall(PROTOCOLS[protocol].encode(Request(f"/blob/{SIZE}")))
        served(service, "http")
        busy.sendall(PROTOCOLS["http"].encode(Request("/sleep/22")))
        time.sleep(0.5)
        for sender, end in zip(uploads, rest, strict=True):
            sender.sendall(end)
        list(takers.map(whole, downloads, PROTOCOLS))
        for protocol, sender in zip(PROTOCOLS, uploads, strict=True):
            assert PROTOCOLS[protocol].read(sender, Request()).body == b"100000 100000"
        assert "warning" not in service.log


@pytest.mark.parametrize("workers", [1, 2])
def test_the_watchdog_is_content_and_the_status_true(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more slow peers than threads, for longer than WatchdogSec=."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with (
        serving(tmp_path, APPLICATION, workers=workers, threads=4) as service,
        readers(service, "http", "/big/200", 12),
        readers(service, "scgi", f"/file/{SIZE}", 12),
    ):
        time.sleep(2.5)
        served(service, "http")
        for _ in range(4):
            service.told("WATCHDOG=1")
        said = service.told_by(lambda line: line.startswith("STATUS=ready"), "a status")
        found = re.match(r"STATUS=ready: (\d+) of (\d+) threads busy", said)
        assert found is not None, said
        assert int(found[1]) <= 4 * workers
        service.logged("slow peers: .* read a response .* lent_threads=64")


def test_a_client_that_expects_100_continue_is_told_when_its_body_can_be_read(
    tmp_path: Path,
) -> None:
    head = (
        "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    )
    with serving(tmp_path, APPLICATION, threads=1, stream="/blob,/read/now") as service:
        for path in ("/read", "/read/now"):
            with service.connect() as peer:
                peer.sendall(head.format(path).encode())
                assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
                peer.sendall(b"12345")
                assert PROTOCOLS["http"].read(peer, Request()).body == b"5 5"
        with service.connect() as peer:  # one that does not read it
            peer.sendall(head.format("/blob/3").encode())
            assert PROTOCOLS["http"].read(peer, Request()).body == b"xxx"


@pytest.mark.parametrize("protocol", ["fastcgi"])
def test_management_records_that_nobody_reads_the_answers_of(tmp_path: Path, protocol: str) -> None:
    ask_values = record(9, b"\x0e\x00FCGI_MAX_CONNS", 0) * 1000
    with serving(tmp_path, APPLICATION, threads=1) as service, service.crowd(4) as peers:
        for peer in peers:
            peer.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while True:
                    peer.sendall(ask_values)
        served(service, protocol)


# -- the parts -----------------------------------------------------------------------------------


def test_a_pace() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"x" * 10_000)
        pace = Pace(ours.fileno(), 10_000, 100.0)
        assert pace.fault(109.0, 10, 1) is None
        assert pace.fault(110.0, 10, 1) == "accepted no byte for 10 s (write_timeout)"
        theirs.recv(10_000)
        pace.look(ours.fileno(), 10_000, 109.0)
        assert pace.taken >= 10_000
        assert pace.fault(118.0, 10, 1) is None
        assert pace.fault(118.0, 10, 1 << 20) is None, "there is time of grace"
        assert pace.fault(121.0, 60, 1 << 20) is not None
        assert pace.fault(121.0, 60, 1000) is None, "the first 64 KiB are free"
        assert pace.fault(1000.0, 1e6, 240) == "accepts less than 240 bytes per second (write_rate)"
        assert pace.fault(1000.0, 1e6, 0) is None


def test_an_output_is_sent_in_its_order_and_in_parts(tmp_path: Path) -> None:
    """Bytes and a file, as the peer takes them."""
    content = os.urandom(3 * MiB)
    (tmp_path / "file").write_bytes(content)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        pieces: list[Piece] = [
            *(memoryview(content)[at : at + 1000] for at in range(0, 200_000, 1000)),
            FileRange(descriptor, 0, len(content))[200_000:],
        ]
        output = Output(pieces, descriptor)
        output.add(b"the end")
        found, state = b"", output.send(ours.fileno(), MiB)
        while not state:
            found += theirs.recv(MiB)
            state = output.send(ours.fileno(), MiB)
        output.close()
        while len(found) < len(content) + 7:
            found += theirs.recv(MiB)
        assert found == content + b"the end"
        theirs.close()
        with pytest.raises(PeerGone):
            Output((memoryview(b"x"),)).send(ours.fileno(), MiB)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_an_object_counts_once_and_what_is_over_the_bound_goes_to_a_file(tmp_path: Path) -> None:
    held = Held(1000, str(tmp_path))
    body = b"x" * 800
    outputs = [Output((memoryview(body),)) for _ in range(3)]
    for output in outputs:
        output.hold(held, body)
    assert (held.used, held.responses) == (800, 3)
    upload = Upload(held, 500, 0.0)
    upload.write(b"1" * 200)
    assert held.used == 1000
    upload.write(b"2" * 200)  # over the bound of all
    assert (held.used, held.uploads) == (800, 1)
    assert upload.reader().read() == b"1" * 200 + b"2" * 200
    upload.close()
    for output in outputs:
        output.close()
    assert (held.used, held.uploads, held.responses) == (0, 0, 0)
    assert list(tmp_path.iterdir()) == [], "it has no name"


def test_a_body_of_known_length_is_read_to_where_it_stays(tmp_path: Path) -> None:
    held = Held(10_000, str(tmp_path))
    upload = Upload(held, 8000, 0.0, 8000)
    upload.write(b"1" * 499)
    assert (upload.room, held.used) == (0, 499), "too little has come"
    upload.write(b"2")
    assert (upload.room, held.used) == (7500, 8000)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"3" * 7000)
        while upload.size < 7500:
            assert upload.receive(ours.fileno()).behind == b""
        upload.write(b"4" * 400)
        theirs.sendall(b"5" * 200 + b"the next request")
        asked, came, count, behind = upload.receive(ours.fileno())
        assert (asked, came) == (100 + BEHIND, 216)
        assert (count, behind) == (100, b"5" * 100 + b"the next request")
    assert (upload.size, upload.room, upload.came) == (8000, 0, 7100)
    reader = upload.reader()
    whole = reader.read()
    assert whole == b"1" * 499 + b"2" + b"3" * 7000 + b"4" * 400 + b"5" * 100
    reader.seek(0)
    assert reader.read() is whole, "the object itself, not a copy"
    upload.close()
    assert (held.used, held.uploads) == (0, 0)


@pytest.mark.parametrize(("length", "most"), [(9000, 8000), (8000, 8000)])
def test_there_is_no_place_for_what_may_not_be_in_memory(
    tmp_path: Path, length: int, most: int
) -> None:
    held = Held(7000, str(tmp_path))
    upload = Upload(held, most, 0.0, length)
    for _ in range(length // 1000):
        upload.write(b"x" * 1000)
        assert upload.room == 0
    assert held.used == 0, "it is in a file"
    assert upload.reader().read() == b"x" * length
    upload.close()


def test_a_place_is_given_back_with_an_upload_that_does_not_end(tmp_path: Path) -> None:
    held = Held(10_000, str(tmp_path))
    upload = Upload(held, 8000, 0.0, 8000)
    upload.write(b"x" * 1000)
    assert held.used == 8000
    upload.close()
    assert (held.used, held.uploads) == (0, 0)


def test_where_files_go() -> None:
    assert spool_directory({"CACHE_DIRECTORY": "/c:/d", "TMPDIR": "/t"}) == "/c"
    assert spool_directory({"TMPDIR": "/t"}) == "/t"
    assert spool_directory({}) == "/var/tmp"
