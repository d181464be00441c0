"""The client of tests/machine/test_fronts.py: asks a front, from inside the machine.

    front_client.py SHAPE SPOOFABLE…

Prints, as JSON, an outcome for each check of the shape: "ok", or a few words on what came instead.
The standard library only, on raw sockets: what is sent is the very bytes that are written here.
"""

import base64
import contextlib
import hashlib
import http.client
import importlib
import itertools
import json
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

MB = 1 << 20
PATHS = {
    "%20": "/a%20b",
    "%2F": "/a%2Fb",
    "%C3%BC": "/a%C3%BCb",
    "%0A": "/a%0Ab",
    "//": "/a//b",
}
DECODED = {"%20": "/a b", "%2F": "/a/b", "%C3%BC": "/aüb", "%0A": "/a\nb", "//": "/a//b"}
EVIL = "evil-spoof"
Fields = Iterable[tuple[str, str]]


class Answer(NamedTuple):
    """A response, whole."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; what it was instead, for the message, if it is none."""
        if self.status != 200:
            raise Unexpected(str(self.status))
        return json.loads(self.body)


class Unexpected(Exception):
    """The outcome, where it is not "ok"."""


def reach(port: int, source: str = "") -> socket.socket:
    """Return a connection to a port of the front, which may still be starting.

    source: the address of this end; a path: the front's own unix socket, whatever the port.
    """
    for attempt in itertools.count():
        try:
            if source[:1] != "/":
                return socket.create_connection(("127.0.0.1", port), 30, (source, 0))
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(30)
            sock.connect(source)
            return sock
        except (ConnectionRefusedError, FileNotFoundError):
            if attempt == 100:
                raise
            time.sleep(0.1)
    raise AssertionError


def connect(tls: bool = False, source: str = "") -> socket.socket:
    """Return a connection to the front, with TLS or without. source: as `reach` takes it."""
    sock = reach(443 if tls else 80, source)
    if not tls:
        return sock
    context = ssl.create_default_context(cafile="/etc/ssl/front-test.pem")
    return context.wrap_socket(sock, server_hostname="s.test")


