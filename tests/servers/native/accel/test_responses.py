"""The compiled twin answers as the original does: the same bytes, the same log, the same end.

Each application is called by a real server's connection, on a real socket, with the twin and
without.
"""

import re
import socket
import sys
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

import pytest

from bench.wire import PARAMS, PROTOCOLS
from sdactivate.servers.native import accel, fastcgi, http, one_shot, pool, twin
from sdactivate.servers.native.connection import Connection
from sdactivate.servers.native.server import BY_FIRST_BYTE, Server
from sdactivate.settings import Settings

pytestmark = pytest.mark.skipif(accel.module is None, reason=accel.why_not)

Start = Callable[..., Callable[[bytes], None]]
Application = Callable[[dict[str, Any], Start], Any]
closed: list[str] = []


class Body:
    """As Django's: an iterable that says whether its content is at hand."""

    def __init__(self, pieces: list[Any], streaming: Any = False) -> None:
        self.pieces = pieces
        self.streaming = streaming

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def close(self) -> None:
        closed.append("closed")


class Failing(Body):
    def close(self) -> None:
        raise OSError("close() fails")


class Closeless(Body):
    close = None  # type: ignore[assignment]


class Once(Body):
    """Can be iterated over once."""

    def __iter__(self) -> Iterator[bytes]:
        pieces, self.pieces = self.pieces, []
        return iter(pieces)


class Torn(Body):
    @property
    def close(self) -> Any:
        raise AttributeError("close")


def plain(
    body: Any, status: Any = "200 OK", headers: Any = (("Content-Type", "text/plain"),)
) -> Application:
    def application(environ: dict[str, Any], start: Start) -> Any:
        start(status, list(headers) if isinstance(headers, tuple) else headers)
        return body() if callable(body) else body

    return application


def raising(error: BaseException, started: bool) -> Application:
    def application(environ: dict[str, Any], start: Start) -> Any:
        if started:
            start("200 OK", [("X-A", "b")])
        raise type(error)(*error.args)

    return application


def replaced(environ: dict[str, Any], start: Start) -> Any:
    start("200 OK", [("X-A", "b")])
    try:
        raise ValueError("it went wrong")
    except ValueError:
        start("500 Oh", [("X-B", "c")], sys.exc_info())
    return [b"sorry"]


def twice(environ: dict[str, Any], start: Start) -> Any:
    start("200 OK", [])
    start("200 OK", [])
    return [b"x"]


def caught(environ: dict[str, Any], start: Start) -> Any:
    try:
        start("200 OK", [("X-A", "a\nb")])
    except ValueError:
        start("404 Not Found", [("X-A", "ab")])
    return [b"x"]


def written(environ: dict[str, Any], start: Start) -> Any:
    write = start("200 OK", [("X-A", "b")])
    write(b"one ")
    write(b"two ")
    return [b"three"]


def by_name(environ: dict[str, Any], start: Start) -> Any:
    start("200 OK", [], exc_info=None)
    return [b"x"]


def late(environ: dict[str, Any], start: Start) -> Any:
    start("200 OK", [("X-A", "b")])
    environ.clear()
    return [b"x"]


def belated(again: Callable[[Start, Any], Any]) -> Application:
    """Does something in close(), when the response has been sent."""

    def application(environ: dict[str, Any], start: Start) -> Any:
        write = start("200 OK", [("X-A", "b")])

        class Late(Body):
            def close(self) -> None:
                again(start, write)

        return Late([b"Hello"])

    return application


def start_again(start: Start, write: Any) -> None:
    try:
        raise ValueError("too late")
    except ValueError:
        start("500 Oh", [], sys.exc_info())


def joined(first: Callable[[Start, Any], Any]) -> Application:
    """Does something while its body, which is at hand, is joined."""

    def application(environ: dict[str, Any], start: Start) -> Any:
        write = start("200 OK", [("X-A", "b")])

        class Lazy(Body):
            def __iter__(self) -> Iterator[bytes]:
                first(start, write)
                return super().__iter__()

        return Lazy([b"then", b" this"])

    return application


def has(*headers: Any) -> Application:
    return plain([b"12345"], headers=list(headers))


