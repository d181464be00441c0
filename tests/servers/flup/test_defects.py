"""What flup gets wrong is right when it serves here.

Every test runs twice: with ours, and with flup's own server, which must fail it. A defect that
flup has mended shows as a test that passes unexpectedly.
"""

import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdactivate.servers.flup import fastcgi as ours_fastcgi
from tests.servers.flup.served import (
    ABORT,
    END,
    GET_VALUES,
    GET_VALUES_RESULT,
    PARAMS,
    STDIN,
    Served,
    begin,
    netstring,
    pair,
    record,
    records,
    request,
    served,
    variables_of,
)

FAILS = (AssertionError, TimeoutError, ConnectionError, subprocess.TimeoutExpired)
WAYS = [
    pytest.param(False, id="ours"),
    pytest.param(True, id="plain", marks=pytest.mark.xfail(strict=True, raises=FAILS)),
]


@pytest.fixture(params=WAYS)
def plain(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["scgi", "fastcgi"])
def both(plain: bool, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    with served(tmp_path, plain, request.param) as process:
        yield process


@pytest.fixture
def scgi(plain: bool, tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, plain, "scgi") as process:
        yield process


@pytest.fixture
def fcgi(plain: bool, tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, plain, "fastcgi", 8, "--stream", "/read") as process:
        yield process


# -- threads, and the stop -----------------------------------------------------------------------


def test_half_open_connections_take_no_thread(both: Served) -> None:
    silent = [both.connect() for _ in range(40)]
    for peer in silent:
        peer.say(b"1" if both.protocol == "scgi" else begin())
    assert both.get("/ready").endswith(b"ready")


@pytest.mark.parametrize("protocol", ["scgi", "fastcgi"])
def test_clients_wait_while_all_threads_are_busy(
    plain: bool, protocol: str, tmp_path: Path
) -> None:
    with served(tmp_path, plain, protocol, threads=5) as process:
        peers = [process.connect() for _ in range(5)]
        for peer in peers:
            peer.ask("/slow")
        while process.said().count("slowly") < 5:
            time.sleep(0.01)
        for _ in range(6):
            peers.append(process.connect())
            peers[-1].ask("/slow")
        assert all(peer.response().endswith(b"ready") for peer in peers)


@pytest.mark.parametrize(
    ("protocol", "data"),
    [
        ("scgi", b"100:CONTENT_LENGTH"),
        ("fastcgi", begin() + record(PARAMS, b"half")),
        ("fastcgi", b""),  # a connection that a front keeps for later
    ],
)
def test_the_stop_does_not_wait_for_what_may_never_come(
    plain: bool, protocol: str, data: bytes, tmp_path: Path
) -> None:
    with served(tmp_path, plain, protocol) as process, process.connect() as peer:
        if data:
            peer.say(data)
        else:
            peer.say(request("fastcgi", "/ready").replace(begin(), begin(keep=True)))
            assert peer.sock.recv(65536)
        assert process.get("/ready").endswith(b"ready")  # so the peer, in front, is accepted
        assert process.stop() == 0


def test_the_stop_does_not_wait_for_a_client_that_never_closes(fcgi: Served) -> None:
    with fcgi.connect() as peer:
        peer.ask("/ready")
        assert peer.response().endswith(b"ready")
        assert fcgi.stop() == 0  # the peer's own side is still open


@pytest.mark.parametrize("protocol", ["scgi", "fastcgi"])
def test_a_header_has_a_deadline(plain: bool, protocol: str, tmp_path: Path) -> None:
    with (
        served(tmp_path, plain, protocol, 8, "--header-timeout", "300ms") as process,
        process.connect() as peer,
    ):
        peer.say(b"100:CONTENT_LENGTH" if protocol == "scgi" else begin())
        peer.rest()  # it closes


# -- FastCGI -------------------------------------------------------------------------------------


class Counted(bytes):
    """Bytes that know how many were copied out of them."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        piece = Counted(super().__getitem__(key))
        Counted.copied += len(piece)
        return piece


def test_a_long_response_is_cut_into_records_in_linear_time(plain: bool) -> None:
    body = Counted(3 << 20)
    Counted.copied = 0
    if plain:
        from flup.server import fcgi_base

        class Connection(fcgi_base.Connection):  # type: ignore[misc]
            def writeRecord(self, rec: object) -> None:
                """Nobody reads it."""

        class Server(fcgi_base.BaseFCGIServer):  # type: ignore[misc]
            request_class = fcgi_base.Request

        connection = Connection(None, None, Server(None), 0)
        request = fcgi_base.Request(connection, fcgi_base.InputStream, 0)
        request.requestId = 1
        request.stdout.write(body)
    else:
        framed = ours_fastcgi.stream(6, 1, body)
        assert b"".join(content for _, content in records(framed)) == body
    assert Counted.copied <= 2 * len(body)


def test_a_parameter_may_be_split_across_records(fcgi: Served) -> None:
    parameters = b"".join(pair(*each) for each in variables_of("/ready", b"", {}).items())
    with fcgi.connect() as peer:
        pieces = [parameters[at : at + 5] for at in range(0, len(parameters), 5)]
        peer.say(begin() + b"".join(record(PARAMS, piece) for piece in pieces))
        peer.say(record(PARAMS) + record(STDIN))
        assert peer.response().endswith(b"ready")


def test_an_abort_reaches_an_application_that_reads(fcgi: Served) -> None:
    head = request("fastcgi", "/read", CONTENT_LENGTH=str(8 << 20)).removesuffix(record(STDIN))
    with fcgi.connect() as peer:
        peer.say(head + record(STDIN, b"x" * 1000))
        assert b"reading" in peer.sock.recv(65536)  # FCGI_STDERR
        peer.say(record(ABORT))
        assert END in [kind for kind, _ in records(peer.rest())]
    assert fcgi.get("/became").endswith(b"failed: the peer has aborted the request")


def test_another_version_is_refused(fcgi: Served) -> None:
    with fcgi.connect() as peer:
        data = request("fastcgi", "/ready")
        peer.say(b"\x01" + data[1:8] + data[8:16] + b"\x02" + data[17:])
        assert not peer.response().endswith(b"ready")


def test_values_are_told(fcgi: Served) -> None:
    with fcgi.connect() as peer:
        peer.say(record(GET_VALUES, pair("FCGI_MPXS_CONNS", ""), number=0))
        head = peer.sock.recv(8)
        _, kind, _, length, _ = struct.unpack(">BBHHBx", head)
        assert kind == GET_VALUES_RESULT
        assert length
        assert peer.sock.recv(length) == pair("FCGI_MPXS_CONNS", "0")


def test_a_value_that_reaches_beyond_its_stream_is_refused(fcgi: Served) -> None:
    parameters = b"".join(pair(*each) for each in variables_of("/ready", b"", {}).items())
    with fcgi.connect() as peer:
        peer.say(begin() + record(PARAMS, parameters + b"\x01\x50Xy") + record(PARAMS))
        peer.say(record(STDIN))
        assert not peer.response().endswith(b"ready")


def test_a_traceback_is_in_the_log(fcgi: Served) -> None:
    assert fcgi.get("/fails").startswith(b"Status: 500 ")
    assert "LookupError: the words to look for" in fcgi.said()


# -- SCGI ----------------------------------------------------------------------------------------


def test_the_input_ends_where_the_body_does(scgi: Served) -> None:
    with scgi.connect() as peer:
        peer.ask("/read", b"seven77")
        assert peer.response().endswith(b"bytes 7")  # our side stays open meanwhile


def test_a_body_of_no_bytes_is_bytes(scgi: Served) -> None:
    assert scgi.get("/read").endswith(b"bytes 0")


def test_a_header_has_a_longest_length(scgi: Served) -> None:
    with scgi.connect() as peer:
        peer.say(b"999999999:")
        assert peer.response().startswith(b"Status: 431 ")


@pytest.mark.parametrize("spelling", ["+{}", "{:_}"])
def test_a_length_is_digits(scgi: Served, spelling: str) -> None:
    content = request("scgi", "/ready", HTTP_X="x" * 1000).partition(b":")[2]
    with scgi.connect() as peer:
        peer.say(spelling.format(len(content) - 1).encode() + b":" + content)
        assert not peer.response().endswith(b"ready")


def test_a_variable_without_its_end_is_refused(scgi: Served) -> None:
    content = request("scgi", "/ready").partition(b":")[2][:-1]
    with scgi.connect() as peer:
        peer.say(netstring(content + b"CUT"))
        assert not peer.response().endswith(b"ready")


# -- both ----------------------------------------------------------------------------------------


def test_a_response_header_can_not_be_split(both: Served) -> None:
    response = both.get("/split")
    assert response
    assert b"Set-Cookie" not in response


@pytest.mark.parametrize(("path", "method"), [("/head", "HEAD"), ("/unmodified", "GET")])
def test_a_response_without_a_body_claims_no_length(both: Served, path: str, method: str) -> None:
    response = both.get(path, REQUEST_METHOD=method)
    assert response
    assert b"content-length" not in response.lower()


def test_a_broken_pipe_of_the_applications_own_is_an_error(both: Served) -> None:
    assert both.get("/pipe").startswith(b"Status: 500 ")


def test_a_path_can_not_forge_a_line_of_the_log(both: Served) -> None:
    assert both.get("/fails\nsdactivate: error: forged").startswith(b"Status: 500 ")
    said = both.said()
    assert said  # it has said something about the request
    assert not [line for line in said.splitlines() if line.startswith("sdactivate: error: forged")]


def test_a_cookie_that_comes_twice_is_joined(both: Served) -> None:
    """As nginx sends what HTTP/2 has split."""
    with both.connect() as peer:
        data = request(both.protocol, "/cookie", HTTP_COOKIE="a=1", HTTP_COOKJE="b=2")
        peer.say(data.replace(b"HTTP_COOKJE", b"HTTP_COOKIE"))
        assert peer.response().endswith(b"a=1; b=2")
