"""A connection goes the same way compiled and pure, whatever is said on it.

What the application is given, what is answered, what is logged, and how the connection stands when
all has been said: open or closed, waiting for a request or for the rest of one.
"""

import os
import re
import socket
from collections.abc import Callable
from threading import get_ident
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate.servers import forks
from sdactivate.servers.native import accel, pool
from sdactivate.servers.native import http as native_http
from sdactivate.servers.native.server import BY_FIRST_BYTE, Server
from sdactivate.servers.native.wire import http
from sdactivate.settings import Settings
from tests.effort import examples
from tests.servers.native.accel.test_responses import without_twin

pytestmark = pytest.mark.skipif(accel.module is None, reason=accel.why_not)

LIMITS = {
    "header_bytes": 700,
    "header_count": 9,
    "request_line": 120,
    "body_bytes": 40,
    "body_buffer": 20,
    "trust_headers": ("X-Forwarded-Host", "X-Script-Name"),
}
UNIX, TCP, TRUSTED = "", ("192.0.2.7", 4711), ("198.51.100.1", 4711)
HOST = b"Host: www.example.com\r\n"
PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
# What is of each request only, and not to be compared as it is
OBJECTS = ("wsgi.input", "wsgi.errors", "wsgi.early_hints", "wsgi.file_wrapper")


def get(path: bytes = b"/", fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, fields)


def post(size: int, sent: int) -> bytes:
    head = b"POST /app/post HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (HOST, size)
    return head + (b"abcdefgh" * 8)[:sent]


def scgi(body: bytes = b"", length: int | None = None, **more: str) -> bytes:
    size = str(len(body) if length is None else length)
    variables = {"CONTENT_LENGTH": size, "SCGI": "1", "REQUEST_METHOD": "POST", "PATH_INFO": "/x"}
    block = "".join(f"{name}\0{value}\0" for name, value in (variables | more).items()).encode()
    return b"%d:%b,%b" % (len(block), block, body)


