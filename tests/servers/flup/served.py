"""A process that serves an application by flup: ours, or flup's own server as it ships.

The application is `answers.py` here; `Peer` is what a front is: a connection, and what it says.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
# Seconds: a guard for ours, which answers; and how long plain flup is given to hang
OURS, PLAIN = 60.0, 0.7

# The service manager's side of the contract: the socket is descriptor 3, and the PID is right.
EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "sdactivate", "serve", *sys.argv[2:]])
"""
# flup's server with its defaults, but on a socket that is listening already
UPSTREAM = """
import sys, socket, importlib
from flup.server import scgi, fcgi
class Inherits:
    def _setupSocket(self): return socket.socket(fileno=int(sys.argv[1]))
class Scgi(Inherits, scgi.WSGIServer): pass
class Fcgi(Inherits, fcgi.WSGIServer): pass
sys.path.insert(0, "")
application = importlib.import_module("answers").application
server = {"scgi": Scgi, "fastcgi": Fcgi}[sys.argv[2]]
server(application, bindAddress="inherited", maxThreads=int(sys.argv[3])).run()
"""


class Served:
    """The process, its socket, and what it has written to standard error."""

    def __init__(
        self, directory: Path, plain: bool, protocol: str, threads: int = 8, *options: str
    ) -> None:
        self.patience = PLAIN if plain else OURS
        self.protocol = protocol
        self.peers: list[Peer] = []
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(directory / "socket"))
        self.listening.listen(128)
        fd = self.listening.fileno()
        threaded = ["--server", "flup", "--threads", str(threads), *options]
        threaded += ["--graceful-timeout", "500ms", "answers:application"]
        upstream = [sys.executable, "-c", UPSTREAM, str(fd), protocol, str(threads)]
        ours = [sys.executable, "-c", EXEC, str(fd), *threaded]
        self._stderr = open(directory / "stderr", "w+")  # noqa: SIM115  (closed with the rest)
        self.process = subprocess.Popen(
            upstream if plain else ours,
            pass_fds=[fd],
            cwd=HERE,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stderr=self._stderr,
        )
        try:
            # Nothing is asked of it before it serves
            patience, self.patience = self.patience, OURS
            assert self.get("/ready").endswith(b"ready"), self.said()
            self.patience = patience
        except BaseException:
            self.close()
            raise

    def connect(self) -> "Peer":
        """A new connection, closed with the process at the latest."""
        self.peers.append(Peer(self))
        return self.peers[-1]

    def get(self, path: str, **variables: str) -> bytes:
        """The whole response to a request without a body."""
        with self.connect() as peer:
            peer.ask(path, b"", **variables)
            return peer.response()

    def said(self) -> str:
        """What the process has written to standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read()

    def stop(self) -> int:
        """TERM; the exit code, or subprocess.TimeoutExpired."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(self.patience)

    def close(self) -> None:
        for peer in self.peers:
            peer.sock.close()
        self.process.kill()
        self.process.wait()
        self.listening.close()
        self._stderr.close()


@contextlib.contextmanager
def served(
    directory: Path, plain: bool, protocol: str, threads: int = 8, *options: str
) -> Iterator[Served]:
    """A process for the time of a block. `options` are those of `sdactivate serve`."""
    process = Served(directory, plain, protocol, threads, *options)
    try:
        yield process
    finally:
        process.close()


class Peer:
    """A front's connection. A context manager."""

    def __init__(self, process: Served) -> None:
        self.protocol = process.protocol
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(process.listening.getsockname())
        self.sock.settimeout(process.patience)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, path: str, body: bytes = b"", **variables: str) -> None:
        """Send a request."""
        self.say(request(self.protocol, path, body, **variables))

    def rest(self) -> bytes:
        """All that comes until the server closes."""
        return b"".join(iter(lambda: self.sock.recv(65536), b""))

    def response(self) -> bytes:
        """The CGI response, out of its records."""
        data = self.rest()
        if self.protocol == "scgi":
            return data
        return b"".join(content for kind, content in records(data) if kind == STDOUT)


# -- bytes on the wire, by the specifications and not by anybody's code ----------------------------

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = range(1, 8)
GET_VALUES, GET_VALUES_RESULT = 9, 10


def record(kind: int, content: bytes = b"", number: int = 1, version: int = 1) -> bytes:
    return struct.pack(">BBHHBx", version, kind, number, len(content), 0) + content


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        _, kind, _, length, padding = struct.unpack_from(">BBHHBx", data)
        yield kind, data[8 : 8 + length]
        data = data[8 + length + padding :]


def pair(name: str, value: str) -> bytes:
    parts = [part.encode("latin-1") for part in (name, value)]
    heads = [
        bytes([len(part)]) if len(part) < 128 else struct.pack(">L", len(part) | 1 << 31)
        for part in parts
    ]
    return b"".join(heads + parts)


def begin(keep: bool = False) -> bytes:
    return record(BEGIN, struct.pack(">HB5x", 1, keep))


def variables_of(path: str, body: bytes, more: Mapping[str, str]) -> dict[str, str]:
    return {
        "CONTENT_LENGTH": str(len(body)),
        "SCGI": "1",
        "REQUEST_METHOD": "POST" if body else "GET",
        "REQUEST_URI": path,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        **more,
    }


def netstring(data: bytes) -> bytes:
    return b"%d:%b," % (len(data), data)


def request(protocol: str, path: str, body: bytes = b"", **more: str) -> bytes:
    """A whole request as a front sends it."""
    found = variables_of(path, body, more)
    if protocol == "scgi":
        return netstring("".join(f"{n}\0{v}\0" for n, v in found.items()).encode("latin-1")) + body
    parameters = b"".join(pair(name, value) for name, value in found.items())
    data = begin() + record(PARAMS, parameters) + record(PARAMS)
    for at in range(0, len(body), 65535):
        data += record(STDIN, body[at : at + 65535])
    return data + record(STDIN)
