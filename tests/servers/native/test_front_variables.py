"""What fronts send, as the application gets it. Every case was seen with the front it names."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdactivate import trust
from sdactivate.servers.native import cgi_environ, forwarded
from sdactivate.servers.native.wire.http import FORWARDED
from sdactivate.settings import resolve
from tests.conftest import CHECKOUT
from tests.servers.peers import PROTOCOLS, Answer, Request, record, size
from tests.servers.service import Service, listener, serving

APPLICATION = "tests.servers.native.applications:application"

BASE = {
    "CONTENT_LENGTH": "",
    "PATH_INFO": "",
    "QUERY_STRING": "",
    "SCRIPT_NAME": "",
    "SERVER_NAME": "localhost",
    "wsgi.url_scheme": "http",
}


def environ_of(**variables: str) -> dict[str, Any]:
    return cgi_environ.environ({"REQUEST_METHOD": "GET", **variables}, BASE)


def test_the_server_and_the_fronts_agree_on_what_a_client_may_not_say() -> None:
    dropped = {f"HTTP_{name.upper().replace('-', '_')}" for name in trust.FORGEABLE}
    assert dropped == FORWARDED | {"HTTP_PROXY"}


@pytest.mark.parametrize("name", trust.FORGEABLE)
def test_a_spoofable_variable_is_dropped(name: str) -> None:
    variable = f"HTTP_{name.upper().replace('-', '_')}"
    assert variable not in environ_of(PATH_INFO="/", **{variable: "evil"})


@pytest.mark.parametrize(
    ("front", "sent", "name", "value"),
    [
        ("nginx", {"CONTENT_LENGTH": ""}, "CONTENT_LENGTH", None),
        ("Caddy, chunked", {"CONTENT_LENGTH": "-1"}, "CONTENT_LENGTH", None),
        ("Cherokee", {"HTTPS": "off"}, "HTTPS", None),
        ("Cherokee", {"HTTPS": "off"}, "wsgi.url_scheme", "http"),
        ("nginx", {"HTTPS": "on"}, "wsgi.url_scheme", "https"),
        ("HAProxy at the root", {"PATH_INFO": "/a"}, "SCRIPT_NAME", ""),
        ("lighttpd, exactly the prefix", {"SCRIPT_NAME": "/app"}, "PATH_INFO", ""),
        ("HAProxy", {"SERVER_NAME": "a.test:80"}, "SERVER_NAME", "a.test"),
        ("HAProxy", {"SERVER_NAME": "[::1]:80"}, "SERVER_NAME", "[::1]"),
        ("nginx", {"SERVER_NAME": "[::1]"}, "SERVER_NAME", "[::1]"),
        ("lighttpd", {"HTTP_CONTENT_LENGTH": "7"}, "HTTP_CONTENT_LENGTH", None),
    ],
)
def test_one_environ_comes_of_it(
    front: str, sent: dict[str, str], name: str, value: str | None
) -> None:
    assert environ_of(**sent).get(name) == value


def http_environ(remote_user: bool = False, trusted: str = "", **found: str) -> dict[str, Any]:
    environ = {**BASE, "PATH_INFO": "/app/x", "HTTP_HOST": "a.test:8080"}
    settings = resolve({"remote_user": remote_user, "trust_headers": trusted}, {}, {})
    forwarded.apply(environ, found, forwarded.Trust(settings))
    return environ


def test_over_http_the_server_is_called_what_the_client_called_it() -> None:
    assert http_environ(HTTP_X_FORWARDED_PROTO="https")["SERVER_NAME"] == "a.test"
    host = http_environ(trusted="X-Forwarded-Host", HTTP_X_FORWARDED_HOST="b.test")
    assert host["SERVER_NAME"] == "b.test"


def test_a_user_is_believed_only_where_the_setting_says_that_the_front_sets_it() -> None:
    assert "REMOTE_USER" not in http_environ(HTTP_REMOTE_USER="alice")
    assert http_environ(remote_user=True, HTTP_REMOTE_USER="alice")["REMOTE_USER"] == "alice"
    assert "REMOTE_USER" not in http_environ(remote_user=True, HTTP_REMOTE_USER="")


def test_the_mount_is_cut_off_the_path() -> None:
    environ = http_environ(trusted="X-Script-Name", HTTP_X_SCRIPT_NAME="/app")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")


# The nine points that fronts ask a backend to bear, each in the very bytes that a front sends

CGI_LIKE = ("scgi", "fastcgi", "uwsgi")
Pairs = list[tuple[str, str]]
GET: Pairs = [
    ("REQUEST_METHOD", "GET"),
    ("SCRIPT_NAME", ""),
    ("PATH_INFO", "/told"),
    ("REMOTE_ADDR", "203.0.113.9"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("fronts")
    with serving(directory, APPLICATION, body_bytes=1 << 20) as started:
        yield started
        assert "internal error in sdactivate" not in started.log
        assert started.stop() == 0


def encoded(protocol: str, pairs: Pairs, body: bytes = b"") -> bytes:
    """A request as the front's own code writes it: pairs in their order, also repeated ones."""
    texts = [text.encode("latin-1") for pair in pairs for text in pair]
    if protocol == "scgi":
        block = b"".join(text + b"\0" for text in texts)
        return b"%d:%b,%b" % (len(block), block, body)
    if protocol == "uwsgi":
        block = b"".join(len(text).to_bytes(2, "little") + text for text in texts)
        return b"\0" + len(block).to_bytes(2, "little") + b"\0" + block + body
    block = b"".join(
        size(name) + size(value) + (name + value).encode("latin-1") for name, value in pairs
    )
    bodies = [body[at : at + 32768] for at in range(0, len(body), 32768)]
    return (
        record(1, bytes((0, 1, 0, 0, 0, 0, 0, 0)))
        + (record(4, block) if block else b"")
        + record(4, b"")
        + b"".join(record(5, piece) for piece in [*bodies, b""])
    )


