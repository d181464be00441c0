"""Asking for a page as a front does, at real servers and at those that break the protocol."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.cli import main
from sdactivate.doctor import asking
from sdactivate.doctor.asking import Answer, of_application, of_front, page, redirected, visit
from sdactivate.errors import UsageError
from tests.servers.service import listener, serving

APPLICATION = """
def application(environ, start_response):
    found = {
        "/moved": ("302 Found", "/page"),
        "/elsewhere": ("301 Moved Permanently", "http://other.example.com/"),
        "/loop": ("302 Found", "/loop"),
    }.get(environ["PATH_INFO"], ("200 OK", ""))
    if environ["PATH_INFO"] == "/a b":
        found = "418 Decoded", ""
    if environ["PATH_INFO"] == "/token" and environ.get("HTTP_X_TOKEN") != "abc":
        found = "401 Unauthorized", ""
    if environ["PATH_INFO"] == "/host" and environ["HTTP_HOST"] != "www.example.com:8000":
        found = "421 Misdirected Request", ""
    if environ["PATH_INFO"] == "/query" and environ["QUERY_STRING"] != "a=b&c":
        found = "404 Not Found", ""
    start_response(found[0], [("Location", found[1])] if found[1] else [])
    return [b"x" * 200_000]
"""


@pytest.fixture(params=["http", "scgi", "uwsgi", "fastcgi"])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """The protocol and the path of a socket where our own server answers."""
    (tmp_path / "asked.py").write_text(APPLICATION)
    with serving(tmp_path, "asked:application", protocol=request.param):
        yield request.param, str(tmp_path / "socket")


def test_each_protocol(served: tuple[str, str]) -> None:
    protocol, path = served
    base = "http://www.example.com:8000"
    for url, fields, answer in (
        ("/", (), Answer(200)),
        ("/moved", (), Answer(302, "/page")),
        ("/a%20b?c", (), Answer(418)),
        ("/token", (), Answer(401)),
        ("/token", ("X-Token: abc",), Answer(200)),
        ("/host", (), Answer(200)),
        ("/query?a=b&c", (), Answer(200)),
    ):
        assert of_application(page(base + url, fields), protocol, path, 0) == answer, url
    nobody = of_application(page(base), protocol, path.replace("socket", "none"), 0)
    assert nobody == Answer(0, error="No such file or directory")


@contextmanager
def answers(data: bytes, close: bool = True) -> Iterator[int]:
    """The port of a server that answers each connection with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    peer = server.accept()[0]
                except OSError:
                    return
                peer.recv(65536)
                peer.sendall(data)
                if close:
                    peer.close()
                held.append(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for peer in held:
            peer.close()


@pytest.mark.parametrize("protocol", ["http", "scgi", "uwsgi", "fastcgi"])
@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"\0" * 7, b"\xff" * 9, b"HTTP/1.1 OK\r\n\r\n"])
def test_what_is_no_response(protocol: str, data: bytes) -> None:
    with answers(data) as port:
        found = of_application(page("http://a/"), protocol, "", port)
    assert not found.is_good
    assert found.status or found.error


def test_a_header_that_does_not_end_and_a_server_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.2)
    with answers(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500) as port:
        assert of_front(page(f"http://127.0.0.1:{port}/")).error
    with answers(b"", close=False) as port:
        began = time.monotonic()
        assert of_front(page(f"http://127.0.0.1:{port}/")).error == asking.TIMED_OUT
        assert time.monotonic() < began + 5


