"""A service with all the processes that it becomes; its application misbehaves on request."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.service import Service, eventually

APPLICATION = """
import gc, logging, os, signal, sys, threading, time
logger = logging.getLogger("site")
logger.addHandler(logging.StreamHandler())
{more}
def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        environ["wsgi.errors"].write("slowly")
        time.sleep(1)
    elif path == "/hang":
        environ["wsgi.errors"].write("hanging")
        threading.Event().wait()
    elif path == "/spin":
        sum(range(10**14))
    elif path == "/exit":
        os._exit(0)
    elif path == "/loud":
        for _ in range(20):
            environ["wsgi.errors"].write("errors " + 5000 * "x")
            logger.error("logging " + 5000 * "x")
            print("print " + 5000 * "x", file=sys.stderr)
    elif path == "/abort":
        os.abort()
    elif path == "/close":
        os.close(3)
    elif path == "/closerange":
        os.closerange(3, 500)
    elif path == "/grow":
        grown.append(b"grown" * (16 << 20))
    elif path == "/collect":
        gc.collect()
    elif path == "/daemon" and not os.fork():
        time.sleep(300)
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
grown = []
"""
ONE_AND_MORE = pytest.mark.parametrize("workers", [1, 2], ids=["one", "two"])
SUPERVISED = pytest.mark.parametrize("supervised", [True, False], ids=["supervised", "alone"])


class Life(Service):
    """A service, and all processes that it becomes."""

    def __init__(self, directory: Path, more: str = "", **settings: object) -> None:
        self.directory = directory
        self.release(more)
        super().__init__(directory, "life:application", **{"threads": 2, **settings})  # type: ignore[arg-type]

    def release(self, more: str) -> None:
        (self.directory / "life.py").write_text(APPLICATION.format(more=more))

    def send(self, path: str = "/") -> socket.socket:
        peer = self.connect()
        peer.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return peer

    def slow(self) -> socket.socket:
        """A request that is being served, and takes a while."""
        peer = self.send("/slow")
        self.logged("slowly")
        return peer

    def ask(self, path: str = "/") -> bytes:
        return answer(self.send(path))

    def pid(self) -> int:
        """The process that serves."""
        return int(self.ask().rpartition(b"\r\n")[2])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def main(self) -> int:
        """Wait for a new main process."""
        return int(self.told_by(lambda line: line.startswith("MAINPID="), "MAINPID=")[8:])

    def processes(self) -> set[int]:
        """All that have been started with this service's environment, and still run."""
        mark = f":{self.directory}\0".encode()
        found = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(int(pid))
        return found

    def runs(self) -> bool:
        return super().runs() or bool(self.processes())

    def all_leave(self) -> None:
        eventually(lambda: self.process.poll() is not None, "the end of the first process")
        eventually(lambda: not self.processes(), "the end of every process")

    def close(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().close()


Lives = Callable[..., Life]


def answer(peer: socket.socket) -> bytes:
    with peer:
        return b"".join(iter(lambda: peer.recv(4096), b""))