def told(service: Service, protocol: str, pairs: Pairs, body: bytes = b"") -> dict[str, Any]:
    """What the application is told of a request that has these variables."""
    answer = answered(service, protocol, encoded(protocol, pairs, body))
    assert answer.status == 200, service.log
    found: dict[str, Any] = json.loads(answer.body)
    return found


def answered(service: Service, protocol: str, data: bytes) -> Answer:
    with service.connect() as peer:
        peer.sendall(data)
        return PROTOCOLS[protocol].read(peer, Request())


def without(pairs: Pairs, *names: str) -> Pairs:
    return [pair for pair in pairs if pair[0] not in names]


@pytest.mark.parametrize("protocol", ["fastcgi", "uwsgi"])
def test_point_1_content_length_is_empty(service: Service, protocol: str) -> None:
    """nginx, of a request without a body."""
    found = told(service, protocol, [*GET, ("CONTENT_LENGTH", "")])
    assert (found["body"], found.get("CONTENT_LENGTH")) == ("", None)


def test_point_1_content_length_is_minus_one(service: Service) -> None:
    """Caddy over FastCGI, of a chunked body, which goes on as records up to an empty one."""
    found = told(service, "fastcgi", [*GET, ("CONTENT_LENGTH", "-1")], b"a chunked body")
    assert (found["body"], found["CONTENT_LENGTH"]) == ("a chunked body", "14")


def test_point_1_content_length_is_absent(service: Service) -> None:
    """nginx and Apache over FastCGI, of a chunked body."""
    found = told(service, "fastcgi", GET, b"a chunked body")
    assert (found["body"], found["CONTENT_LENGTH"]) == ("a chunked body", "14")
    for protocol in ("scgi", "uwsgi"):
        assert told(service, protocol, GET)["body"] == ""


def test_point_1_content_length_comes_twice(service: Service) -> None:
    """nginx over SCGI with buffering off: 0 first, then what the client said."""
    pairs = [("CONTENT_LENGTH", "0"), ("SCGI", "1"), *GET, ("CONTENT_LENGTH", "4")]
    found = told(service, "scgi", pairs, b"body")
    assert (found["body"], found["CONTENT_LENGTH"]) == ("body", "4")


