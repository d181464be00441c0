"""Several workers, and what one or several processes owe to requests that can't be finished."""

import contextlib
import os
import signal
import time
from typing import Any

import pytest

from sdactivate.servers.api import QUIET
from tests.runtime.life import ONE_AND_MORE, Lives, answer
from tests.servers.peers import PROTOCOLS, Request, send_apart
from tests.servers.service import eventually

FILES = "held = [open('/dev/null') for _ in range(1100)]"


@ONE_AND_MORE
def test_a_reload_with_more_descriptors_than_select_can_watch(life: Lives, workers: int) -> None:
    service = life(FILES, workers=workers, nofile=8192).ready()
    before = service.pid()
    service.signal(signal.SIGHUP)
    main = service.main()
    assert service.process.wait(60) == 0
    assert service.pid() != before
    os.kill(main, signal.SIGHUP)  # the successor's own descriptors are as many
    assert service.main() != main
    assert service.ask().startswith(b"HTTP/1.1 200")


def test_a_request_that_kills_its_worker_at_the_cold_start(life: Lives) -> None:
    # The worker that gets it serves before the others are there, and before it has said so itself
    service = life(
        "import socket as s, sdactivate.runtime.worker as w\n"
        "said = w.WorkerProcess._say\n"
        "def slowly(self, message):\n"
        "    if message == 'ready': time.sleep(1)\n"
        "    said(self, message)\n"
        "w.WorkerProcess._say = slowly",
        workers=4,
    )
    with service.send("/abort") as first, contextlib.suppress(ConnectionResetError):
        assert first.recv(1) == b""
    service.ready()
    service.logged("was killed by SIGABRT; starting another")
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert service.process.poll() is None
    eventually(lambda: len(service.processes()) == 5, "four workers")


LATE = """
def late():
    sys.stderr.write("forked\\n")
    sys.stderr.flush()
    time.sleep(3)

import sys
os.register_at_fork(after_in_child=late)
"""


def test_a_stop_reaches_a_worker_that_has_just_been_forked(life: Lives) -> None:
    # It has its parent's handlers, which noted the signal where nobody looked: the worker then
    # served on, until it was cut off
    service = life(LATE, workers=2, graceful_timeout=600)
    service.logged("forked", 2)
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    eventually(lambda: not service.processes(), "both workers to end")


PATIENT = """
import sdactivate.runtime.main_process as m, sdactivate.runtime.worker as w
m.QUIET_BESIDE_SUCCESSOR = w.QUIET_BESIDE_SUCCESSOR = 600
"""


@ONE_AND_MORE
def test_beside_a_successor_idle_connections_have_more_time(life: Lives, workers: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    service = life(PATIENT, workers=workers, graceful_timeout=600).ready()
    with service.connect() as peer:
        peer.sendall(request)
        assert b"200 OK" in peer.recv(4096)
        service.signal(signal.SIGHUP)
        service.logged("exiting: a successor serves")
        time.sleep(3 * QUIET)  # at a stop it would be shut
        peer.sendall(request)
        assert b"Connection: close" in peer.recv(4096)
    assert service.process.wait(60) == 0
    assert service.ask().startswith(b"HTTP/1.1 200")


def test_workers_that_cant_live_end_the_start(life: Lives) -> None:
    service = life(
        "import sdactivate.runtime.worker as w\nw.WorkerProcess.run = lambda self: os._exit(3)",
        workers=2,
    )
    assert service.process.wait(60) == 1
    service.logged("workers died within 10 s; the last one exited with code 3")


def test_an_application_that_workers_cant_import_ends_the_start(life: Lives) -> None:
    service = life("import no_such_module", workers=2, preload="no")
    assert service.process.wait(60) == 1
    service.logged("failed to start|no module 'no_such_module'|importing life failed")
    assert "starting another" not in service.log


CUT = {
    "http": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
    **{
        name: PROTOCOLS[name].encode(Request("/", "POST", body=b"0123456789"))[:-5]
        for name in ("scgi", "fastcgi", "uwsgi")
    },
}


@ONE_AND_MORE
@pytest.mark.parametrize(
    ("server", "protocol"),
    [("native", name) for name in CUT] + [("flup", "scgi"), ("flup", "fastcgi")]
    + [("waitress", "http")],
)  # fmt: skip
def test_requests_whose_body_still_arrives_are_counted_when_they_are_cut(
    life: Lives, workers: int, server: str, protocol: str
) -> None:
    service = life(workers=workers, server=server, graceful_timeout=600)
    service.ready()
    peers = [service.connect() for _ in range(3)]
    for peer in peers:
        send_apart(peer, CUT[protocol])
    service.signal(signal.SIGTERM)
    service.logged("exiting")
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == 0
    service.logged("cut off 3 requests that had not finished")
    for peer in peers:
        with contextlib.suppress(ConnectionResetError):
            assert answer(peer) == b""


CONNECTED = """
import socket
server = socket.create_server(("127.0.0.1", 0))
database = socket.create_connection(server.getsockname())
{more}
"""


def test_connections_that_workers_would_share_are_told_of(life: Lives) -> None:
    service = life(CONNECTED.format(more="port = server.getsockname()[1]"), workers=2).ready()
    service.logged(r"opened connections while it was imported \(127.0.0.1 port \d+\)")
    service.logged("SDACTIVATE_PRELOAD=no")


@pytest.mark.parametrize("settings", [{"workers": 1}, {"workers": 2, "preload": "no"}])
def test_connections_that_nobody_shares_are_not(life: Lives, settings: dict[str, Any]) -> None:
    service = life(CONNECTED.format(more=""), **settings).ready()
    assert service.ask().startswith(b"HTTP/1.1 200")
    assert "connections" not in service.log


def test_connections_that_are_closed_and_pairs_of_sockets_are_not_told_of(life: Lives) -> None:
    service = life(
        CONNECTED.format(more="database.close(); pair = socket.socketpair()"), workers=2
    ).ready()
    assert "connections" not in service.log
