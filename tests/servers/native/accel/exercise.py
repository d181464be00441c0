"""python -m tests.servers.native.accel.exercise: each allocation of `_accel` fails; none leaks.

Each scenario runs with its first allocation failing, then with its second, and so on until it no
longer gets there. It must then have raised MemoryError, or have come to its end in another right
way; and what it holds must not grow. That is a process of its own, for an interpreter that has been
without memory may be left in any state.
"""

import gc
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from threading import get_ident
from typing import Any

from bench.wire import PARAMS, PROTOCOLS
from sdactivate.servers import forks
from sdactivate.servers.native import accel, pool, twin, wsgi
from sdactivate.servers.native.environ_base import base_environ
from sdactivate.servers.native.server import BY_FIRST_BYTE, Server
from sdactivate.servers.native.wire import HOSTS
from sdactivate.settings import Settings

Scenario = Callable[[], Any]
BASE = base_environ(Settings())
REQUESTS = {name: PROTOCOLS[name].request(PARAMS) for name in PROTOCOLS}
TIMES = 300
# Blocks that all runs together may leave behind: those that the interpreter keeps to use again
SLACK = TIMES // 2


def reading(name: str) -> Scenario:
    """A request that is read, every second time by somebody who has forgotten all names."""
    data = REQUESTS[name]
    assert accel.module is not None
    if name.startswith("http"):
        return lambda: accel.module.Fields(HOSTS, twin._field).read(data, BASE, 65536, 100, 8190)
    return lambda: getattr(twin.variables(BASE), name.partition("-")[0])(data, 65536)


def remembering(name: str) -> Scenario:
    """The same, by somebody who knows them."""
    data = REQUESTS[name]
    if name.startswith("http"):
        return lambda: twin.fields.read(data, BASE, 65536, 100, 8190)
    reader = getattr(twin.variables(BASE), name.partition("-")[0])
    return lambda: reader(data, 65536)


class Carrier:
    """What an exchange and a handler need of a connection."""

    protocol = "none"
    raw_body = True

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.output = None
        self.done = False
        self.request: Any = self
        self._parser = self
        self._lock: Any = None
        self._again = self.half_closed = False
        self.resting = True
        self.own = None
        self.trusted = True

    def _early_hints(self, fields: Any) -> None:
        """Nobody sends any."""

    def wait(self, seconds: float) -> None:
        """As a connection that the loop knows from now on."""

    def served(self) -> None:
        """As a connection that goes on."""

    def close(self) -> None:
        """As one that stays."""

    def _advance(self, data: bytes = b"") -> None:
        raise AssertionError("it was plain")

    def answered(self, request: Any) -> None:
        """As a parser of FastCGI."""

    def head(self, status: str, fields: str, response: Any) -> bytes:
        return f"{status}\r\n{fields}\r\n".encode()

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def send_last(self, head: bytes, body: bytes, response: Any) -> None:
        self.send(head + body)

    def send_tail(self, response: Any) -> None:
        pass

    def beginning(self, head: bytes, data: bytes) -> bytes:
        return head + data

    def frame(self, data: bytes) -> bytes:
        return data

    def finish(self) -> None:
        self.done = True

    def peer_name(self) -> str:
        return "nobody"


class Body(list[bytes]):
    streaming = False

    def close(self) -> None:
        """Nothing to be done."""


def plain(environ: Any, start: Any) -> Any:
    start("200 OK", [("Content-Type", "text/plain"), ("X-A", "b")])
    return [b"Hello"]


def at_hand(environ: Any, start: Any) -> Any:
    start("200 OK", [("Content-Length", "5")])
    return Body([b"Hel", b"lo"])


def unusual(environ: Any, start: Any) -> Any:
    start("200 OK", [("Connection", "close")])
    return iter([b"Hello"])


def failing(environ: Any, start: Any) -> Any:
    start("200 OK", [("X-A", "b")])
    raise ValueError


def answering(dialect: str, application: Any, peer: socket.socket, ours: socket.socket) -> Scenario:
    assert accel.module is not None
    compiled = accel.module
    exchange = twin.responder(lambda: "Server: x\r\n").exchange
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "REMOTE_ADDR": "a"}
    loop = type("Loop", (), {"draining": False})
    kind, keep, fd = getattr(compiled, dialect), compiled.KEEP, ours.fileno()

    def run() -> Any:
        try:
            return exchange(Carrier(fd), environ, loop, kind, keep, 7).run(application)
        finally:
            try:
                peer.recv(1 << 20)
            except BlockingIOError:
                pass

    return run