@pytest.mark.parametrize("protocol", ["http", "scgi"])
def test_a_server_that_never_ends(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then, so that no single one is late."""
    monkeypatch.setattr(asking, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer = server.accept()[0]
            with peer, suppress(OSError):
                peer.sendall(b"HTTP/1.1 200 OK\r\n")
                for byte in itertools.cycle(b"A: b\r\n"):
                    peer.sendall(bytes([byte]))
                    time.sleep(0.05)

        thread = threading.Thread(target=serve)
        thread.start()
        began = time.monotonic()
        found = of_application(page("http://a/"), protocol, "", server.getsockname()[1])
        assert time.monotonic() < began + 10
        assert found.error == asking.TIMED_OUT or found.status == 200
        thread.join(10)
        assert not thread.is_alive()


def test_redirects_are_followed_on_the_same_host_only(tmp_path: Path) -> None:
    (tmp_path / "asked.py").write_text(APPLICATION)
    sock = listener(tmp_path, "tcp")
    base = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with serving(tmp_path, "asked:application", listeners=[sock], protocol="http"):
        moved = visit(page(f"{base}/moved"))
        assert [(it.target, found.status) for it, found in moved.steps] == [
            ("/moved", 302),
            ("/page", 200),
        ]
        (step,) = visit(page(f"{base}/elsewhere")).steps
        assert str(redirected(*step)) == "http://other.example.com/"
        (loop,) = visit(page(f"{base}/loop")).steps
        assert redirected(*loop) == loop[0]


def test_a_page() -> None:
    found = page("https://www.example.com/a?b=c#d", ["Accept: text/html", "X-Empty:"])
    assert found.url == "https://www.example.com/a?b=c"
    assert str(found) == "https://www.example.com/a?…"
    assert (found.path, found.authority, found.port) == ("/a", "www.example.com", 443)
    assert found.headers == [
        ("Host", "www.example.com"),
        ("Accept", "text/html"),
        ("X-Empty", ""),
        ("Connection", "close"),
    ]
    assert page("http://[::1]:8000").authority == "[::1]:8000"
    assert page("http://ä.example/").host == "xn--4ca.example"
    assert page("http://a/", ["Host: b"]).headers[0] == ("Host", "b")
    assert page("http://a/", ["Connection: Upgrade"]).headers[-1] == ("Connection", "Upgrade")


@pytest.mark.parametrize(
    ("url", "fields", "says"),
    [
        ("www.example.com", (), "is not the address of a page"),
        ("ftp://www.example.com/", (), "is not the address of a page"),
        ("http:///page", (), "is not the address of a page"),
        ("http://a:port/", (), "--url: Port could not be cast"),
        ("http://a/b c", (), "with %"),
        ("http://alice:secret@a/", (), "--url with a login: give it as --header"),
        ("http://bob:s3cret@a/ü", (), "--url with a login"),
        (
            "http://a/",
            ("Authorization Bearer XYZ",),
            "--header 'Authorization' is not a header field",
        ),
        ("http://a/", ("Accept",), "--header 'Accept' is not a header field"),
        ("http://a/", ("A: b\r\nC: d",), "is not a header field"),
        ("http://a/", ("A b: c",), "is not a header field"),
    ],
)
def test_what_is_no_page(url: str, fields: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        page(url, fields)


@pytest.mark.parametrize(
    ("url", "location", "there", "fields"),
    [
        ("http://a/", "/b", "http://a/b", 1),
        ("http://a/", "https://a/b", "https://a/b", 1),
        ("https://a/", "http://a/b", "http://a/b", 0),
        ("http://a/", "http://other/b", "http://other/b", 0),
        ("http://a:8000/", "http://a:9000/", "http://a:9000/", 0),
        ("http://a/", "http://[::1", None, 0),
        ("http://a/", "ftp://a/", None, 0),
    ],
)
def test_where_a_redirect_leads(url: str, location: str, there: str | None, fields: int) -> None:
    """With the header fields of the user, where they were meant for."""
    found = redirected(page(url, ["A: b"]), Answer(302, location))
    assert (found.url if found else None) == there
    assert len(found.fields if found else ()) == fields


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mysite", "--url", "page"], "is not the address of a page"),
        (["mysite", "--url", "http://a/", "--header", "x"], "is not a header field"),
        (["mysite", "--header", "A: b"], "--header needs --url"),
        (["mysite", "shop", "--url", "http://a/"], "give one NAME"),
        (["mysite", "--offline", "--url", "http://a/"], "leave --offline out"),
    ],
)
def test_usage_errors(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert says in capsys.readouterr().err


@given(st.binary(max_size=200))
def test_any_response_of_cgi_is_read(data: bytes) -> None:
    assert isinstance(asking._of_cgi(data), Answer)


@given(st.text(max_size=60), st.integers(300, 310))
def test_any_location_is_followed_or_not(location: str, status: int) -> None:
    here = page("http://www.example.com/a")
    target = redirected(here, Answer(status, location))
    assert target is None or target.scheme in ("http", "https")