@pytest.mark.parametrize("protocol", CGI_LIKE)
def test_point_2_https_is_off(service: Service, protocol: str) -> None:
    """Cherokee says so; that it is there at all means nothing."""
    found = told(service, protocol, [*GET, ("HTTPS", "off")])
    assert (found["wsgi.url_scheme"], found.get("HTTPS")) == ("http", None)
    assert told(service, protocol, [*GET, ("HTTPS", "")])["wsgi.url_scheme"] == "http"
    assert told(service, protocol, [*GET, ("HTTPS", "on")])["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize("protocol", CGI_LIKE)
def test_point_3_a_cookie_comes_as_several_variables(service: Service, protocol: str) -> None:
    """nginx 1.22, HAProxy, Cherokee: a field of the client's for each."""
    cookies = [("HTTP_COOKIE", "a=1"), ("HTTP_ACCEPT", "x"), ("HTTP_COOKIE", "b=2; c=3")]
    assert told(service, protocol, GET + cookies)["HTTP_COOKIE"] == "a=1; b=2; c=3"


@pytest.mark.parametrize("protocol", CGI_LIKE)
def test_point_4_script_name_is_absent(service: Service, protocol: str) -> None:
    """HAProxy at the root."""
    found = told(service, protocol, without(GET, "SCRIPT_NAME"))
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/told")


@pytest.mark.parametrize("protocol", CGI_LIKE)
def test_point_4_path_info_is_absent(service: Service, protocol: str) -> None:
    """lighttpd and HAProxy at exactly the prefix: /told is where the site is mounted."""
    pairs = [*without(GET, "SCRIPT_NAME", "PATH_INFO"), ("SCRIPT_NAME", "/told")]
    answer = answered(service, protocol, encoded(protocol, pairs))
    assert (answer.status, answer.body) == (200, b"hello"), "the application's root"
    found = told(service, protocol, [*pairs, ("PATH_INFO", "/told")])
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("/told", "/told")


@pytest.mark.parametrize("protocol", CGI_LIKE)
def test_point_4_script_name_ends_with_a_slash(service: Service, protocol: str) -> None:
    """Apache over uwsgi: SCRIPT_NAME=/app/; and its PATH_INFO may have lost its own."""
    for mount, path in (("/app/", "/told"), ("/app/", "told"), ("/", "/told")):
        pairs = [*without(GET, "SCRIPT_NAME", "PATH_INFO"), ("SCRIPT_NAME", mount)]
        found = told(service, protocol, [*pairs, ("PATH_INFO", path)])
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (mount.rstrip("/"), "/told")


@pytest.mark.parametrize("protocol", CGI_LIKE)
@pytest.mark.parametrize("uri", ["/told/a b/\xc3\xa4?x=%20", "/told/a%20b/%C3%A4?x=%20", "/other"])
def test_point_5_request_uri_says_nothing_about_the_path(
    service: Service, protocol: str, uri: str
) -> None:
    """Cherokee decodes it, the others don't; and the front may have rewritten the path."""
    pairs = [*without(GET, "PATH_INFO"), ("REQUEST_URI", uri), ("PATH_INFO", "/told/a b/\xc3\xa4")]
    found = told(service, protocol, pairs)
    assert (found["PATH_INFO"], found["REQUEST_URI"]) == ("/told/a b/\xc3\xa4", uri)


@pytest.mark.parametrize("protocol", CGI_LIKE)
def test_point_6_what_the_client_says_of_itself_is_not_believed(
    service: Service, protocol: str
) -> None:
    """lighttpd and Cherokee fold X_Forwarded_Proto, and lighttpd X.Forwarded.Proto, into it."""
    claims = [
        ("HTTP_X_FORWARDED_PROTO", "https"),
        ("HTTP_X_FORWARDED_FOR", "127.0.0.1"),
        ("HTTP_X_FORWARDED_HOST", "evil.example"),
        ("HTTP_FORWARDED", "for=127.0.0.1;proto=https"),
        ("HTTP_PROXY", "http://evil.example"),
    ]
    found = told(service, protocol, GET + claims)
    assert (found["wsgi.url_scheme"], found["REMOTE_ADDR"]) == ("http", "203.0.113.9")
    assert not {name for name, _ in claims} & found.keys()
    assert "evil" not in json.dumps(found)


def test_point_7_names_that_fold_into_one_variable_are_dropped(service: Service) -> None:
    """Apache, Caddy, lighttpd and h2o let some of them pass over HTTP."""
    data = (
        b"GET /told HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n"
        b"X_Forwarded_For: 127.0.0.1\r\nX.Forwarded.For: 127.0.0.1\r\nX_Forwarded_Proto: https\r\n"
        b"X-Forwarded-For: 203.0.113.9\r\nX_Real_Name: evil\r\nX.Real.Name: evil\r\n\r\n"
    )
    answer = answered(service, "http", data)
    found = json.loads(answer.body)
    assert (answer.status, found["REMOTE_ADDR"]) == (200, "203.0.113.9")
    assert found["wsgi.url_scheme"] == "http"
    assert "evil" not in answer.body.decode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("path", "status"), [("/told", 413), ("/unread", 200)])