def request(host: str, path: str, method: str, fields: Fields, body: bytes, chunked: bool) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in fields]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        pieces = [body[start : start + 50_000] for start in range(0, len(body), 50_000)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def ask(
    host: str,
    path: str,
    method: str = "GET",
    fields: Fields = (),
    body: bytes = b"",
    chunked: bool = False,
    tls: bool = False,
    source: str = "",
    before: bytes = b"",
) -> Answer:
    """Send a request and return the answer, which may come before the body is sent.

    before: what comes before the request. source: see `reach`.
    """
    data = before + request(host, path, method, fields, body, chunked)
    with connect(tls, source) as sock:
        if len(data) < 65536:
            # All of it fits into the socket's buffer, and two threads can't share a TLS connection
            sock.sendall(data)
            return receive(sock, method)

        def send() -> None:
            with contextlib.suppress(OSError):
                sock.sendall(data)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        answer = receive(sock, method)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sender.join()
        return answer


def receive(sock: socket.socket, method: str = "GET") -> Answer:
    """Read a response to its end."""
    response = http.client.HTTPResponse(sock, method=method)
    try:
        response.begin()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    except http.client.IncompleteRead:
        raise Unexpected("cut short") from None
    except (ConnectionError, http.client.BadStatusLine):
        raise Unexpected("no answer") from None


def expect(found: object, wanted: object, what: str = "") -> None:
    """Raise Unexpected with what was found where it is not what was wanted."""
    if found != wanted:
        raise Unexpected(f"{what + ': ' if what else ''}{found}")


def all_of(found: dict[str, Any], **wanted: Any) -> None:
    """Expect each of these of a dictionary."""
    for name, value in wanted.items():
        expect(found.get(name), value, name)


# --- what every shape asks --------------------------------------------------------------------


def path_check(host: str, mount: str, kind: str) -> Callable[[], None]:
    def check() -> None:
        environ = ask(host, f"{mount}/environ{PATHS[kind]}").json["environ"]
        all_of(environ, SCRIPT_NAME=mount, PATH_INFO=f"/environ{DECODED[kind]}")

    return check


def spellings(name: str) -> set[str]:
    """A field's name as a client may write it: with - _ . and mixtures of them."""
    parts = name.split("-")
    found = {name, *(separator.join(parts) for separator in "_.")}
    if len(parts) > 2:
        for one, other in ("-_", "_-", "-.", "._"):
            found.add(f"{parts[0]}{one}{other.join(parts[1:])}")
    return found


def spoof_check(host: str, mount: str, spoofable: list[str], **how: Any) -> Callable[[], None]:
    also = how.pop("also", ())

    def asked(part: Fields) -> Answer:
        return ask(host, f"{mount}/environ", fields=[*part, *also], **how)

    def verify(answer: Answer) -> None:
        environ = answer.json["environ"]
        # A dot in a variable's name keeps it apart from every variable that is read
        seen = {name for name, value in environ.items() if EVIL in str(value) and "." not in name}
        expect(sorted(seen), [], "passed")
        all_of(environ, REMOTE_ADDR="127.0.0.1", SCRIPT_NAME=mount)

    def check() -> None:
        fields = [(each, EVIL) for name in spoofable for each in sorted(spellings(name))]
        fields += [("Content_Length", "7"), ("Content.Type", EVIL)]
        for part in (fields[: len(fields) // 2], fields[len(fields) // 2 :]):
            answer = asked(part)
            if answer.status != 400:
                verify(answer)
                continue
            # lighttpd 1.4.85 refuses odd spellings of the fields it knows: each by itself
            for name, value in part:
                answer = asked([(name, value)])
                if answer.status != 400 or not set(name) & set("_."):
                    verify(answer)

    return check


def connection_check(host: str, mount: str, user: str = "", **how: Any) -> Callable[[], None]:
    """The front's own fields arrive, though the client has named them in Connection."""
    named = "close, Remote-User, X-Forwarded-For, x-forwarded-proto, X-Script-Name"
    fields = [("Connection", named), *how.pop("also", ())]

    def check() -> None:
        found = ask(host, f"{mount}/environ", fields=fields, **how).json
        all_of(found, secure=bool(how.get("tls")), host=host)
        all_of(found["environ"], REMOTE_ADDR="127.0.0.1", SCRIPT_NAME=mount)
        expect(found["environ"].get("REMOTE_USER", ""), user, "REMOTE_USER")

    return check


# --- root: http://a.test/ ---------------------------------------------------------------------


def root(spoofable: list[str]) -> dict[str, Callable[[], None]]:
    host = "a.test"

    def variables() -> None:
        found = ask(host, "/environ?a=b%20c", fields=[("User-Agent", "test")]).json
        all_of(
            found,
            secure=False,
            host=host,
            uri=f"http://{host}/environ?a=b%20c",
            prefix="/",
            static="/static/guestbook/style.css",
        )
        all_of(
            found["environ"],
            REQUEST_METHOD="GET",
            SCRIPT_NAME="",
            PATH_INFO="/environ",
            SERVER_PROTOCOL="HTTP/1.1",
            SERVER_NAME=host,
            SERVER_PORT="80",
            REMOTE_ADDR="127.0.0.1",
            HTTP_HOST=host,
            HTTP_USER_AGENT="test",
        )
        for name in ("HTTPS", "REMOTE_USER"):
            expect(found["environ"].get(name, ""), "", name)
        for name in ("HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"):
            expect(name in found["environ"], False, name)

    def absolute() -> None:
        # RFC 9112, section 3.2.2: Host is ignored, and the front has gone by the target
        for evil in ("evil.example", "evil.example:81"):
            found = ask(evil, f"http://{host}/environ").json
            all_of(found, host=host, uri=f"http://{host}/environ")
            all_of(found["environ"], HTTP_HOST=host, SERVER_NAME=host, PATH_INFO="/environ")

    def other_scheme() -> None:
        # A front that takes such a target goes by its host, too
        answer = ask("evil.example", f"ftp://{host}/environ")
        if answer.status == 200:
            all_of(answer.json, host=host)

    def query() -> None:
        environ = ask(host, "/environ?a=%2F%20b+c&&d").json["environ"]
        expect(environ["QUERY_STRING"], "a=%2F%20b+c&&d")

    def cookies() -> None:
        crumbs = [("Cookie", "a=1; b=2"), ("Cookie", "c=3")]
        environ = ask(host, "/environ", fields=crumbs).json["environ"]
        expect(environ["HTTP_COOKIE"], "a=1; b=2; c=3")

    def authorization() -> None:
        environ = ask(host, "/environ", fields=[("Authorization", "Token x")]).json["environ"]
        expect(environ.get("HTTP_AUTHORIZATION"), "Token x")
        # Nobody has verified it
        basic = base64.b64encode(b"eve:x").decode()
        environ = ask(host, "/environ", fields=[("Authorization", f"Basic {basic}")]).json[
            "environ"
        ]
        expect(environ.get("REMOTE_USER", ""), "", "REMOTE_USER")

    def upload(size: int, chunked: bool = False) -> Callable[[], None]:
        def check() -> None:
            body = bytes(range(256)) * (size >> 8)
            found = ask(host, "/upload", "POST", body=body, chunked=chunked).json
            all_of(found, size=len(body), sha256=hashlib.sha256(body).hexdigest())

        return check

    def head() -> None:
        answer = ask(host, "/environ", "HEAD")
        expect((answer.status, answer.body), (200, b""))

    def bodiless(code: int) -> Callable[[], None]:
        def check() -> None:
            answer = ask(host, f"/status?code={code}")
            expect((answer.status, answer.body), (code, b""))

        return check

    def large() -> None:
        answer = ask(host, f"/large?bytes={50 * MB}")
        expect((answer.status, len(answer.body)), (200, 50 * MB))
        expect(
            hashlib.sha256(answer.body).digest(),
            hashlib.sha256(b"0123456789abcdef" * 4096 * (50 * MB >> 16)).digest(),
        )

    def slow(path: str, name: str) -> Callable[[], None]:
        def check() -> None:
            # The second line is sent only after the first has reached us: no clock decides.
            with connect() as sock:
                sock.sendall(request(host, f"{path}name={name}", "GET", (), b"", False))
                response = http.client.HTTPResponse(sock)
                response.begin()
                expect(response.readline(), b"first\n")
                opened = ask(host, f"/release?name={name}").status
                if opened != 200 or response.read() != b"second\n":
                    raise Unexpected("held back")  # the view has given up waiting

        return check

    def await_finished(name: str, otherwise: str) -> None:
        for _ in range(20):
            if ask(host, f"/finished?name={name}").json["finished"]:
                return
            time.sleep(0.1)
        raise Unexpected(otherwise)

    def upload_streamed() -> None:
        # More than the server keeps in memory, and less than was announced: the rest never comes.
        fields = [("Content-Length", str(5 * MB))]
        with connect() as sock:
            path = "/through/first?name=first"
            sock.sendall(request(host, path, "POST", fields, b"", False) + b"x" * 2 * MB)
            await_finished("first", "held back")

    def slow_reader() -> None:
        # Nothing of the body is taken: the application has got rid of it all the same.
        with connect() as sock:
            path = f"/large?bytes={8 * MB}&name=taken"
            sock.sendall(request(host, path, "GET", (), b"", False))
            expect(sock.recv(1), b"H")
            await_finished("taken", "not held")

    def header_sent(fields: int, size: int) -> Callable[[], None]:
        def check() -> None:
            answer = ask(host, f"/heads?fields={fields}&bytes={size}")
            expect(answer.status, 200)

        return check

    def header_taken(fields: int, size: int) -> Callable[[], None]:
        def check() -> None:
            sent = [(f"X-Field-{number}", "x" * size) for number in range(fields)]
            found = ask(host, "/heads?fields=0&bytes=0", fields=sent).json["received"]
            expect(found > fields * size, True, "received")

        return check

    def vary() -> None:
        answer = ask(host, "/status?code=200")
        expect("content-length" in answer.fields.get("vary", "").lower(), False, "in Vary")

    def expect_continue() -> None:
        body = b"x" * MB
        fields = [("Expect", "100-continue"), ("Content-Length", str(len(body)))]
        with connect() as sock:
            sock.sendall(request(host, "/upload", "POST", fields, b"", False))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(1) or b"\r\n\r\n"
            if b" 100 " in head.partition(b"\r\n")[0]:
                sock.sendall(body)
                expect(receive(sock, "POST").json["size"], len(body))
            else:
                raise Unexpected(head.partition(b"\r\n")[0].decode())

    def early() -> None:
        answer = ask(host, "/status?code=413", "POST", body=b"x" * 8 * MB)
        expect(answer.status, 413)

    def too_large() -> None:
        # 12 MB, where the front allows 10
        answer = ask(host, "/upload", "POST", body=b"x" * 12 * MB)
        expect(answer.status, 413)

    def too_large_chunked() -> None:
        # The same without a length to go by
        answer = ask(host, "/upload", "POST", body=b"x" * 12 * MB, chunked=True)
        expect(answer.status, 413)

    def static() -> None:
        answer = ask(host, "/static/guestbook/style.css")
        expect(answer.status, 200)
        expect(b"font" in answer.body, True, "body")

    def media() -> None:
        answer = ask(host, "/media/users.txt")
        expect(answer.status, 200)
        expect(answer.body, b"a user's file\n")
        expect(answer.fields.get("x-content-type-options"), "nosniff")

    return {
        "variables": variables,
        **{f"path {kind}": path_check(host, "", kind) for kind in PATHS},
        "spoofed fields": spoof_check(host, "", spoofable),
        "another Host": absolute,
        "another Host, ftp:": other_scheme,
        "query": query,
        "several Cookie fields": cookies,
        "Authorization": authorization,
        "upload 5 MB": upload(5 * MB),
        "upload chunked": upload(4096, chunked=True),
        "upload 5 MB chunked": upload(5 * MB, chunked=True),
        "HEAD": head,
        "204": bodiless(204),
        "304": bodiless(304),
        "answer 50 MB": large,
        "answer streamed": slow("/gate?unbuffered=1&", "field"),
        "answer streamed by --stream": slow("/through/gate?", "option"),
        "upload streamed by --stream": upload_streamed,
        "answer held for a slow client": slow_reader,
        "answer's header 32 KiB": header_sent(8, 4096),
        "answer's field 32 KiB": header_sent(1, 32768),
        "request's header 52 KiB": header_taken(13, 4096),
        "request's field 32 KiB": header_taken(1, 32768),
        "Vary": vary,
        "100-continue": expect_continue,
        "early 413": early,
        "413 by the front": too_large,
        "413 of a chunked body": too_large_chunked,
        "static files": static,
        "media files": media,
    }


# --- mount: http://b.test/app -----------------------------------------------------------------


def mount(spoofable: list[str]) -> dict[str, Callable[[], None]]:
    host = "b.test"

    def variables() -> None:
        found = ask(host, "/app/environ").json
        all_of(
            found,
            uri=f"http://{host}/app/environ",
            prefix="/app/",
            static="/app/static/guestbook/style.css",
        )
        all_of(found["environ"], SCRIPT_NAME="/app", PATH_INFO="/environ")

    def exactly() -> None:
        answer = ask(host, "/app")
        if answer.status == 308:
            expect(answer.fields["location"], f"http://{host}/app/", "Location")
        else:
            # Whatever Django says of it (there is no database here), it is Django who says it
            expect(answer.fields.get("x-frame-options"), "DENY", str(answer.status))

    def beside() -> None:
        expect(b"environ" in ask(host, "/apple/environ").body, False)
        expect(ask(host, "/apple/environ").status in (403, 404, 503), True)

    def php_like() -> None:
        environ = ask(host, "/app/environ/x.php").json["environ"]
        expect(environ["PATH_INFO"], "/environ/x.php")

    def static() -> None:
        expect(ask(host, "/app/static/guestbook/style.css").status, 200)

    def php() -> None:
        fields = [(name, EVIL) for name in spoofable]
        answer = ask(host, "/test.php?q=1", fields=fields)
        expect(answer.status, 200)
        expect(answer.body, b"PHP: q=1 spoofed=0")

    def php_in_media() -> None:
        answer = ask(host, "/app/media/evil.php")
        expect(b"executed" in answer.body and b"echo" not in answer.body, False, "executed")

    return {
        "mounted: variables": variables,
        "mounted: no slash": exactly,
        "mounted: /apple is not /app": beside,
        **{f"mounted: path {kind}": path_check(host, "/app", kind) for kind in PATHS},
        "mounted: spoofed fields": spoof_check(host, "/app", spoofable),
        "mounted: fields named by Connection": connection_check(host, "/app"),
        "mounted: x.php": php_like,
        "mounted: static files": static,
        "PHP beside it": php,
        "PHP in media files": php_in_media,
    }


# --- tls: https://s.test/ with a login --------------------------------------------------------


def login(user: str, password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def tls(spoofable: list[str]) -> dict[str, Callable[[], None]]:
    host = "s.test"
    alice = login("alice", "secret")

    def redirect() -> None:
        answer = ask("www.s.test", "/a%20b?c=d")
        expect(answer.status in (301, 308), True, str(answer.status))
        expect(answer.fields["location"], "https://s.test/a%20b?c=d", "Location")

    def variables() -> None:
        found = ask(host, "/environ", fields=[alice], tls=True).json
        all_of(found, secure=True, host=host, uri=f"https://{host}/environ")
        all_of(found["environ"], REMOTE_ADDR="127.0.0.1", SERVER_PORT="443", HTTPS="on")
        expect(found["environ"]["wsgi.url_scheme"], "https")

    def http2() -> None:
        by_http2 = importlib.import_module("https_client").by_http2  # it lies beside this file
        names = sorted({each.lower() for name in spoofable for each in spellings(name)})
        for part in (names[::2], names[1::2]):
            fields = [("authorization", alice[1]), *((name, EVIL) for name in part)]
            status, body = by_http2(host, "/environ", fields)
            found = Answer(status, {}, body).json
            all_of(found, secure=True, host=host)
            all_of(found["environ"], REMOTE_ADDR="127.0.0.1")
            values = (v for name, v in found["environ"].items() if "." not in name)
            expect(EVIL in map(str, values), False, "passed")

    def balancer() -> None:
        # It connects by HTTPS: only a client that came to it by HTTP is redirected
        fields = [alice, *forwarded(CLIENT, "https")]
        found = ask(host, "/environ", fields=fields, tls=True, source=BALANCER).json
        all_of(found, secure=True, host=host, uri=f"https://{host}/environ")
        all_of(found["environ"], REMOTE_ADDR=CLIENT, SERVER_PORT="443")
        fields = forwarded(CLIENT, "http")
        answer = ask(host, "/a%20b?c=d", fields=fields, tls=True, source=BALANCER)
        expect(answer.status in (301, 308), True, str(answer.status))
        expect(answer.fields["location"], "https://s.test/a%20b?c=d", "Location")

    def refused() -> None:
        expect(ask(host, "/environ", tls=True).status, 401)
        expect(ask(host, "/environ", fields=[login("alice", "x")], tls=True).status, 401)

    def user() -> None:
        fields = [
            alice,
            *((name, EVIL) for name in ("Remote-User", "Remote_User", "X-Remote-User")),
        ]
        environ = ask(host, "/environ", fields=fields, tls=True).json["environ"]
        expect(environ.get("REMOTE_USER"), "alice")

    def password() -> None:
        environ = ask(host, "/environ", fields=[alice], tls=True).json["environ"]
        expect("HTTP_AUTHORIZATION" in environ, False, "passed on")

    return {
        "TLS: redirect": redirect,
        "TLS: variables": variables,
        "TLS: spoofed fields": spoof_check(host, "", spoofable, tls=True, also=[alice]),
        "TLS: fields named by Connection": connection_check(
            host, "", "alice", tls=True, also=[alice]
        ),
        "TLS: spoofed by HTTP/2": http2,
        "TLS: balancer": balancer,
        "login: 401": refused,
        "login: REMOTE_USER": user,
        "login: password kept": password,
    }


# --- a balancer in front of the front: http://c.test/app ---------------------------------------

BALANCER, SECOND, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.1"
FRONT_SOCKET = "/run/mysite-front/http.sock"
CLIENT = "203.0.113.7"


def forwarded(address: str, scheme: str) -> list[tuple[str, str]]:
    """What a balancer says of its client."""
    return [("X-Forwarded-For", address), ("X-Forwarded-Proto", scheme)]


def of_client(found: dict[str, Any], address: str, scheme: str, host: str) -> None:
    """Expect the application to have been told this of the client."""
    all_of(found, secure=scheme == "https", host=host, uri=f"{scheme}://{host}/app/environ")
    all_of(found["environ"], REMOTE_ADDR=address, SCRIPT_NAME="/app")
    expect(found["environ"]["wsgi.url_scheme"], scheme)


def behind(_: list[str]) -> dict[str, Callable[[], None]]:
    host = "c.test"

    def told(source: str, fields: Fields, address: str, scheme: str) -> Callable[[], None]:
        def check() -> None:
            found = ask(host, "/app/environ", fields=fields, source=source).json
            of_client(found, address, scheme, host)

        return check

    def port() -> None:
        for scheme, number in {"https": "443", "http": "80"}.items():
            fields = forwarded(CLIENT, scheme)
            environ = ask(host, "/app/environ", fields=fields, source=BALANCER).json["environ"]
            expect(environ["SERVER_PORT"], number, scheme)

    def other_fields() -> None:
        # They are not named by --trust-headers, and a balancer may pass a client's on
        fields = [
            *forwarded(CLIENT, "https"),
            ("X-Forwarded-Host", "evil.test"),
            ("X-Forwarded-Port", "81"),
            ("Forwarded", "for=6.6.6.6;host=evil.test;proto=http"),
            ("X-Real-IP", "6.6.6.6"),
            ("X-Script-Name", "/evil"),
        ]
        found = ask(host, "/app/environ", fields=fields, source=BALANCER).json
        of_client(found, CLIENT, "https", host)
        expect(found["environ"]["SERVER_PORT"] == "81", False, "port believed")

    def redirect() -> None:
        answer = ask(host, "/app", fields=forwarded(CLIENT, "https"), source=BALANCER)
        location = answer.fields.get("location", "")
        expect(location.startswith("http://"), False, location)

    def origin() -> None:
        fields = forwarded(CLIENT, "https")
        form = ask(host, "/app/form", fields=fields, source=BALANCER)
        cookie = form.fields["set-cookie"].partition(";")[0]
        fields += [("Cookie", cookie), ("X-CSRFToken", form.json["token"])]
        for source, scheme, status in (
            (BALANCER, "https", 200),
            (BALANCER, "http", 403),
            (STRANGER, "https", 403),
            (STRANGER, "http", 200),
        ):
            asked = [*fields, ("Origin", f"{scheme}://{host}")]
            answer = ask(host, "/app/form", "POST", asked, b"x", source=source)
            expect(answer.status, status, f"{source} {scheme}")

    claimed = "6.6.6.6, unknown"
    two_lines = [("X-Forwarded-For", "6.6.6.6"), *forwarded(CLIENT, "https")]
    two_schemes = [
        ("X-Forwarded-For", CLIENT),
        *(("X-Forwarded-Proto", s) for s in ("https", "http")),
    ]
    return {
        "balancer: HTTPS": told(BALANCER, forwarded(CLIENT, "https"), CLIENT, "https"),
        "balancer: HTTP": told(BALANCER, forwarded(CLIENT, "http"), CLIENT, "http"),
        "balancer: HTTPS in capitals": told(BALANCER, forwarded(CLIENT, "HTTPS"), CLIENT, "https"),
        "balancer: no address": told(BALANCER, forwarded(claimed, "https"), BALANCER, "https"),
        "balancer: IPv6": told(BALANCER, forwarded("2001:db8::7", "https"), "2001:db8::7", "https"),
        "balancer: port": port,
        "balancer: fields not named": other_fields,
        "balancer: no slash": redirect,
        "balancer: Origin of a POST": origin,
        "balancer: says nothing": told(BALANCER, (), BALANCER, "http"),
        "balancer: appended address": told(
            BALANCER, forwarded(f"6.6.6.6, {CLIENT}", "https"), CLIENT, "https"
        ),
        "balancer: address in a second line": told(BALANCER, two_lines, CLIENT, "https"),
        "balancer: appended scheme": told(
            BALANCER, forwarded(CLIENT, "https, http"), CLIENT, "http"
        ),
        "balancer: appended scheme, HTTPS": told(
            BALANCER, forwarded(CLIENT, "http, https"), CLIENT, "https"
        ),
        "balancer: scheme in a second line": told(BALANCER, two_schemes, CLIENT, "http"),
        "two balancers": told(
            BALANCER, forwarded(f"6.6.6.6, {CLIENT}, {SECOND}", "https"), CLIENT, "https"
        ),
        "no balancer: fields ignored": told(STRANGER, forwarded(CLIENT, "https"), STRANGER, "http"),
    }


def behind_named(_: list[str]) -> dict[str, Callable[[], None]]:
    """With --trust-headers X-Forwarded-Host,X-Forwarded-Port."""
    host = "c.test"
    said = [("X-Forwarded-Host", "evil.test, d.test:8443"), ("X-Forwarded-Port", "8443")]

    def believed() -> None:
        fields = [*forwarded(CLIENT, "https"), *said]
        found = ask(host, "/app/environ", fields=fields, source=BALANCER).json
        of_client(found, CLIENT, "https", "d.test:8443")
        all_of(found["environ"], SERVER_PORT="8443", SERVER_NAME="d.test")

    def ignored() -> None:
        fields = [*forwarded(CLIENT, "https"), *said]
        found = ask(host, "/app/environ", fields=fields, source=STRANGER).json
        of_client(found, STRANGER, "http", host)
        all_of(found["environ"], SERVER_PORT="80", SERVER_NAME=host)

    def silent() -> None:
        found = ask(host, "/app/environ", fields=forwarded(CLIENT, "https"), source=BALANCER).json
        of_client(found, CLIENT, "https", host)
        all_of(found["environ"], SERVER_PORT="443", SERVER_NAME=host)

    def odd() -> None:
        # Nothing is said by these: Host is what was sent, the port is the scheme's
        for value in ("", "evil,", "evil.test, "):
            fields = [*forwarded(CLIENT, "https"), ("X-Forwarded-Host", value)]
            fields += [("X-Forwarded-Port", "80abc")]
            found = ask(host, "/app/environ", fields=fields, source=BALANCER).json
            of_client(found, CLIENT, "https", host)
            all_of(found["environ"], SERVER_PORT="443", SERVER_NAME=host)

    return {
        "balancer: named fields": believed,
        "balancer: named fields, odd": odd,
        "balancer: named fields, not sent": silent,
        "no balancer: named fields ignored": ignored,
    }


def behind_unix(_: list[str]) -> dict[str, Callable[[], None]]:
    host = "c.test"

    def check() -> None:
        for scheme in ("https", "http"):
            fields = forwarded(f"6.6.6.6, {CLIENT}", scheme)
            found = ask(host, "/app/environ", fields=fields, source=FRONT_SOCKET).json
            of_client(found, CLIENT, scheme, host)
        found = ask(host, "/app/environ", fields=forwarded(CLIENT, "https"), source=STRANGER).json
        of_client(found, STRANGER, "http", host)

    return {"balancer on a unix socket": check}


def tls_unix(_: list[str]) -> dict[str, Callable[[], None]]:
    """With --tls and --behind unix: HTTPS ends at the balancer or here, the socket has none."""
    host = "s.test"
    alice = login("alice", "secret")

    def check() -> None:
        fields = [alice, *forwarded(CLIENT, "https")]
        found = ask(host, "/environ", fields=fields, source=FRONT_SOCKET).json
        all_of(found, secure=True, host=host, uri=f"https://{host}/environ")
        fields = [alice, *forwarded(CLIENT, "http")]
        answer = ask(host, "/a?b=c", fields=fields, source=FRONT_SOCKET)
        expect(answer.status in (301, 308), True, str(answer.status))
        expect(answer.fields["location"], "https://s.test/a?b=c", "Location")

    return {"TLS: balancer on a unix socket": check}


def proxy_header(version: int, source: str, port: int = 4711) -> bytes:
    """Return a PROXY header: https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt"""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    to = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    if version == 1:
        name = "TCP6" if family == socket.AF_INET6 else "TCP4"
        return f"PROXY {name} {source} {to} {port} 80\r\n".encode()
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, to)
    addresses += struct.pack("!HH", port, 80)
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    lead = b"\r\n\r\n\0\r\nQUIT\n" + bytes((0x21, kind))
    return lead + struct.pack("!H", len(addresses)) + addresses


def behind_proxy(_: list[str]) -> dict[str, Callable[[], None]]:
    host = "c.test"

    def believed(version: int) -> Callable[[], None]:
        def check() -> None:
            # The fields are its client's: a TCP proxy does not look into HTTP
            fields = forwarded("6.6.6.6", "https")
            for address in (CLIENT, "2001:db8::7"):
                before = proxy_header(version, address)
                found = ask(
                    host, "/app/environ", fields=fields, source=BALANCER, before=before
                ).json
                of_client(found, address, "http", host)

        return check

    def refused() -> None:
        try:
            before = proxy_header(1, CLIENT)
            found = ask(host, "/app/environ", source=STRANGER, before=before).json
        except (Unexpected, OSError):
            return
        expect(found["environ"]["REMOTE_ADDR"], STRANGER)

    return {
        "PROXY header": believed(1),
        "PROXY header, version 2": believed(2),
        "PROXY header of a stranger": refused,
    }


# --- the rest ---------------------------------------------------------------------------------


def cold(_: list[str]) -> dict[str, Callable[[], None]]:
    """The first request, to an application that is not running."""
    return {"cold start 5 s": lambda: expect(ask("a.test", "/status?code=200").status, 200)}


def status(_: list[str]) -> dict[str, Callable[[], None]]:
    """What status the front answers with."""
    return {"status": lambda: expect(ask("a.test", "/status?code=200").status, 200)}


SHAPES = {
    "root": root,
    "mount": mount,
    "tls": tls,
    "behind": behind,
    "behind-named": behind_named,
    "behind-unix": behind_unix,
    "behind-proxy": behind_proxy,
    "tls-unix": tls_unix,
    "cold": cold,
    "status": status,
}


def outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except Unexpected as error:
        return str(error)
    except TimeoutError:
        return "timeout"
    return "ok"


if __name__ == "__main__":
    checks = SHAPES[sys.argv[1]](sys.argv[2:])
    # Some wait for what does not come: meanwhile others have their turn.
    with ThreadPoolExecutor(4) as pool:
        print(json.dumps(dict(zip(checks, pool.map(outcome, checks.values()), strict=True))))
