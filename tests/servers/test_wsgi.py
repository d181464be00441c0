"""WSGI (PEP 3333) as every server of the kit keeps it, over every protocol it speaks."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.peers import PROTOCOLS, Answer, Request, ask
from tests.servers.service import Service, eventually, of, serving

SPOKEN = [(server, protocol) for server in ("native", "pure") for protocol in PROTOCOLS]
SPOKEN += [("flup", "scgi"), ("flup", "fastcgi")]
Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp(request.param)
    app = "tests.servers.wsgi_applications:application"
    with serving(directory, app, **of(request.param)) as started:
        started.server = request.param  # type: ignore[attr-defined]
        yield started
        assert started.stop() == 0


@pytest.fixture
def get(service: Service, request: pytest.FixtureRequest) -> Ask:
    """Ask the service for a path, over one protocol."""
    protocol: str = request.param

    def get(path: str, query: str = "", **more: Any) -> Answer:
        with service.connect() as peer:
            return ask(peer, protocol, Request(path=path, query=query, **more))

    get.protocol = protocol  # type: ignore[attr-defined]
    return get


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Only the protocols that a server speaks."""
    if "get" in metafunc.fixturenames:
        metafunc.parametrize(("service", "get"), SPOKEN, indirect=True)


BODY = b"".join(b"line %d of the body\n" % number for number in range(500))
READS = ("read", "sized", "readline", "short-lines", "readlines", "iteration", "past")


@pytest.mark.parametrize("way", READS)
def test_the_body_is_read_in_every_way_and_no_further(get: Ask, way: str) -> None:
    assert get("/echo", way, method="POST", body=BODY).body == BODY
    assert get("/echo", way).body == b""


def test_a_body_that_is_streamed(get: Ask) -> None:
    body = BODY * 300  # over body_buffer
    assert get("/echo", "sized", method="POST", body=body).body == body


@pytest.mark.parametrize("path", ["/valid", "/valid_stream"])
def test_wsgiref_finds_nothing(get: Ask, path: str) -> None:
    answer = get(path, method="POST", body=BODY, fields=[("Content-Type", "text/plain")])
    assert (answer.status, answer.body, answer.whole) == (200, BODY, True)
    assert get(path).status == 200
    answer = get("/valid", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_the_same_request_is_the_same_environ_over_every_protocol(get: Ask) -> None:
    asked = {
        "fields": [("Accept", "text/html"), ("Cookie", "a=1; b=2"), ("X-Some-Field", "\xe4")],
        "query": "a=b&c=%20",
    }
    found = json.loads(get("/environ/%C3%BC%20%2F/x", **asked).body)
    wanted = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ/\xc3\xbc //x",
        "QUERY_STRING": "a=b&c=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "203.0.113.9",
        "REMOTE_PORT": "47011",
        "HTTP_HOST": "www.example.com",
        "HTTP_ACCEPT": "text/html",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_X_SOME_FIELD": "\xe4",
        "wsgi.version": [1, 0],
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert "HTTP_CONTENT_LENGTH" not in found


def test_pieces_arrive_in_order(get: Ask) -> None:
    answer = get("/streamed")
    assert answer.whole
    assert answer.body == b"".join(b"piece %d\n" % number for number in range(100))
    assert get("/written").body == b"written, twice, returned"


def test_a_large_response(get: Ask) -> None:
    assert get("/large").body == b"x" * 5_000_000


@pytest.mark.parametrize("kind", ["real", "memory"])
def test_files(get: Ask, kind: str) -> None:
    answer = get("/file", kind)
    assert answer.whole
    assert answer.body == b"0123456789" * (29999 if kind == "real" else 30000)


def test_fields_may_be_repeated(get: Ask) -> None:
    assert get("/cookies").all("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_some_statuses_have_no_body(get: Ask, status: str) -> None:
    answer = get("/bodiless", status.replace(" ", "+"))
    assert f"{answer.status} {answer.reason}" == status
    assert (answer.body, answer["X-Here"]) == (b"", "yes")
    assert not answer.all("Content-Length")


@pytest.mark.parametrize("path", ["/streamed", "/written", "/large", "/file"])
def test_head_has_no_body(get: Ask, path: str) -> None:
    answer = get(path, "real" if path == "/file" else "", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("path", ["/sized", "/sized_pieces"])
def test_content_length_is_kept_or_the_response_is_cut(get: Ask, path: str) -> None:
    assert get(path, "exact").body == b"0123456789"
    assert get(path, "more").body == b"0123456789"
    answer = get(path, "less")
    assert answer.status == 500 or not answer.whole or len(answer.body) < 10


@pytest.mark.parametrize("how", ["plain", "breaks", "fails", "endless"])
def test_close_is_always_called(get: Ask, service: Service, how: str) -> None:
    def count() -> int:
        return json.loads(get("/was_closed").body).count(how)  # type: ignore[no-any-return]

    before = count()
    if how == "endless":
        with service.connect() as peer:
            peer.sendall(
                PROTOCOLS[get.protocol].encode(Request("/closing", query=how))  # type: ignore[attr-defined]
            )
            assert peer.recv(1000)
    else:
        answer = get("/closing", how)
        assert answer.body.startswith(b"first" if how == "breaks" else b"ab")
    eventually(lambda: count() == before + 1, "close()")


def test_what_breaks_off_does_not_look_whole(get: Ask) -> None:
    answer = get("/closing", "breaks")
    # SCGI and uwsgi have no way to tell, without a Content-Length; the others do
    if get.protocol in ("http", "fastcgi"):  # type: ignore[attr-defined]
        assert not answer.whole


@pytest.mark.parametrize("when", ["before", "after", "exit"])
def test_an_exception_before_the_head_is_a_500(get: Ask, service: Service, when: str) -> None:
    answer = get("/raises", when)
    assert answer.status == 500
    assert b"RuntimeError" not in answer.body
    assert service.process.poll() is None
    service.logged("SystemExit: 3" if when == "exit" else "RuntimeError: (before|after) start")


def test_exc_info_replaces_what_was_not_sent(get: Ask) -> None:
    answer = get("/again", "replace")
    assert (answer.status, answer.body) == (503, b"replaced")
    assert get("/again", "bare").status == 500
    answer = get("/again", "sent")
    assert answer.status == 200
    assert b"replaced" not in answer.body


@pytest.mark.parametrize("where", ["value", "name", "status", "nul"])
def test_a_header_cannot_be_split(get: Ask, where: str) -> None:
    answer = get("/split", where)
    assert answer.status == 500
    assert not answer.all("X-Evil")


@pytest.mark.parametrize("size", [65536, 5_000_000])
def test_a_body_may_be_left_unread(get: Ask, size: int) -> None:
    answer = get("/unread", method="POST", body=b"x" * size)
    assert (answer.status, answer.body) == (403, b"not read")


def test_the_access_log_has_a_line_for_each_request(tmp_path: Path) -> None:
    app = "tests.servers.wsgi_applications:application"
    with serving(tmp_path, app, access_log="yes") as service:
        for protocol in PROTOCOLS:
            with service.connect() as peer:
                ask(peer, protocol, Request("/cookies%0Aforged"))
        for protocol in PROTOCOLS:
            service.logged(
                rf"GET /cookies\\nforged from .*\({protocol}\): 500, \d+ bytes, [\d.]+ ms"
            )
        with service.connect() as peer:
            ask(peer, "http", Request("/large"))
        service.logged(r"GET /large from .*: 200, 5000000 bytes, ")
        assert "\nforged" not in service.log