SAID = [
    *(get(), get(b"/a%20b?c=d"), get(b"/close", b"Connection: close\r\n"), get(b"/chunked")),
    *(get(b"/", b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"), get(b"/hints")),
    *(get(b"/app/x", b"X-Script-Name: /app\r\n"), get(b"/", b"X-Script-Name: app,\r\n")),
    *(get(b"/", b"X-Forwarded-Host: a@b\r\n"), get(b"/", b"X-Forwarded-Host: b.example\r\n")),
    *(get(b"/", b"Expect: 100-continue\r\n"), get(b"/fails"), get(b"/5xx"), get(b"/late")),
    *(get() + get(b"/second"), get()[:30], get()[30:], get(b"/head").replace(b"GET", b"HEAD")),
    *(post(0, 0), post(8, 8), post(8, 3), post(8, 9), post(40, 40), post(41, 41), post(30, 7)),
    *(
        b"abcde",
        b"\r\n",
        b"x",
        b"GET / HTTP/1.0\r\n\r\n",
        PROXY,
    ),
    *(PROXY + get(), b"PROXY TC", b"POST / HTTP/1.1\r\n"),
    *(get(b"/" + b"x" * 130), get(b"/", b"A: b\r\n" + b"B: %b\r\n" % (b"c" * 700))),
    b"POST / HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" % HOST,
    *(scgi(), scgi(b"abc"), scgi(b"abc", 5), scgi(b"abcde", 3), scgi(b"", 41), scgi(b"x" * 41)),
    *(scgi(HTTPS="on", SCRIPT_NAME="/app"), scgi(CONTENT_LENGTH="007"), scgi()[:20], scgi()[20:]),
]


class Conversation:
    """One connection of a server that has no threads, and what comes of all that is said on it."""

    def __init__(self, address: Any, **settings: Any) -> None:
        self.asked: list[Any] = []
        self.server = Server(self.application, [], Settings(trust=("198.51.100.1",), **settings))
        self.server.pool.workers[get_ident()] = pool.Worker()
        self.peer, ours = socket.socketpair()
        ours.setblocking(False)
        self.peer.setblocking(False)
        self.connection: Any = None
        self._ours, self._address = ours, address

    def application(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        seen = {name: value for name, value in environ.items() if name not in OBJECTS}
        assert environ.keys() >= set(OBJECTS) - {"wsgi.early_hints"}
        self.asked.append((seen, "wsgi.early_hints" in environ, environ["wsgi.input"].read()))
        path = environ["PATH_INFO"]
        if path == "/fails":
            raise ValueError("it went wrong")
        if path == "/hints":
            environ["wsgi.early_hints"]([("Link", "</a>")])
        start("503 Oh" if path == "/5xx" else "200 OK", [("X-A", "b")])
        body = [b"Hel", b"lo"]
        return iter(body) if path == "/chunked" else body

    def said(self, data: bytes) -> None:
        if self.connection is None:
            kind = BY_FIRST_BYTE[data[0]]
            self.connection = kind(self.server, self._ours.detach(), self._address)
            self.connection.received(data)
        elif self.connection.fd >= 0:
            self.peer.send(data)
            self.connection.wake()

    def outcome(self, log: str) -> tuple[Any, ...]:
        """What has come of it; both sides are closed."""
        connection = self.connection
        stands = (connection.fd < 0, connection.done, connection.idle, connection._lingered >= 0)
        limit = round(connection.deadline - connection.since)
        answer = b""
        try:
            while piece := self.peer.recv(1 << 20):
                answer += piece
        except BlockingIOError:
            answer += b" and is open"
        self.peer.close()
        connection.close()
        answer = re.sub(rb"Date: [A-Z][^\r]*GMT\r\n", b"", answer)
        worker = self.server.pool.workers[get_ident()]
        assert sum(map(bool, worker.recent)) == worker.served
        counted = (worker.served, worker.response, self.server.errors, self.server.figures().busy)
        return self.asked, answer, stands, limit, counted, log


def tell(data: list[bytes], address: Any, capfd: pytest.CaptureFixture[str], **more: Any) -> Any:
    conversation = Conversation(address, **(LIMITS | more))
    for each in data:
        conversation.said(each)
    log = capfd.readouterr().err
    # The server's own frames in a traceback are its own affair
    log = re.sub(r'.*File "[^"]*/sdactivate/servers/.*\n(sdactivate: error:     .*\n)+', "", log)
    return conversation.outcome(re.sub(r"[0-9.]+ ms", "…", log))


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is mostly known, and all sockets are of the kind that delivers at once."""
    monkeypatch.setattr(native_http, "local_address", lambda fd, peer: ("127.0.0.1", 8080))
    first = Conversation(UNIX)
    first.said(get() + get(b"/5xx"))
    first.outcome("")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=examples(300),
)
@given(
    said=st.lists(st.sampled_from(SAID), min_size=1, max_size=5),
    address=st.sampled_from([UNIX, TCP, TRUSTED]),
    access_log=st.booleans(),
)
def test_the_same_conversation(
    said: list[bytes], address: Any, access_log: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    compiled = tell(said, address, capfd, access_log=access_log)
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_twin(monkeypatch)
        pure = tell(said, address, capfd, access_log=access_log)
    assert compiled == pure


@pytest.mark.parametrize("one", range(len(SAID)))
@pytest.mark.parametrize("address", [UNIX, TCP, TRUSTED], ids=["unix", "tcp", "trusted"])
def test_each_after_a_plain_one(
    one: int, address: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [get(), SAID[one], get(b"/after")]
    compiled = tell(said, address, capfd), tell([SAID[one]], address, capfd)
    without_twin(monkeypatch)
    assert compiled == (tell(said, address, capfd), tell([SAID[one]], address, capfd))


def test_plain_requests_have_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing is won."""
    monkeypatch.setattr(http, "Parser", None)
    conversation = Conversation(UNIX)
    for data in (get(), get(b"/a?b"), post(8, 8), get(b"/", b"X-Forwarded-For: 192.0.2.1\r\n")):
        conversation.said(data)
    conversation.said(get(b"/", b"Connection: close\r\n"))
    asked, answer, (is_closed, *_), *_ = conversation.outcome("")
    assert len(asked) == answer.count(b" 200 OK") == 5
    assert is_closed


def test_at_a_stop_a_plain_request_is_the_last(capfd: pytest.CaptureFixture[str]) -> None:
    conversation = Conversation(UNIX)
    conversation.said(get())
    conversation.server.loop.draining = True
    conversation.said(get())
    _, answer, (is_closed, *_), *_ = conversation.outcome("")
    assert answer.count(b"Connection: close\r\n") == 1
    assert is_closed


def test_a_fork_s_connection_is_shut_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child may hold the descriptor: closing it would not end the connection."""
    monkeypatch.setattr(forks, "happened", True)
    conversation = Conversation(UNIX)
    child = os.dup(conversation._ours.fileno())
    conversation.said(get(b"/", b"Connection: close\r\n"))
    assert b" and is open" not in conversation.outcome("")[1]
    os.close(child)