APPLICATIONS: dict[str, Application] = {
    "list": plain([b"Hello"]),
    "two pieces": plain([b"Hel", b"lo"]),
    "tuple": plain((b"Hello",)),
    "empty": plain([]),
    "empty piece": plain([b""]),
    "generator": plain(lambda: iter([b"Hel", b"lo"])),
    "at hand": plain(lambda: Body([b"Hel", b"lo"])),
    "at hand, once": plain(lambda: Once([b"Hel", b"lo"]), headers=(("Content-Length", "9"),)),
    "streaming": plain(lambda: Body([b"Hel", b"lo"], True)),
    "streaming in doubt": plain(lambda: Body([b"Hel", b"lo"], None)),
    "close() fails": plain(lambda: Failing([b"Hello"])),
    "close is None": plain(lambda: Closeless([b"Hello"])),
    "close() is missing": plain(lambda: Torn([b"Hello"])),
    "no bytes": plain(["Hello"]),
    "no bytes at hand": plain(lambda: Body(["Hello"])),
    "neither bytes nor close()": plain(lambda: Failing(["Hello"])),
    "bytearray": plain([bytearray(b"Hello")]),
    "None": plain(None),
    "number": plain(5),
    "large": plain([b"x" * 20000]),
    "too large for a record": plain([b"x" * 16300], headers=tuple([("X-A", "y" * 8000)] * 7)),
    "length": has(("Content-Length", "5")),
    "length too short": has(("Content-Length", "3")),
    "length too long": has(("Content-Length", "7")),
    "length twice": has(("Content-Length", "5"), ("content-length", "5")),
    "lengths differ": has(("Content-Length", "5"), ("Content-Length", "6")),
    "length odd": has(("Content-Length", "+5")),
    "length leading zeros": has(("Content-Length", "0005")),
    "length huge": has(("Content-Length", "9" * 30)),
    "date": has(("Date", "today")),
    "server": has(("server", "mine")),
    "connection": has(("Connection", "close")),
    "hop by hop": has(("Transfer-Encoding", "chunked"), ("X-A", "b")),
    "status header": has(("Status", "404 Not Found")),
    "latin": has(("X-A", "é")),
    "unicode": has(("X-A", "€")),
    "tab": has(("X-A", "a\tb")),
    "line break": has(("X-A", "a\r\nSet-Cookie: b")),
    "delete": has(("X-A", "a\x7f")),
    "odd name": has(("X A", "b")),
    "name with colon": has(("X:A", "b")),
    "empty name": has(("", "b")),
    "empty value": has(("X-A", "")),
    "long name": has(("X" * 80, "b")),
    "many cookies": has(*[("Set-Cookie", f"a{number}=b") for number in range(90)]),
    "name of bytes": has((b"X-A", "b")),
    "value of bytes": has(("X-A", b"b")),
    "a list as header": has(["X-A", "b"]),
    "three in a header": has(("X-A", "b", "c")),
    "headers in a tuple": plain([b"x"], headers=None),
    "204": plain([b"x"], "204 No Content"),
    "304": plain([], "304 Not Modified"),
    "404": plain([b"x"], "404 Not Found"),
    "503": plain([b"x"], "503 Service Unavailable"),
    "200": plain([b"x"], "200"),
    "status of bytes": plain([b"x"], b"200 OK"),
    "status odd": plain([b"x"], "OK"),
    "status latin": plain([b"x"], "200 é"),
    "status 100": plain([b"x"], "100 Continue"),
    "raises": raising(ValueError("it went wrong"), False),
    "raises behind start": raising(ValueError("it went wrong"), True),
    "exits": raising(SystemExit(3), True),
    "interrupted": raising(KeyboardInterrupt(), False),
    "no start": lambda environ, start: [b"x"],
    "replaced": replaced,
    "twice": twice,
    "caught": caught,
    "written": written,
    "by name": by_name,
    "late": late,
    "writes while joined": joined(lambda start, write: write(b"first ")),
    "starts again while joined": joined(start_again),
    "writes too late": belated(lambda start, write: write(b"more")),
    "starts too late": belated(lambda start, write: start("200 OK", [])),
    "starts again too late": belated(start_again),
}


class One:
    """One connection of a server that has no threads: what is asked is answered here."""

    def __init__(self, application: Application, **settings: Any) -> None:
        self.server = Server(application, [], Settings(**settings))
        self.server.pool.workers[get_ident()] = pool.Worker()
        self.peer, ours = socket.socketpair()
        ours.setblocking(False)
        self.peer.settimeout(10)
        self._fd = ours.detach()
        self.connection: Connection

    def ask(self, data: bytes) -> bytes:
        """What is answered to these bytes, as far as it has been sent."""
        self.connection = BY_FIRST_BYTE[data[0]](self.server, self._fd, "")
        self.connection.received(data)
        self.peer.setblocking(False)
        answer = b""
        try:
            while piece := self.peer.recv(1 << 20):
                answer += piece
        except BlockingIOError:
            answer += b" and is open"
        self.peer.close()
        self.connection.close()
        return answer