def test_point_8_the_body_is_read_to_its_end_after_an_early_answer(
    service: Service, protocol: str, path: str, status: int
) -> None:
    """A front that sends all of it before it reads must find the answer, and no reset."""
    length = (4 << 20) if status == 413 else (1 << 20)
    with service.connect() as peer:
        peer.sendall(PROTOCOLS[protocol].encode(Request(path, "POST", body=b"x" * length)))
        answer = PROTOCOLS[protocol].read(peer, Request())
    assert (answer.status, answer.whole) == (status, True)


def test_point_9_who_connects_before_the_server_is_there_is_served(tmp_path: Path) -> None:
    """A cold start: the requests of every protocol wait in the backlog, and none is lost."""
    with listener(tmp_path) as listening:
        waiting = []
        for number in range(200):
            protocol = list(PROTOCOLS)[number % len(PROTOCOLS)]
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(60)
            peer.connect(listening.getsockname())
            peer.sendall(PROTOCOLS[protocol].encode(Request(f"/told/{number}")))
            waiting.append((protocol, number, peer))
        with serving(tmp_path, APPLICATION, listeners=[listening], threads=2):
            for protocol, number, peer in waiting:
                with peer:
                    answer = PROTOCOLS[protocol].read(peer, Request())
                    assert json.loads(answer.body)["PATH_INFO"] == f"/told/{number}"


def test_point_9_the_backlog_that_units_ask_for_is_large() -> None:
    """A full one is a 502 at once from nginx and Caddy, a 503 from HAProxy."""
    sockets = [*(CHECKOUT / "units").rglob("*.socket")]
    assert sockets
    for unit in sockets:
        (backlog,) = re.findall(r"(?m)^Backlog=(\d+)$", unit.read_text())
        assert int(backlog) >= 2048, unit


# One answer whatever the protocol; flup's own codecs get the same environ


@pytest.fixture(scope="module", params=[*CGI_LIKE, "flup scgi", "flup fastcgi"])
def cgi(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, str]]:
    """A server and the protocol that it is spoken to in."""
    server, _, protocol = request.param.rpartition(" ")
    directory = tmp_path_factory.mktemp("cgi")
    with serving(directory, APPLICATION, server=server or "native") as started:
        yield started, protocol
        assert "internal error in sdactivate" not in started.log
        assert started.stop() == 0


Cgi = tuple[Service, str]


def test_a_host_that_comes_twice_is_one_or_none(cgi: Cgi) -> None:
    """Cherokee, of an absolute target: the client's Host, and the one that it has gone by."""
    service, protocol = cgi
    for second, status in (("example.org", 200), ("evil.example", 400)):
        pairs = [*GET, ("HTTP_HOST", "example.org"), ("HTTP_ACCEPT", "a"), ("HTTP_HOST", second)]
        answer = answered(service, protocol, encoded(protocol, pairs))
        assert answer.status == status
        if status == 200:
            assert json.loads(answer.body)["HTTP_HOST"] == "example.org"


