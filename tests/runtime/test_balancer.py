"""What a balancer sees of a service: readiness, an announced stop, figures."""

import signal
import socket
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.runtime.life import ONE_AND_MORE, Life, Lives, answer
from tests.servers.service import Service, eventually, listener

PROBED = {"ready_path": "/ready", "live_path": "/live", "trust": "127.0.0.1"}
REQUEST = "{} {} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n"


def on_tcp(life: Lives, directory: Path, **settings: object) -> Life:
    return life(listeners=[listener(directory, "tcp")], **{**PROBED, **settings}).ready()


def ask(service: Service, path: str, method: str = "GET", which: int = 0) -> tuple[int, bytes]:
    """The status and the body."""
    peer = service.connect(which)
    peer.sendall(REQUEST.format(method, path).encode())
    head, _, body = answer(peer).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def figures(service: Service, which: int) -> dict[str, float]:
    """The metrics as a stranger's parser reads them, by name and quantile."""
    status, body = ask(service, "/metrics", which=which)
    assert status == 200
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
    }


@pytest.mark.parametrize("accel", ["1", "0"])
def test_probes_are_answered_by_the_server(life: Lives, tmp_path: Path, accel: str) -> None:
    service = on_tcp(life, tmp_path, accel=accel, access_log="yes")
    assert ask(service, "/ready") == (200, b"200 OK\n")
    assert ask(service, "/live?at=1") == (200, b"200 OK\n")
    assert ask(service, "/ready", "HEAD") == (200, b"")
    assert ask(service, "/ready", "POST")[1].isdigit()  # the application's, as is the next
    assert ask(service, "/ready/")[1].isdigit()
    assert ask(service, "/readyx")[1].isdigit()
    service.stop()
    assert service.log.count("/ready") == 3, service.log  # no probe is logged


@pytest.mark.parametrize("pieces", [1, 7])
def test_probes_among_kept_and_pipelined_requests(life: Lives, tmp_path: Path, pieces: int) -> None:
    service = on_tcp(life, tmp_path)
    lines = [f"GET {path} HTTP/1.1\r\nHost: site\r\n" for path in ("/ready", "/", "/live", "/")]
    data = ("\r\n".join(lines) + "Connection: close\r\n\r\n").encode()
    with service.connect() as peer:
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            peer.sendall(data[at : at + size])
            time.sleep(0.02)
        said = b"".join(iter(lambda: peer.recv(4096), b""))
    assert said.count(b"HTTP/1.1 200") == 4
    assert said.count(b"200 OK\n") == 2
    assert said.count(b"\r\n\r\n%d" % service.process.pid) == 2


def test_peers_that_are_not_trusted_ask_the_application(life: Lives, tmp_path: Path) -> None:
    service = on_tcp(life, tmp_path, trust="192.0.2.1")
    assert ask(service, "/ready")[1].isdigit()


def test_probes_while_every_thread_is_busy(life: Lives, tmp_path: Path) -> None:
    service = on_tcp(life, tmp_path, threads=1)
    busy = [service.slow()]
    waiting = [service.send("/") for _ in range(3)]
    late = service.connect()  # and says nothing yet
    assert ask(service, "/live") == (200, b"200 OK\n")
    assert ask(service, "/ready") == (200, b"200 OK\n")
    for peer in busy:
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)  # so they were answered first
        peer.setblocking(True)
    late.sendall(b"GET / HTTP/1.0\r\n\r\n")
    for peer in (*busy, *waiting, late):
        assert answer(peer).startswith(b"HTTP/1.1 200")


@ONE_AND_MORE
def test_probes_on_the_socket_of_the_figures(
    life: Lives, two: list[socket.socket], workers: int
) -> None:
    service = life(
        listeners=two,
        names=["site", "figures"],
        metrics="figures",
        threads=1,
        workers=workers,
        drain_delay=2,
        **PROBED,
    ).ready()
    busy = [service.send("/slow") for _ in range(workers)]
    service.logged("slowly", workers)
    assert ask(service, "/ready", which=1) == (200, b"200 OK\n")
    assert ask(service, "/live", "HEAD", which=1) == (200, b"")
    for peer in busy:
        assert answer(peer).startswith(b"HTTP/1.1 200")
    service.process.send_signal(signal.SIGTERM)
    eventually(lambda: ask(service, "/ready", which=1)[0] == 503, "the stop to be announced")
    assert ask(service, "/live", which=1)[0] == 200
    with service.connect() as peer:
        peer.sendall(b"GET / HTTP/1.0\r\n")  # it has begun, and is waited for
        service.told("STOPPING=1")
        assert ask(service, "/ready", which=1)[0] == 503
        peer.sendall(b"\r\n")
        assert answer(peer).startswith(b"HTTP/1.1 200")
    assert service.process.wait(60) == 0


