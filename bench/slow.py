"""Thousands of slow peers, and what ordinary requests notice of them.

A crowd of peers connects and is slow: at taking a file, at taking one object of bytes, at sending a
body. When the server has heard all of them, 200 ordinary requests are made one after the other, and
their p99 is compared with that of 200 before the crowd came; memory is that of the process with the
crowd (PSS).
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import process
from bench.load import Bench, Running
from bench.servers import Case
from bench.wire import PARAMS, PROTOCOLS

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


def request(protocol: str, path: str) -> bytes:
    """Return what a slow peer says at once."""
    upload = path == "/upload"
    method, length = ("POST", str(UPLOAD)) if upload else ("GET", "")
    body = bytes(SENT) if upload else b""
    if protocol == "http":
        said = f"{method} {path} HTTP/1.1\r\nHost: www.example.com\r\n"
        return f"{said}Content-Length: {length or 0}\r\n\r\n".encode() + body
    params = PARAMS | {"REQUEST_METHOD": method, "PATH_INFO": path, "CONTENT_LENGTH": length}
    head = PROTOCOLS[protocol].request(params)
    if protocol == "fastcgi" and upload:
        # The empty record that ends the body is not sent; records are small, so that they end
        head = head[:-8]
        body = _record(bytes(1000)) * (SENT // 1000)
    return head + body


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


@contextlib.contextmanager
def crowd(path: Path, protocol: str, shares: dict[str, float], count: int) -> Iterator[None]:
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
                peer = socket.socket(socket.AF_UNIX)
                peers.append(peer)
                peer.settimeout(30)
                peer.connect(str(path))
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


def ordinary(server: Running) -> dict[str, float]:
    """Return what 200 requests found, one after the other: milliseconds, and how many failed."""
    report = server.bench.load(server.case.protocol, n=str(ORDINARY), c="1")
    return {
        "p99_ms": report["p99_us"] / 1000,
        "max_ms": report["max_us"] / 1000,
        "failed": ORDINARY - report["requests"],
    }


def rows(bench: Bench, count: int) -> Iterator[Row]:
    """Measure every crowd on every protocol, with one thread and with eight."""
    for protocol in FOUR:
        for threads in (1, 8):
            for name, shares in CROWDS.items():
                server = Running(
                    bench, Case("sdactivate", protocol, "slow", 1, threads), **SETTINGS
                )
                try:
                    ordinary(server)  # to warm up
                    row: Row = {"protocol": protocol, "threads": threads, "crowd": name}
                    row["without"] = ordinary(server)
                    row["idle_mib"] = process.pss_mib(server.pid)
                    with crowd(bench.socket, protocol, shares, count):
                        row["with"] = ordinary(server)
                        row["mib"] = process.pss_mib(server.pid)
                        row["descriptors"] = len(os.listdir(f"/proc/{server.pid}/fd"))
                finally:
                    server.stop()
                print(row, file=sys.stderr, flush=True)
                yield row


def measure(bench: Bench, count: int) -> dict[str, Any]:
    """Return the rows for crowds of `count`."""
    wanted = 6 * count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    return {"count": count, "ordinary": ORDINARY, "rows": list(rows(bench, count))}