def test_what_only_the_front_says_counts_as_it_says_it_last(cgi: Cgi) -> None:
    """nginx: `include fastcgi_params` and then a parameter of its own."""
    pairs = [("HTTPS", ""), ("REMOTE_USER", "stock"), *GET, ("HTTPS", "on"), ("REMOTE_USER", "own")]
    found = told(*cgi, pairs)
    assert (found["HTTPS"], found["REMOTE_USER"]) == ("on", "own")


@pytest.mark.parametrize("host", ["a b", "h@evil", "h/p?q", "evil.example, a.test"])
def test_a_host_that_is_none_is_refused(cgi: Cgi, host: str) -> None:
    """RFC 9112, section 3.2."""
    service, protocol = cgi
    data = encoded(protocol, [*GET, ("HTTP_HOST", host)])
    assert answered(service, protocol, data).status == 400


def test_a_method_that_is_not_known_is_501(cgi: Cgi) -> None:
    """RFC 9110, section 9.1, and as over HTTP."""
    service, protocol = cgi
    for method in ("FOO", "get", ""):
        pairs = [*without(GET, "REQUEST_METHOD"), ("REQUEST_METHOD", method)]
        assert answered(service, protocol, encoded(protocol, pairs)).status == 501


def test_a_body_that_the_front_has_decoded_is_not_chunked(cgi: Cgi) -> None:
    """nginx passes the client's field on (RFC 3875, section 4.1.2)."""
    pairs = [*GET, ("CONTENT_LENGTH", "5"), ("HTTP_TRANSFER_ENCODING", "chunked")]
    found = told(*cgi, pairs, b"hello")
    assert (found["body"], found["CONTENT_LENGTH"]) == ("hello", "5")
    assert "HTTP_TRANSFER_ENCODING" not in found


STOCK: Pairs = [("QUERY_STRING", "q=1"), ("REQUEST_METHOD", "GET"), ("CONTENT_LENGTH", "")]


@pytest.mark.parametrize(
    ("sent", "mount", "path"),
    [
        # nginx's stock fastcgi_params, in which SCRIPT_NAME is the whole path
        (
            {
                "SCRIPT_NAME": "/told/a b",
                "REQUEST_URI": "/told/a%20b?q=1",
                "DOCUMENT_URI": "/told/a b",
            },
            "",
            "/told/a b",
        ),
        # its stock scgi_params
        (
            {"REQUEST_URI": "/told//%C3%A4?q=1", "DOCUMENT_URI": "/told/\xc3\xa4"},
            "",
            "/told/\xc3\xa4",
        ),
        # with a mount of one's own
        (
            {
                "SCRIPT_NAME": "/app",
                "REQUEST_URI": "/app/told?q=1",
                "DOCUMENT_URI": "/app/told",
            },
            "/app",
            "/told",
        ),
        ({"REQUEST_URI": "/told/%C3%A4%2Fx?q=/y"}, "", "/told/\xc3\xa4/x"),
        ({"SCRIPT_NAME": "/app", "REQUEST_URI": "/app/told/x?q=1"}, "/app", "/told/x"),
        ({"REQUEST_URI": "http://a.test/told/x?q=1"}, "", "/told/x"),
    ],
)
def test_a_path_that_is_absent_is_not_empty(
    cgi: Cgi, sent: dict[str, str], mount: str, path: str
) -> None:
    found = told(*cgi, [*STOCK, *sent.items()])
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (mount, path)


@pytest.mark.parametrize(
    "sent",
    [
        {"SCRIPT_NAME": "/app", "REQUEST_URI": "/app?q=1"},  # lighttpd, HAProxy: exactly the mount
        {"SCRIPT_NAME": "/app", "REQUEST_URI": "/other"},  # rewritten: nothing is known
        {"SCRIPT_NAME": "/app", "REQUEST_URI": "/told", "PATH_INFO": ""},
    ],
)
def test_at_the_mount_there_is_no_path(cgi: Cgi, sent: dict[str, str]) -> None:
    service, protocol = cgi
    answer = answered(service, protocol, encoded(protocol, [*STOCK, *sent.items()]))
    assert (answer.status, answer.body) == (200, b"hello"), "the application's root"