def without_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on connections and servers are pure."""
    monkeypatch.setattr(http, "responder", None)
    monkeypatch.setattr(twin, "handler", lambda *arguments: None)
    for kind in (one_shot.Scgi, one_shot.Uwsgi):
        monkeypatch.setattr(kind, "dialect", None)
    monkeypatch.setattr(fastcgi.FastCgi, "has_twin", False)


def outcome(
    application: Application, data: bytes, capfd: pytest.CaptureFixture[str], **settings: Any
) -> tuple[Any, ...]:
    closed.clear()
    one = One(application, **settings)
    answer = one.ask(data)
    answer = re.sub(rb"Date: [A-Z][^\r]*GMT\r\n", b"", answer)
    # The server's own frames in a traceback are its own affair
    log = re.sub(
        r'sdactivate: error:   File "[^"]*/sdactivate/servers/[^"]*".*\n'
        r"(sdactivate: error:     .*\n)+",
        "",
        capfd.readouterr().err,
    )
    log = re.sub(r"[0-9.]+ ms|0x[0-9a-f]+", "…", log)
    connection = one.connection
    return answer, log, tuple(closed), one.server.errors, connection.done, connection.fd


@pytest.mark.parametrize(
    ("protocol", "method"), [*((protocol, "GET") for protocol in PROTOCOLS), ("http", "HEAD")]
)
@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_same_answer(
    name: str,
    method: str,
    protocol: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = PROTOCOLS[protocol].request(PARAMS).replace(b"GET", method.encode(), 1)
    application, access_log = APPLICATIONS[name], name == "list"
    for _ in range(2):  # the second time with what it knows by then
        compiled = outcome(application, data, capfd, access_log=access_log)
    without_twin(monkeypatch)
    assert compiled == outcome(application, data, capfd, access_log=access_log)


def test_what_is_written_while_a_body_is_joined_goes_first(
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = PROTOCOLS["http"].request(PARAMS)
    answer, log, *_ = outcome(APPLICATIONS["writes while joined"], data, capfd)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"X-A: b" in head
    assert body.startswith(b"6\r\nfirst \r\n9\r\nthen this\r\n0\r\n\r\n")
    assert not log


def test_a_list_is_answered_without_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing is won."""
    monkeypatch.setattr(one_shot, "Response", None)
    asked: list[Any] = []

    def application(environ: dict[str, Any], start: Start) -> Any:
        asked.append(type(start))
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"Hello"]

    for _ in range(2):
        answer = One(application).ask(PROTOCOLS["scgi"].request(PARAMS))
    assert answer.endswith(b"\r\nContent-Length: 5\r\n\r\nHello")
    assert asked == [accel.module.Exchange] * 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_the_peer_does_not_take_at_once_is_kept(protocol: str) -> None:
    """The twin sends a part; the connection keeps the rest, and ends in the same way."""
    body = b"0123456789abcde" * 1000
    one = One(plain([body]))
    data = PROTOCOLS[protocol].request(PARAMS)
    # A buffer that is nearly full
    fill = socket.socket(fileno=one._fd)
    fill.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    filled = 0
    try:
        while True:
            filled += fill.send(b"x" * 100)
    except BlockingIOError:
        fill.detach()
    connection = one.connection = BY_FIRST_BYTE[data[0]](one.server, one._fd, "")
    connection.received(data)
    assert connection.output is not None
    assert connection.done
    answer = b""
    while len(answer) < filled + len(body) or connection.output is not None:
        answer += one.peer.recv(1 << 16)
        if connection.output is not None:
            connection.wake()
    assert body in answer
    assert (connection.fd >= 0) == (protocol in ("http", "fastcgi"))
    connection.close()
    one.peer.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_peer_that_is_gone_is_nobody_s_fault(
    protocol: str, capfd: pytest.CaptureFixture[str]
) -> None:
    one = One(plain(lambda: Body([b"Hello"])))
    closed.clear()
    data = PROTOCOLS[protocol].request(PARAMS)
    one.peer.close()
    connection = BY_FIRST_BYTE[data[0]](one.server, one._fd, "")
    connection.received(data)
    assert connection.fd == -1
    assert closed == ["closed"]
    assert capfd.readouterr().err == ""


def test_an_exchange_says_what_it_is_about() -> None:
    found: list[Any] = []

    def application(environ: dict[str, Any], start: Start) -> Any:
        worker = one.server.pool.workers[get_ident()]
        assert worker.response is not None
        found.extend((worker.response.where(), worker.response.connection))
        return plain([b"x"])(environ, start)

    one = One(application)
    one.ask(PROTOCOLS["scgi"].request(PARAMS))
    where, connection = found
    assert where == f"GET {PARAMS['PATH_INFO']} from unix peer (scgi)"
    assert connection is one.connection


def test_an_exchange_is_run_once() -> None:
    one = One(plain([b"x"]))
    peer, ours = socket.socketpair()
    with peer, ours:
        connection = one_shot.Scgi(one.server, ours.fileno(), "")
        environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/"}
        make = one_shot.responder.exchange
        exchange = make(
            connection, environ, one.server.loop, accel.module.SCGI, accel.module.KEEP, 0
        )
        exchange.run(one.server.application)
        with pytest.raises(RuntimeError, match="run only once"):
            exchange.run(one.server.application)
        with pytest.raises(KeyError):
            make(connection, {}, one.server.loop, 0, 0, 0)
        with pytest.raises(TypeError):
            make(connection, environ)
    one.peer.close()
    one.connection = connection
