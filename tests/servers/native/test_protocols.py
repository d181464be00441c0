"""What each protocol's rules and refusals are on the wire: bytes to a real server, and back."""

import json
import socket
import string
from collections.abc import Iterator
from typing import Any

import pytest

from sdactivate.servers.native.server import BY_FIRST_BYTE
from tests.servers.peers import (
    PROTOCOLS,
    Answer,
    FastCgi,
    Request,
    ask,
    exactly,
    record,
    send_apart,
    until_end,
)
from tests.servers.service import Service, listener, serving

APPLICATION = "tests.servers.native.applications:application"
BEGIN, ABORT, END, PARAMS, STDIN, STDOUT = range(1, 7)
LIMITS = {"header_bytes": 2000, "body_buffer": 3000, "stream": "/streamed"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("served")
    sockets = [listener(directory), listener(directory, "tcp")]
    # As if any client could connect: nobody is trusted
    with serving(directory, APPLICATION, listeners=sockets, trust="192.0.2.1", **LIMITS) as started:
        yield started
        assert ask_for(started, "scgi") == 200, "it still serves"
        assert "internal error in sdactivate" not in started.log
        assert started.stop() == 0


def ask_for(service: Service, protocol: str) -> int:
    with service.connect() as peer:
        return ask(peer, protocol, Request()).status


def said(service: Service, protocol: str, *pieces: bytes, which: int = 0) -> Answer:
    """The answer to these bytes, each piece sent when the one before must have been read."""
    with service.connect(which) as peer:
        send_apart(peer, *pieces)
        return PROTOCOLS[protocol].read(peer, Request())


def told(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.body)
    return found


# The first byte


def test_every_byte_begins_one_protocol_or_none() -> None:
    found = {byte: kind.protocol for byte, kind in BY_FIRST_BYTE.items()}
    assert found == {
        **dict.fromkeys(string.ascii_letters.encode(), "http"),
        **dict.fromkeys(b"!#$%&'*+-.^_`|~\r\n", "http"),
        **dict.fromkeys(b"0123456789", "scgi"),
        1: "fastcgi",
        0: "uwsgi",
        100: "uwsgi",
    }


# A response's first line: CGI's, or HTTP's, which Apache wants over uwsgi, too


@pytest.mark.parametrize(
    ("protocol", "line"), [("scgi", b"Status: "), ("uwsgi", b"HTTP/1.1 "), ("http", b"HTTP/1.1 ")]
)
@pytest.mark.parametrize(("length", "status"), [(0, b"200"), (3000, b"431")])
def test_the_first_line(
    service: Service, protocol: str, line: bytes, length: int, status: bytes
) -> None:
    request = Request(fields=[("X-Long", "x" * length)])
    with service.connect() as peer:
        peer.sendall(PROTOCOLS[protocol].encode(request))
        assert until_end(peer).startswith(line + status)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_first_byte_tells_the_protocol(service: Service, protocol: str) -> None:
    data = PROTOCOLS[protocol].encode(Request("/told", "POST", body=b"body"))
    for pieces in ([data], [data[:1], data[1:]], [data[:5], data[5:-2], data[-2:]]):
        found = told(said(service, protocol, *pieces))
        assert (found["PATH_INFO"], found["body"]) == ("/told", "body")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("byte", [2, 0x16, 0x20, 0x80, 0xFF])
def test_what_begins_no_protocol_is_refused(service: Service, byte: int, which: int) -> None:
    """In HTTP, which most peers understand."""
    for pieces in ([bytes((byte,)) * 9], [bytes((byte,)), b"more"]):
        with service.connect(which) as peer:
            for piece in pieces:
                peer.sendall(piece)
            assert until_end(peer).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    service.logged(f"no (protocol|request) starts with the byte 0x{byte:02x}")


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("method", ["get", "delete", "NONSENSE", "!x"])
def test_a_method_that_is_not_known_is_501(service: Service, method: str, which: int) -> None:
    """Whatever its first byte (RFC 9110, section 9.1)."""
    data = f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for pieces in ([data], [data[:1], data[1:]]):
        with service.connect(which) as peer:
            send_apart(peer, *pieces)
            assert until_end(peer).startswith(b"HTTP/1.1 501 Not Implemented\r\n")


# Every protocol


def header(protocol: str, **variables: str) -> bytes:
    names = {"CONTENT_LENGTH": "", "REQUEST_METHOD": "GET", "PATH_INFO": "/told"}
    return PROTOCOLS[protocol].header({**names, **variables})


CGI = [name for name in PROTOCOLS if name != "http"]


@pytest.mark.parametrize("protocol", CGI)
@pytest.mark.parametrize("length", ["-2", "+1", "1 ", "x", "\xb2", "9" * 20, "1" * 1000])
def test_lengths_that_are_none(service: Service, protocol: str, length: str) -> None:
    answer = said(service, protocol, header(protocol, CONTENT_LENGTH=length))
    assert (answer.status, answer.whole) == (400, True)


@pytest.mark.parametrize("protocol", CGI)
def test_a_request_without_a_method(service: Service, protocol: str) -> None:
    data = PROTOCOLS[protocol].header({"CONTENT_LENGTH": "", "PATH_INFO": "/"})
    assert said(service, protocol, data).status == 400


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_header_over_the_limit(service: Service, protocol: str) -> None:
    """Each protocol says so in its own way, on the first request and on a later one."""
    wire = PROTOCOLS[protocol]
    data = wire.encode(Request("/told", fields=[("X-Long", "x" * 2500)]))
    for pieces in ([data], [data[:500], data[500:]]):
        with service.connect() as peer:
            if protocol in ("fastcgi", "http"):
                assert ask(peer, protocol, Request("/told", keep=True)).status == 200
            for piece in pieces:
                peer.sendall(piece)
            answer = wire.read(peer, Request())
            assert (answer.status, answer.whole) == (431, True)
            assert until_end(peer) == b""


# uwsgi


def test_a_ping_is_answered(service: Service) -> None:
    for pieces in ([b"\x64\0\0\0"], [b"\x64", b"\0\0\0"]):
        with service.connect() as peer:
            send_apart(peer, *pieces)
            assert until_end(peer) == b"\x64\0\0\1"


def test_a_request_without_vars_is_no_ping(service: Service) -> None:
    assert said(service, "uwsgi", bytes(4)).status == 400


# FastCGI


def begin(number: int = 1, flags: int = 1, role: int = 1) -> bytes:
    return record(BEGIN, bytes((0, role, flags, 0, 0, 0, 0, 0)), number)


def params(**variables: str) -> bytes:
    """The records of the parameters."""
    return header("fastcgi", **variables)[16:]


def next_record(peer: socket.socket) -> tuple[int, int, bytes]:
    head = exactly(peer, 8)
    if not head:
        return 0, 0, b""
    length = int.from_bytes(head[4:6], "big")
    content = exactly(peer, length + head[6])[:length]
    return head[1], int.from_bytes(head[2:4], "big"), content


def test_management_records_are_answered_at_any_time(service: Service) -> None:
    with service.connect() as peer:
        peer.sendall(record(9, b"\x0f\0FCGI_MPXS_CONNS\x05\0OTHER", 0))
        assert next_record(peer) == (10, 0, b"\x0f\x01FCGI_MPXS_CONNS0")
        peer.sendall(record(9, b"\x0e\0FCGI_MAX_CONNS\x0d\0FCGI_MAX_REQS", 0))
        assert next_record(peer) == (10, 0, b"\x0e\x04FCGI_MAX_CONNS1000\x0d\x04FCGI_MAX_REQS1000")
        peer.sendall(begin() + record(77, b"", 0))
        assert next_record(peer) == (11, 0, bytes((77, 0, 0, 0, 0, 0, 0, 0)))
        peer.sendall(params() + record(STDIN, b""))
        assert told(FastCgi().read(peer, Request()))["PATH_INFO"] == "/told"


def test_a_second_request_and_another_role_are_refused_and_harm_nobody(service: Service) -> None:
    with service.connect() as peer:
        peer.sendall(begin(1) + params(CONTENT_LENGTH="4"))
        peer.sendall(begin(2) + record(PARAMS, b"", 2))
        kind, number, content = next_record(peer)
        assert (kind, number, content[:12]) == (STDOUT, 2, b"Status: 503 ")
        assert next_record(peer) == (STDOUT, 2, b"")
        assert next_record(peer) == (END, 2, b"\0\0\0\0\1\0\0\0")  # CANT_MPX_CONN
        peer.sendall(record(STDIN, b"", 2) + record(STDIN, b"body") + record(STDIN, b""))
        assert told(FastCgi().read(peer, Request()))["body"] == "body"
        peer.sendall(begin(3, role=3) + record(PARAMS, b"", 3))
        # lighttpd takes an authorizer's empty response for "granted"
        kind, number, content = next_record(peer)
        assert (kind, number, content[:12]) == (STDOUT, 3, b"Status: 501 ")
        assert next_record(peer) == (STDOUT, 3, b"")
        assert next_record(peer) == (END, 3, b"\0\0\0\0\3\0\0\0")  # UNKNOWN_ROLE
        assert ask(peer, "fastcgi", Request()).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        begin(),
        begin() + params(CONTENT_LENGTH="10"),
        begin() + params(CONTENT_LENGTH="10") + record(STDIN, b"half"),
        begin() + params() + record(STDIN, b"of unknown length"),
    ],
)
def test_an_aborted_request_is_not_served(service: Service, sent: bytes) -> None:
    """Half of an upload is not given to the application as if it were the whole."""
    for pieces in ([sent + record(ABORT, b"")], [sent, record(ABORT, b"")]):
        with service.connect() as peer:
            send_apart(peer, *pieces)
            assert next_record(peer) == (END, 1, bytes(8))
            assert ask(peer, "fastcgi", Request()).status == 200


