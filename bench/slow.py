"""Thousands of slow peers, and what ordinary requests notice of them.

A crowd of peers connects and is slow: at taking a file, at taking one object of bytes, at sending a
body. When the server has heard all of them, 200 ordinary requests are made one after the other, and
their p99 is compared with that of 200 before the crowd came; memory is that of the process with the
crowd (PSS). Meanwhile the server must notify its watchdog, and say in its log what is going on.

The crowd is at the socket, or at nginx as `gen --kind nginx` configures it, with a limit of
connections that fits; nginx keeps bodies from the server until they are whole if its buffering is
on.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import resource
import socket
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from bench import front, process
from bench.apps import BODY
from bench.load import Bench, Running
from bench.process import Address
from bench.servers import Case
from bench.wire import PARAMS, PATH, PROTOCOLS

Row = dict[str, Any]
ORDINARY = 200
# A body of so many bytes, of which so many are sent at once, and then one every so many seconds
UPLOAD, SENT, PAUSE = 2 << 20, 100_000, 5.0
HEARD = 60.0  # seconds: a guard
# What the crowd is, by the name of the row; the shares are of the number that is asked for
CROWDS: dict[str, dict[str, float]] = {
    "readers of a file": {"/file": 1},
    "readers of one object": {"/blob": 1},
    "uploaders": {"/upload": 1},
    "half as many of each": {"/file": 0.5, "/blob": 0.5, "/upload": 0.5},
}
FOUR = ("scgi", "fastcgi", "uwsgi", "http")
SETTINGS = {"SDACTIVATE_CONNECTIONS": "10000", "SDACTIVATE_GRACEFUL_TIMEOUT": "1"}
WAYS = ("socket", "nginx", "buffering nginx")
# nginx that buffers takes whole responses, into files: they are smaller than others, so that these
# fit on a disk, and larger than all that stands between
BUFFERED = 1 << 20
# A reader's own buffer, so that the kernel does not take much in its place
TAKES = 4096
WATCHDOG_US = 2_000_000


def request(protocol: str, path: str) -> bytes:
    """Return what a slow peer says at once."""
    upload = path == "/upload"
    params = PARAMS | {"REQUEST_URI": path, "PATH_INFO": path}
    if not upload:
        return PROTOCOLS[protocol].request(params)
    params |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(UPLOAD)}
    if protocol != "fastcgi":
        return PROTOCOLS[protocol].request(params, bytes(SENT))
    # The empty record that ends the body is not sent; records are small, so that they end
    return PROTOCOLS[protocol].request(params)[:-8] + _record(bytes(1000)) * (SENT // 1000)


def _record(content: bytes) -> bytes:
    return b"\1\5\0\1" + len(content).to_bytes(2, "big") + b"\0\0" + content


def wait_until_heard(peers: list[socket.socket], uploaders: set[socket.socket]) -> None:
    """Return when each has been read, and has its first bytes if it wants any. Raises Failed."""
    until = time.monotonic() + HEARD
    for peer in peers:
        asked = termios.TIOCOUTQ if peer in uploaders else termios.FIONREAD
        size = array.array("i", [0])
        while True:
            fcntl.ioctl(peer.fileno(), asked, size)
            if bool(size[0]) != (peer in uploaders):
                break
            if time.monotonic() > until:
                raise process.Failed(f"not all of the crowd were heard within {HEARD} s")
            time.sleep(0.005)


def wait_until_settled(pid: int) -> None:
    """Return when the server has nothing more to do for the crowd. Raises Failed."""
    until = time.monotonic() + HEARD
    while time.monotonic() < until:
        before = process.cpu_ns(pid)
        time.sleep(0.5)
        if process.cpu_ns(pid) - before < 50_000_000:
            return
    raise process.Failed(f"the server was still busy with the crowd after {HEARD} s")


def connect(address: Address, takes: int = 0) -> socket.socket:
    """Connect to a unix socket, or to a port of this host; `takes`: the size of a small buffer."""
    tcp = isinstance(address, int)
    peer = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
    if takes and tcp:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
    peer.settimeout(30)
    peer.connect(("127.0.0.1", address) if tcp else str(address))
    return peer


@contextlib.contextmanager
def crowd(address: Address, protocol: str, shares: dict[str, float], count: int) -> Iterator[None]:
    """So many slow peers, for as long as the block runs."""
    peers: list[socket.socket] = []
    uploaders: set[socket.socket] = set()
    enough = threading.Event()

    def trickle() -> None:
        byte = _record(b"x") if protocol == "fastcgi" else b"x"
        while not enough.wait(PAUSE):
            for peer in uploaders:
                with contextlib.suppress(OSError):
                    peer.send(byte)

    thread = threading.Thread(target=trickle)
    try:
        for target, share in shares.items():
            said = request(protocol, target)
            for _ in range(int(count * share)):
                peer = connect(address, 0 if target == "/upload" else TAKES)
                peers.append(peer)
                peer.sendall(said)
                if target == "/upload":
                    uploaders.add(peer)
        thread.start()
        wait_until_heard(peers, uploaders)
        yield
    finally:
        enough.set()
        if thread.ident:
            thread.join()
        for peer in peers:
            peer.close()


def ordinary(server: Running, address: Address) -> dict[str, float]:
    """Return what 200 requests found, one after the other: milliseconds, and how many failed."""
    if isinstance(address, int):
        return ordinary_http(address)
    report = server.load(n=str(ORDINARY), c="1")
    return {
        "p99_ms": report["p99_us"] / 1000,
        "max_ms": report["max_us"] / 1000,
        "failed": ORDINARY - report["requests"],
    }


def ordinary_http(port: int) -> dict[str, float]:
    """The same over HTTP, on a new connection each."""
    said = f"GET {PATH} HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n".encode()
    took, failed = [], 0
    for _ in range(ORDINARY):
        began = time.monotonic()
        with connect(port) as sock:
            sock.sendall(said)
            failed += BODY not in b"".join(iter(lambda: sock.recv(65536), b""))
        took.append((time.monotonic() - began) * 1000)
    took.sort()
    return {"p99_ms": took[len(took) * 99 // 100 - 1], "max_ms": took[-1], "failed": failed}


class Supervisor:
    """What the server tells its supervisor: how often it has notified the watchdog."""

    def __init__(self, bench: Bench) -> None:
        path = bench.directory / "notify"
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.notified = 0
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(WATCHDOG_US)}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            self.notified += message.count(b"WATCHDOG=1")

    def hears_of_the_watchdog(self) -> bool:
        """Whether the server notifies its watchdog twice more, each time before that would act."""
        for _ in range(2):
            before, until = self.notified, time.monotonic() + WATCHDOG_US / 1e6
            while self.notified == before:
                if time.monotonic() > until:
                    return False
                time.sleep(0.01)
        return True


def told(bench: Bench) -> int:
    """How many lines the log has about slow peers, some seconds after they have come."""
    until = time.monotonic() + 5
    while not (lines := bench.log.read_text(errors="replace").count("slow peers:")):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    return lines


def measured(bench: Bench, protocol: str, threads: int, name: str, via: str, count: int) -> Row:
    """Measure one crowd on one server of its own."""
    supervisor = Supervisor(bench)
    buffers = via == "buffering nginx"
    more = {"BENCH_SIZE": str(BUFFERED)} if buffers else {}
    server = Running(
        bench,
        Case("sdactivate", protocol, "slow", 1, threads),
        **SETTINGS,
        **supervisor.environment,
        **more,
    )
    address: Address = bench.socket
    spoken = protocol
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        if via != "socket":
            nginx = front.generated(bench.socket, protocol, not buffers, 4 * count + 512)
            address, spoken = stack.enter_context(nginx), "http"
        ordinary(server, address)  # to warm up
        row: Row = {"protocol": protocol, "via": via, "threads": threads, "crowd": name}
        row["without"] = ordinary(server, address)
        row["idle_mib"] = process.pss_mib(server.pid)
        with crowd(address, spoken, CROWDS[name], count):
            wait_until_settled(server.pid)
            row["with"] = ordinary(server, address)
            row["mib"] = process.pss_mib(server.pid)
            row["descriptors"] = len(os.listdir(f"/proc/{server.pid}/fd"))
            row["watchdog"] = supervisor.hears_of_the_watchdog()
            row["told"] = told(bench)
    return row


def rows(bench: Bench, count: int, protocols: Sequence[str], ways: Sequence[str]) -> Iterator[Row]:
    """Measure every crowd on every protocol and way, with one thread and with eight."""
    for via, protocol, threads, name in product(ways, protocols, (1, 8), CROWDS):
        row = measured(bench, protocol, threads, name, via, count)
        print(row, file=sys.stderr, flush=True)
        yield row


def measure(
    bench: Bench, count: int, protocols: Sequence[str] = FOUR, ways: Sequence[str] = WAYS
) -> dict[str, Any]:
    """Return the rows for crowds of `count`."""
    wanted = 6 * count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    found = list(rows(bench, count, protocols, ways))
    return {"count": count, "ordinary": ORDINARY, "rows": found}
