"""What is believed of a request, from whom, over what: every row of the table, on real sockets."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sdactivate import trust
from sdactivate.errors import UsageError
from sdactivate.servers.native.cgi_environ import is_mount
from sdactivate.servers.native.forwarded import Trust
from sdactivate.settings import BY_NAME, resolve
from tests.servers.native.test_front_variables import encoded
from tests.servers.peers import PROTOCOLS, Answer, Request, until_end
from tests.servers.service import Service, listener, serving

APPLICATION = "tests.servers.native.applications:application"
CGI_LIKE = ("scgi", "fastcgi", "uwsgi")

# A family and the setting `trust`, for each kind of peer (vsock has no address to be named)
SERVED = {"unix": ("unix", ""), "trusted": ("tcp", "127.0.0.0/8"), "other": ("tcp", "192.0.2.1")}

# What each claim says, over HTTP, and what of an environ shows that it is believed
SAID: Mapping[str, tuple[str, dict[str, str]]] = {
    "X-Forwarded-For": ("203.0.113.7", {"REMOTE_ADDR": "203.0.113.7"}),
    "X-Forwarded-Proto": ("https", {"wsgi.url_scheme": "https", "HTTPS": "on"}),
    "X-Forwarded-Host": ("b.test", {"HTTP_HOST": "b.test", "SERVER_NAME": "b.test"}),
    "X-Forwarded-Port": ("8443", {"SERVER_PORT": "8443"}),
    "Forwarded": ("for=203.0.113.7;host=b.test", {"REMOTE_ADDR": "203.0.113.7"}),
    "X-Script-Name": ("/told", {"SCRIPT_NAME": "/told", "PATH_INFO": "/told"}),
    "Remote-User": ("alice", {"REMOTE_USER": "alice"}),
}


def test_the_table_is_complete() -> None:
    assert {claim.field for claim in trust.CLAIMS} == SAID.keys()
    assert {peer.name for peer in trust.PEERS} == SERVED.keys()
    assert {claim.setting for claim in trust.CLAIMS} == {"", "trust_headers", "remote_user"}
    assert set(SAID) < set(trust.FORGEABLE)
    for field in trust.SELECTABLE:
        assert field in BY_NAME["trust_headers"].help


@pytest.fixture(scope="module", params=SERVED)
def peer(request: pytest.FixtureRequest) -> trust.Peer:
    """A kind of peer."""
    return next(each for each in trust.PEERS if each.name == request.param)


@pytest.fixture(scope="module", params=[False, True], ids=["by default", "told to"])
def told_to(request: pytest.FixtureRequest) -> bool:
    """Whether the settings say that every field is to be believed."""
    return bool(request.param)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, peer: trust.Peer, told_to: bool
) -> Iterator[Service]:
    """A server with a socket for each protocol, and one that is pinned to none, the last."""
    directory = tmp_path_factory.mktemp("trust")
    family, trusted = SERVED[peer.name]
    names = [*PROTOCOLS, "any"]
    settings: dict[str, object] = {"trust": trusted} if trusted else {}
    if told_to:
        settings |= {"trust_headers": " ".join(trust.SELECTABLE), "remote_user": "yes"}
    sockets = [listener(directory, family, name) for name in names]
    with serving(directory, APPLICATION, listeners=sockets, names=names, **settings) as started:
        yield started
        assert "internal error in sdactivate" not in started.log
        assert started.stop() == 0


def answered(service: Service, protocol: str, data: bytes, which: int | None = None) -> Answer:
    with service.connect(list(PROTOCOLS).index(protocol) if which is None else which) as peer:
        peer.sendall(data)
        return PROTOCOLS[protocol].read(peer, Request())


def environ(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.body)
    return found


@pytest.mark.parametrize("claim", trust.CLAIMS, ids=lambda claim: claim.field)
def test_over_http(service: Service, peer: trust.Peer, told_to: bool, claim: trust.Claim) -> None:
    value, shown = SAID[claim.field]
    data = (
        "GET /told/told HTTP/1.1\r\nHost: a.test\r\n"
        f"{claim.field}: {value}\r\nConnection: close\r\n\r\n"
    ).encode()
    answer = answered(service, "http", data)
    believed = peer.believed and (told_to or not claim.setting)
    found = environ(answer)
    assert {name: found.get(name) == text for name, text in shown.items()} == dict.fromkeys(
        shown, believed
    )
    assert trust.variable(claim.field) not in found
    if not peer.believed:
        assert found["REMOTE_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize("protocol", CGI_LIKE)
def test_over_a_cgi_like_protocol(service: Service, peer: trust.Peer, protocol: str) -> None:
    """A peer that is not believed is its own client: its address is that of its connection."""
    claims = {name: "1" for claim in trust.CLAIMS for name in claim.variables}
    claims |= {"REMOTE_USER": "admin", "REMOTE_ADDR": "203.0.113.7", "HTTPS": "on"}
    claims |= {"SCRIPT_NAME": "/mount", "SSL_CLIENT_S_DN": "CN=admin", "DOCUMENT_ROOT": "/1"}
    own = {"REQUEST_METHOD": "GET", "PATH_INFO": "/told", "QUERY_STRING": "a", "HTTP_X_OWN": "b"}
    pairs = list({**own, **claims}.items())
    for _ in range(2):
        found = environ(answered(service, protocol, encoded(protocol, pairs)))
        assert own.items() <= found.items()
        if peer.believed:
            assert claims.items() <= found.items()
            assert found["wsgi.url_scheme"] == "https"
        else:
            assert not {"REMOTE_USER", "AUTH_TYPE", "HTTPS", "SSL_CLIENT_S_DN"} & found.keys()
            assert (found["REMOTE_ADDR"], found["SCRIPT_NAME"]) == ("127.0.0.1", "")
            assert found["wsgi.url_scheme"] == "http"
            service.logged(r"127\.0\.0\.1: it sends AUTH_TYPE, .*REMOTE_USER.*--trust 127\.0\.0\.1")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_socket_speaks_that_is_not_pinned(
    service: Service, peer: trust.Peer, protocol: str
) -> None:
    """On TCP it is HTTP alone: to the others, a digit, 0 and 1, an HTTP answer is due."""
    with service.connect(len(PROTOCOLS)) as connected:
        connected.sendall(PROTOCOLS[protocol].encode(Request()))
        if peer.protocol == "auto" or protocol == "http":
            assert PROTOCOLS[protocol].read(connected, Request()).status == 200
        else:
            assert re.match(rb"HTTP/1\.1 (400|501) ", until_end(connected))


def test_what_the_socket_is_called_over_http(service: Service, peer: trust.Peer) -> None:
    """RFC 3875, sections 4.1.14 and 4.1.15."""
    found = environ(answered(service, "http", b"GET /told HTTP/1.0\r\n\r\n"))
    if peer.name == "unix":
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("localhost", "80")
    else:
        address = service.listeners[list(PROTOCOLS).index("http")].getsockname()
        assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (address[0], str(address[1]))


def test_what_the_socket_is_called_over_http_and_ipv6(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, listeners=[listener(tmp_path, "tcp6")]) as service:
        found = environ(answered(service, "http", b"GET /told HTTP/1.0\r\n\r\n", 0))
        assert found["SERVER_NAME"] == "[::1]"
        assert found["SERVER_PORT"] == str(service.listeners[0].getsockname()[1])


def test_a_front_that_is_not_believed_in_something_is_named_once(tmp_path: Path) -> None:
    data = b"GET / HTTP/1.0\r\nX-Script-Name: /app\r\nX-Forwarded-Host: b.test\r\n\r\n"
    with serving(tmp_path, APPLICATION) as service:
        for _ in range(3):
            assert answered(service, "http", data, 0).status == 200
        assert service.log.count("--trust-headers X-Script-Name") == 1
        assert service.log.count("--trust-headers X-Forwarded-Host") == 1


MOUNTS = {"/app": True, "/a/b.c": True, "/\xc3\xa4": True, "/a,b c": True}
MOUNTS |= dict.fromkeys(("//evil.example", "/a?b", "/a#b", "/a/../b", "/a/./b", "/..", "/."), False)
MOUNTS |= dict.fromkeys(("app", "http://evil.example", "/\\evil.example", "\\\\evil"), False)
MOUNTS |= dict.fromkeys(("/a\tb", "/a\x7f", "/a\x01", "/a//b"), False)


@pytest.mark.parametrize(("mount", "right"), MOUNTS.items())
def test_a_mount_is_one_absolute_path(
    service: Service, peer: trust.Peer, told_to: bool, mount: str, right: bool
) -> None:
    """Applications put it in front of their links (RFC 3986, section 4.2: "//" is a host)."""
    assert is_mount(mount) == right
    if not peer.believed:
        return
    pairs = [("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", mount), ("PATH_INFO", "/told")]
    for protocol in CGI_LIKE:
        answer = answered(service, protocol, encoded(protocol, pairs))
        assert answer.status == (200 if right else 400)
        assert not right or environ(answer)["SCRIPT_NAME"] == mount
    if not told_to or "\x7f" in mount or "\x01" in mount:  # llhttp refuses these itself
        return
    right = right and "," not in mount  # two fields of the name are joined by one
    data = f"GET /told HTTP/1.0\r\nX-Script-Name: {mount}\r\n\r\n".encode("latin-1")
    answer = answered(service, "http", data)
    assert answer.status == (200 if right else 400)
    assert not right or environ(answer)["SCRIPT_NAME"] == mount


def test_a_mount_that_is_the_root_is_none(tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, trust_headers="X-Script-Name") as service:
        data = b"GET /told HTTP/1.0\r\nX-Script-Name: /\r\n\r\n"
        assert environ(answered(service, "http", data, 0))["SCRIPT_NAME"] == ""


@pytest.mark.parametrize("host", ["a b", "h@evil", "x/y", "a.test, b.test ,"])
def test_a_host_that_the_front_says_is_held_to_the_same_grammar(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, APPLICATION, trust_headers="X-Forwarded-Host,Forwarded") as service:
        for field in (f"X-Forwarded-Host: {host}", f'Forwarded: host="{host}"'):
            data = f"GET /told HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{field}\r\n\r\n".encode()
            answer = answered(service, "http", data, 0)
            if host.endswith(","):  # the last value says nothing
                assert environ(answer)["HTTP_HOST"] == "a"
            else:
                assert answer.status == 400


def test_the_setting_names_fields_of_the_table() -> None:
    read = BY_NAME["trust_headers"].parse
    assert read("x-script-name, Forwarded", "") == ("X-Script-Name", "Forwarded")
    assert read("X-Forwarded-For", "") == ("X-Forwarded-For",)
    with pytest.raises(UsageError, match="'X-Real-IP' can't be trusted, only X-Forwarded-Host"):
        read("X-Real-IP", "--trust-headers")
    with pytest.raises(UsageError, match="--remote-user yes"):
        read("Remote-User", "--trust-headers")


@pytest.mark.parametrize(
    ("address", "believed"),
    [
        ("", True),
        (b"\0abstract", True),
        (("10.1.2.3", 4), True),
        (("::ffff:10.1.2.3", 4, 0, 0), True),
        (("192.0.2.1", 4), False),
        (("fe80::1%eth0", 4, 0, 2), True),
        ((3, 4), False),
    ],
)
def test_who_is_believed(address: Any, believed: bool) -> None:
    settings = resolve({"trust": "10.0.0.0/8 fe80::/10"}, {}, {})
    assert Trust(settings).believes(address) == believed
    with pytest.raises(UsageError, match=r"--trust: .*such as 10\.0\.0\.0/8"):
        Trust(resolve({"trust": "front.example"}, {}, {}))