def test_a_request_that_is_being_served_is_aborted(service: Service) -> None:
    with service.connect() as peer:
        variables = {"CONTENT_LENGTH": "10000", "SCRIPT_NAME": "/streamed"}
        send_apart(peer, begin() + params(**variables) + record(STDIN, b"half"))
        peer.sendall(record(ABORT, b""))
        found = told(FastCgi().read(peer, Request()))
        assert found["body"] == "error: the peer has aborted the request"
        assert ask(peer, "fastcgi", Request()).status == 200


@pytest.mark.parametrize("length", [3, 5000])
def test_a_body_that_is_longer_than_its_content_length(service: Service, length: int) -> None:
    """It is read to its end and no further, and what is too much is not kept."""
    body = bytes(range(97, 123)) * 4000
    with service.connect() as peer:
        peer.sendall(begin() + params(CONTENT_LENGTH=str(length)))
        for at in range(0, len(body), 30_000):
            peer.sendall(record(STDIN, body[at : at + 30_000]))
        peer.sendall(record(STDIN, b""))
        assert told(FastCgi().read(peer, Request()))["body"] == body[:length].decode()
        assert ask(peer, "fastcgi", Request()).status == 200


def test_a_body_that_is_shorter_than_its_content_length(service: Service) -> None:
    short = record(STDIN, b"short") + record(STDIN, b"")
    answer = said(service, "fastcgi", begin() + params(CONTENT_LENGTH="9") + short)
    assert answer.status == 400
    answer = said(service, "fastcgi", begin() + params(CONTENT_LENGTH="9000"), short)
    assert answer.status == 400
    # One that is streamed: the application has begun already
    variables = {"CONTENT_LENGTH": "9000", "SCRIPT_NAME": "/streamed"}
    answer = said(service, "fastcgi", begin() + params(**variables), short)
    assert told(answer)["body"] == "error: fastcgi: the body is shorter than its CONTENT_LENGTH"