def new_handler() -> Any:
    """The handler of a server that answers plainly."""
    server = Server(plain, [], Settings())
    server.pool.workers[get_ident()] = pool.Worker()
    return server.handler


def handling(name: str, kept: bool, peer: socket.socket, ours: socket.socket) -> Scenario:
    """A request from its bytes to the end of its answer; kept: the loop knows the connection."""
    data = REQUESTS[name]
    handler = new_handler()

    def run() -> None:
        connection = Carrier(ours.fileno() if kept else os.dup(ours.fileno()))
        connection._lock = kept or None
        try:
            if name.startswith("http"):
                handler.http(connection, data)
            else:
                handler.one_shot(connection, data, getattr(accel.module, name.upper()))
        finally:
            try:
                peer.recv(1 << 20)
            except BlockingIOError:
                pass
            if not kept and connection.fd >= 0:
                os.close(connection.fd)

    return run


def turning(peer: socket.socket, ours: socket.socket) -> Scenario:
    """The turn of a kept connection, from an event to the next wait."""
    handler = new_handler()
    lock = threading.Lock()

    def run() -> None:
        connection = Carrier(ours.fileno())
        connection._lock = lock
        peer.send(REQUESTS["http"])
        try:
            assert handler.turn(connection)
        finally:
            assert not lock.locked()
            for each in (peer, ours):
                try:
                    each.recv(1 << 20)
                except BlockingIOError:
                    pass

    return run


def serving(name: str) -> Scenario:
    """A whole request on a connection of its own, by all that there is."""
    server = Server(plain, [], Settings())
    server.pool.workers[get_ident()] = pool.Worker()
    data = REQUESTS[name]

    def run() -> None:
        peer, ours = socket.socketpair()
        ours.setblocking(False)
        with peer:
            connection = BY_FIRST_BYTE[data[0]](server, ours.detach(), "")
            connection.received(data)
            assert b"Hello" in peer.recv(1 << 20)
            connection.close()

    return run


def run_dry(name: str, scenario: Scenario) -> int:
    """Run it with each of its allocations failing; return how many there are."""
    import _testcapi

    failures = 0
    for number in range(100_000):
        _testcapi.set_nomemory(number, number + 1)
        try:
            scenario()
            failed = False
        except MemoryError:
            failed = True
        finally:
            _testcapi.remove_mem_hooks()
        failures += failed
        if not failed and number > failures + 200:  # what is caught on the way was swallowed
            return failures
    raise AssertionError(f"{name}: it never comes to its end")


def grown(scenario: Scenario) -> int:
    """Blocks that it leaves behind when it runs often, at last: logging, for one, keeps some."""
    left = SLACK
    for _ in range(12):
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(TIMES):
            scenario()
        gc.collect()
        left = sys.getallocatedblocks() - before
        if left < SLACK:
            break
    return left


def main() -> None:
    """Run all; a leak or a wrong exception is an error."""
    wsgi.statuses["200 OK"] = False
    HOSTS.add("www.example.com")
    assert not forks.happened
    null = os.open(os.devnull, os.O_WRONLY)
    peer, ours = socket.socketpair()
    peer.setblocking(False)
    ours.setblocking(False)
    scenarios = {f"read {name}": reading(name) for name in REQUESTS}
    scenarios |= {f"remember {name}": remembering(name) for name in REQUESTS}
    scenarios |= {
        f"answer {dialect} {application.__name__}": answering(dialect, application, peer, ours)
        for dialect in ("SCGI", "UWSGI", "HTTP", "FASTCGI")
        for application in (plain, at_hand, unusual, failing)
    }
    scenarios |= {
        f"handle {name}{' known' * kept}": handling(name, kept, peer, ours)
        for name in ("http", "http-close", "scgi", "uwsgi")
        for kept in (False, True)
        if name == "http" or not kept
    }
    scenarios["turn http"] = turning(peer, ours)
    os.dup2(null, 2)  # what applications raise is logged
    whole = {f"serve {name}": serving(name) for name in REQUESTS}
    for name, scenario in (scenarios | whole).items():
        left = grown(scenario)
        assert left < SLACK, f"{name}: {left} blocks are left behind by {TIMES} runs"
        print(f"{name}: no leak")
    try:
        import _testcapi  # noqa: F401
    except ImportError:
        print("without _testcapi no allocation can be made to fail")
        return
    for name, scenario in scenarios.items():
        count = run_dry(name, scenario)
        left = grown(scenario)
        assert left < SLACK, f"{name}: {left} blocks are left behind where allocations fail"
        print(f"{name}: {count} allocations have failed, one by one")


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)