def test_a_mount_in_a_field_makes_no_difference(life: Lives, tmp_path: Path) -> None:
    service = on_tcp(life, tmp_path, threads=1, trust_headers="X-Script-Name")
    mounted = b"GET /ready HTTP/1.1\r\nHost: s\r\nX-Script-Name: /foo\r\nConnection: close\r\n\r\n"
    slow = service.slow()
    for _ in range(2):  # by the main thread, and by the one that has become free
        with service.connect() as peer:
            peer.sendall(mounted)
            assert answer(peer).endswith(b"200 OK\n")
        assert answer(slow).startswith(b"HTTP/1.1 200")
        slow = service.send("/")
    assert answer(slow).startswith(b"HTTP/1.1 200")
    assert "fault" not in service.log


def test_no_more_are_accepted_than_connections_has_room_for(life: Lives, tmp_path: Path) -> None:
    service = on_tcp(life, tmp_path, threads=1, connections=20)
    slow = service.slow()
    before = service.descriptors
    with service.crowd(100):
        time.sleep(0.5)
        assert service.descriptors <= before + 20
        assert answer(slow).startswith(b"HTTP/1.1 200")


def test_of_several_workers_none_takes_what_another_could_serve(
    life: Lives, tmp_path: Path
) -> None:
    service = on_tcp(life, tmp_path, threads=1, workers=2)
    hanging = service.send("/hang")
    service.logged("hanging")
    slow = service.send("/slow")
    service.logged("slowly")
    waiting = [service.send("/") for _ in range(6)]
    time.sleep(0.5)  # looks of the one that hangs
    assert answer(slow).startswith(b"HTTP/1.1 200")
    for peer in waiting:
        assert answer(peer).startswith(b"HTTP/1.1 200")
    hanging.close()
    service.process.kill()


def test_what_no_thread_has_taken_is_cut_and_counted(life: Lives, tmp_path: Path) -> None:
    service = on_tcp(life, tmp_path, threads=1, graceful_timeout=1)
    peers = [service.send("/hang")]
    service.logged("hanging")
    peers += [service.send("/") for _ in range(3)]
    assert ask(service, "/live")[0] == 200  # so the others have been accepted
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(60)
    assert "cut off 4 requests" in service.log
    for peer in peers:
        peer.close()


def test_nothing_is_lost_of_what_the_main_thread_accepts(life: Lives, tmp_path: Path) -> None:
    service = on_tcp(life, tmp_path, threads=1)
    peers = [service.send("/slow") for _ in range(3)]
    service.logged("slowly")
    silent = [service.connect() for _ in range(3)]
    assert ask(service, "/live")[0] == 200  # the others have been accepted as well
    service.process.send_signal(signal.SIGTERM)
    for peer in silent:
        peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
    for peer in (*peers, *silent):
        assert answer(peer).startswith(b"HTTP/1.1 200")
    assert service.process.wait(60) == 0


@ONE_AND_MORE
def test_a_stop_is_announced(life: Lives, tmp_path: Path, workers: int) -> None:
    service = on_tcp(life, tmp_path, workers=workers, drain_delay=3)
    service.process.send_signal(signal.SIGTERM)
    service.told_by(lambda line: line.startswith("STATUS=stop announced"), "the announcement")
    eventually(lambda: ask(service, "/ready")[0] == 503, "the balancer to be told")
    assert ask(service, "/ready") == (503, b"503 Service Unavailable\n")
    assert ask(service, "/live")[0] == 200
    assert ask(service, "/")[0] == 200
    service.process.send_signal(signal.SIGHUP)  # there is to be no successor
    with service.send("/slow") as peer:
        service.told("STOPPING=1")
        assert answer(peer).startswith(b"HTTP/1.1 200")
    assert service.process.wait(60) == 0
    assert "answered 503" not in service.log


def test_an_announcement_ends_though_nothing_else_happens(life: Lives) -> None:
    service = life(drain_delay=5).ready()  # longer than anything is reported of a quiet process
    assert service.stop() == 0


def test_a_second_word_ends_the_announcement(life: Lives, tmp_path: Path) -> None:
    service = on_tcp(life, tmp_path, drain_delay="1h")
    service.process.send_signal(signal.SIGTERM)
    service.told_by(lambda line: line.startswith("STATUS=stop announced"), "the announcement")
    slow = service.slow()
    assert service.stop() == 0
    assert answer(slow).startswith(b"HTTP/1.1 200")


def test_a_stop_during_a_reload_is_announced_by_the_one_that_stays(
    life: Lives, tmp_path: Path
) -> None:
    service = on_tcp(life, tmp_path, drain_delay=2)
    service.release("time.sleep(60)")
    service.signal(signal.SIGHUP)
    service.told("RELOADING=1")
    eventually(lambda: len(service.processes()) > 1, "a successor")
    service.signal(signal.SIGTERM)
    service.told("READY=1")
    assert ask(service, "/ready")[0] == 503
    assert service.process.wait(60) == 0
    service.all_leave()


@pytest.fixture
def two(tmp_path: Path) -> list[socket.socket]:
    return [listener(tmp_path), listener(tmp_path, name="figures")]