def test_a_refusal_answers_the_request_under_way_and_no_other(service: Service) -> None:
    broken = record(9, b"\1", 0)
    with service.connect() as peer:
        peer.sendall(broken)
        assert until_end(peer) == b""
    with service.connect() as peer:
        assert ask(peer, "fastcgi", Request("/told", keep=True)).status == 200
        peer.sendall(broken)
        assert until_end(peer) == b"", "its request has had its answer"
    with service.connect() as peer:
        peer.sendall(begin(7) + broken)
        answer = FastCgi().read(peer, Request())
        assert (answer.status, answer.whole) == (400, True)


# HTTP


GET = b"GET /told HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("broken", [b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_comes_whole_before_what_is_refused_is_served(service: Service, broken: bytes) -> None:
    """However they arrive: together, or one after the other."""
    for pieces in ([GET + GET + broken], [GET, GET + broken], [GET + GET, broken]):
        with service.connect() as peer:
            send_apart(peer, *pieces)
            statuses = [PROTOCOLS["http"].read(peer, Request()).status for _ in range(3)]
            assert statuses == [200, 200, 501 if broken.startswith(b"rubbish") else 400]
            assert until_end(peer) == b""


def test_old_clients_end_with_an_empty_line(service: Service) -> None:
    """RFC 9112, section 2.2."""
    data = b"POST /told HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi\r\n"
    assert told(said(service, "http", data))["body"] == "hi"


@pytest.mark.parametrize("start", [b"P", b"PRO", b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("which", [0, 1])
def test_few_bytes_are_not_taken_for_a_proxy_header(
    service: Service, start: bytes, which: int
) -> None:
    """On TCP, where nobody is trusted to send one, and on the unix socket."""
    rest = b"PFIND" if start == b"PRO" else b"OST" if start == b"P" else b"GET"
    data = rest + b" /told HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    found = told(said(service, "http", start, data, which=which))
    assert found["REQUEST_METHOD"] == (start.strip() + rest).decode()


@pytest.mark.parametrize(
    "head",
    [
        b"PROXY TCP4 203.0.113.7 192.0.2.2 47011 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xcb\0\x71\x07\xc0\0\2\2\xb7\xa3\x01\xbb\4\0\0",
    ],
)
def test_a_proxy_header(service: Service, head: bytes) -> None:
    """Believed on the unix socket, however it is cut; not from everybody on TCP."""
    for pieces in (
        [head + GET],
        [head, GET],
        [head[:13], head[13:] + GET],
        [head[:1], head[1:], GET],
    ):
        found = told(said(service, "http", *pieces))
        assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("203.0.113.7", "47011")
        if len(pieces) == 1:
            assert said(service, "http", *pieces, which=1).status == 400


def test_a_trailer_without_an_end(service: Service) -> None:
    head = b"POST /told HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
    with service.connect() as peer:
        send_apart(peer, head)
        peer.sendall((b"X: " + b"x" * 60 + b"\r\n") * 50)
        assert PROTOCOLS["http"].read(peer, Request()).status == 431