@ONE_AND_MORE
def test_figures_are_read_on_a_socket_of_their_own(
    life: Lives, two: list[socket.socket], workers: int
) -> None:
    service = life(
        listeners=two, names=["site", "figures"], metrics="figures", workers=workers, threads=1
    ).ready()
    for _ in range(5):
        assert service.ask().startswith(b"HTTP/1.1 200")
    # Several workers say once a second how they are doing
    eventually(lambda: figures(service, 1)["sdactivate_requests_total"] == 5, "all to be counted")
    found = figures(service, 1)
    assert found["sdactivate_failed_requests_total"] == 0
    assert found["sdactivate_ready"] == 1
    assert found["sdactivate_threads"] == found["sdactivate_workers"] == workers
    assert 0 < found["sdactivate_recent_request_seconds 0.99"] < 60
    assert abs(found["sdactivate_start_time_seconds"] - time.time()) < 600
    assert found["sdactivate_failed_reloads_total"] == 0
    assert "sdactivate_reload_time_seconds" not in found


def test_figures_are_read_while_every_thread_is_busy(life: Lives, two: list[socket.socket]) -> None:
    service = life(listeners=two, names=["site", "figures"], metrics="figures", threads=1).ready()
    slow = service.slow()
    assert figures(service, 1)["sdactivate_busy_threads"] == 1
    assert answer(slow).startswith(b"HTTP/1.1 200")


def test_the_successor_answers_for_the_figures(life: Lives, two: list[socket.socket]) -> None:
    service = life(listeners=two, names=["site", "figures"], metrics="figures").ready()
    service.signal(signal.SIGHUP)
    service.main()
    assert service.process.wait(60) == 0
    assert figures(service, 1)["sdactivate_reload_time_seconds"] > 0


def test_what_else_is_asked_of_the_figures(life: Lives, two: list[socket.socket]) -> None:
    service = life(listeners=two, names=["site", "figures"], metrics="figures").ready()
    assert ask(service, "/", which=1)[0] == 404
    assert ask(service, "/metrics", "POST", which=1)[0] == 405
    assert ask(service, "/metrics", "HEAD", which=1) == (200, b"")
    for data in (b"\x16\x03\x01", b"GET /metrics HTTP/1.1\r\n" + 9000 * b"x"):
        with service.connect(1) as peer:
            peer.sendall(data)
            assert peer.recv(100).split()[1] in (b"400", b"431", b"501")
    with service.crowd(0):
        silent = [service.connect(1) for _ in range(40)]
    assert figures(service, 1)["sdactivate_ready"] == 1
    eventually(lambda: service.descriptors < 40, "the silent ones to be dropped")
    for peer in silent:
        peer.close()
    assert ask(service, "/metrics")[1].isdigit()  # on the site's own socket it is the site's


def test_figures_on_tcp_are_for_trusted_peers(life: Lives, tmp_path: Path) -> None:
    sockets = [listener(tmp_path), listener(tmp_path, "tcp")]
    service = life(
        listeners=sockets, names=["site", "figures"], metrics="figures", trust="192.0.2.1"
    ).ready()
    assert ask(service, "/metrics", which=1)[0] == 403


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"ready_path": "/ready"},
            "ready_path: the check is answered by HTTP on TCP sockets, and none",
        ),
        ({"live_path": "/l", "server": "flup"}, "live_path: the check uses HTTP, which flup"),
        ({"ready_path": "ready"}, "such as /ready"),
        ({"metrics": "figures"}, "metrics=figures: no inherited socket has this name"),
        ({"metrics": "unknown"}, "metrics=unknown: no other socket was inherited"),
        ({"metrics": "a:b"}, "is not the name of a socket"),
    ],
)
def test_what_can_not_be_meant(life: Lives, settings: dict[str, str], said: str) -> None:
    service = life(**settings)
    assert service.process.wait(60) == 2
    assert said in service.log


def test_probes_need_somebody_who_is_trusted(life: Lives, tmp_path: Path) -> None:
    service = life(listeners=[listener(tmp_path, "tcp")], ready_path="/ready")
    assert service.process.wait(60) == 2
    assert "give the load balancer's address or network" in service.log


def test_the_status_says_that_a_stop_is_announced(life: Lives, two: list[socket.socket]) -> None:
    service = life(
        listeners=two, names=["site", "figures"], metrics="figures", drain_delay=2
    ).ready()
    service.process.send_signal(signal.SIGTERM)
    eventually(lambda: figures(service, 1)["sdactivate_ready"] == 0, "it to be said")
    assert service.process.wait(60) == 0


@pytest.mark.parametrize("server", ["waitress", "flup"])
def test_other_servers_have_figures_and_announce_their_stop(
    life: Lives, two: list[socket.socket], server: str
) -> None:
    service = life(
        listeners=two, names=["site", "figures"], metrics="figures", server=server, drain_delay=1
    ).ready()
    assert figures(service, 1)["sdactivate_ready"] == 1
    service.process.send_signal(signal.SIGTERM)
    eventually(lambda: figures(service, 1)["sdactivate_ready"] == 0, "the announcement")
    assert service.process.wait(60) == 0
