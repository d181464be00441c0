"""The client of tests/machine/test_asgi.py: WebSockets, events and long polls through a front.

    asgi_client.py SHAPE SERVER SPOOFABLE…

Prints, as JSON, an outcome for each check of the shape, as front_client.py does, which lies beside
it. The WebSockets are those of the package websockets: it runs in the site's environment.
"""

import base64
import contextlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect as websocket

from tests.machine.front_client import (
    EVIL,
    MB,
    Unexpected,
    ask,
    connect,
    expect,
    login,
    outcome,
    reach,
    receive,
    request,
    spellings,
)

Fields = Iterable[tuple[str, str]]
Checks = dict[str, Callable[[], None]]

TOLD = {"uvicorn": ("client", "scheme"), "gunicorn": (), "daphne": ("client",), "hypercorn": ()}
"""What a server tells the application of X-Forwarded-For and -Proto; it has the fields as well."""
KEY = base64.b64encode(b"sixteen bytes ok").decode()
HANDSHAKE = (
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
)
MANY = 500


def opened(path: str, fields: Fields = (), tls: bool = False) -> websocket:
    """Return a WebSocket to `path` of the front, to be entered. It sends no pings by itself."""
    host = "s.test" if tls else "a.test"
    context = ssl.create_default_context(cafile="/etc/ssl/front-test.pem") if tls else None
    return websocket(
        f"{'wss' if tls else 'ws'}://{host}{path}",
        sock=reach(443 if tls else 80),
        ssl=context,
        additional_headers=list(fields),
        ping_interval=None,
        open_timeout=30,
        max_size=None,
    )


def closing(path: str) -> tuple[int, str]:
    """Return code and reason with which the server closes a WebSocket."""
    with opened(path) as ws:
        try:
            while True:
                ws.recv(timeout=30)
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")


# --- what both shapes ask ---------------------------------------------------------------------


def echo_check(path: str, **how: Any) -> Callable[[], None]:
    def check() -> None:
        with opened(path, **how) as ws:
            for message in ("text", "ü" * 70, b"\0\xff", "x" * 70_000):
                ws.send(message)
                expect(ws.recv(timeout=30), message)

    return check


def names_check(path: str, server: str, spoofable: list[str], **how: Any) -> Callable[[], None]:
    """Nothing of what only a front may say is the client's, in a WebSocket and in a request."""

    def seen(scope: dict[str, Any]) -> None:
        # A dot in a name keeps it apart from every variable that is read
        passed = {name for name, value in scope["headers"] if EVIL in value and "." not in name}
        expect(sorted(passed), [], "passed")
        fields = dict(scope["headers"])
        tls = bool(how.get("tls"))
        expect(fields["x-forwarded-for"], "127.0.0.1", "x-forwarded-for")
        expect(fields["x-forwarded-proto"], "https" if tls else "http", "x-forwarded-proto")
        if "client" in TOLD[server]:
            expect((scope["client"] or [None])[0], "127.0.0.1", "client")
        if "scheme" in TOLD[server]:
            scheme = "ws" if scope["type"] == "websocket" else "http"
            expect(scope["scheme"], scheme + ("s" if tls else ""), "scheme")

    def check() -> None:
        fields = [(each, EVIL) for name in spoofable for each in sorted(spellings(name))]
        also = list(how.get("fields", ()))
        host, tls = "s.test" if how.get("tls") else "a.test", bool(how.get("tls"))
        for part in (fields[: len(fields) // 2], fields[len(fields) // 2 :]):
            with opened(path, [*part, *also], tls) as ws:
                seen(json.loads(ws.recv(timeout=30)))
            seen(ask(host, path, fields=[*part, *also], tls=tls).json)

    return check


# --- root: ws://a.test/ -----------------------------------------------------------------------


def megabytes() -> None:
    """Both ways, as text and as bytes."""
    with opened("/echo") as ws:
        for message in ("x" * MB, bytes(range(256)) * (MB >> 8)):
            ws.send(message)
            expect(ws.recv(timeout=60) == message, True, "the same")


def pings() -> None:
    with opened("/echo") as ws:
        for _ in range(3):
            expect(ws.ping().wait(30), True, "pong")
        ws.send("still there")
        expect(ws.recv(timeout=30), "still there")


def closed_by_server() -> None:
    expect(closing("/close?code=1000"), (1000, ""))
    expect(closing("/close?code=4321&reason=bye"), (4321, "bye"))


def closed_by_client() -> None:
    with opened("/echo?name=codes") as ws:
        ws.send("x")
        ws.recv(timeout=30)
        ws.close(4007, "enough")
    for _ in range(100):  # the other end of the tunnel hears of it in its own time
        code = ask("a.test", "/closed?name=codes").body.decode()
        if code != "not yet":
            break
        time.sleep(0.1)
    expect(code, "4007")


def refusals() -> None:
    try:
        with opened("/refuse"):
            raise Unexpected("accepted")
    except InvalidStatus as error:
        expect(error.response.status_code, 403)


def only_accepted_is_a_tunnel() -> None:
    """After a handshake that was refused the front reads what comes next, as any request."""
    smuggled = request("a.test", "/environ", "GET", [("X-Forwarded-For", EVIL)], b"", False)
    for path, version in (("/refuse", "13"), ("/environ", "13"), ("/echo", "99")):
        fields = [(n, version if n == "Sec-WebSocket-Version" else v) for n, v in HANDSHAKE]
        method = "POST" if path == "/environ" else "GET"
        first = request("a.test", path, method, fields, b"", False)
        first = first.replace(b"Connection: close", b"Connection: Upgrade")
        with connect() as sock:
            sock.sendall(first)
            answer = receive(sock, method)
            expect(answer.status == 101, False, f"101 for {path}")
            with contextlib.suppress(OSError):
                sock.sendall(smuggled)
                with contextlib.suppress(Unexpected, http.client.HTTPException):
                    expect(EVIL.encode() in receive(sock).body, False, "passed")


def other_upgrades() -> None:
    """By h2c, which hypercorn speaks, a client could send what the front does not see."""
    for tokens in (("h2c",), ("H2C",), ("websocket, h2c",), ("h2c", "websocket"),
                   ("websocket", "h2c"), ("websocket",)):  # fmt: skip
        with connect() as sock:
            conn = H2Connection()
            settings = conn.initiate_upgrade_connection() or b""
            fields = [
                *(("Upgrade", token) for token in tokens),
                ("HTTP2-Settings", settings.decode()),
            ]
            asking = request("a.test", "/environ", "GET", fields, b"", False)
            sock.sendall(
                asking.replace(b"Connection: close", b"Connection: Upgrade, HTTP2-Settings")
            )
            head = b""
            while not head.endswith(b"\r\n\r\n") and (byte := sock.recv(1)):
                head += byte
            if b" 101 " in head.partition(b"\r\n")[0]:
                expect(EVIL in by_h2(sock, conn), False, f"{tokens} passed")


def by_h2(sock: socket.socket, conn: H2Connection) -> str:
    """Send a request over HTTP/2 and return what is answered."""
    said = b""
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test")]
    conn.send_headers(3, [*fields, (":path", "/environ"), ("x-forwarded-for", EVIL)], True)
    sock.sendall(conn.data_to_send())
    while data := sock.recv(65536):
        for event in conn.receive_data(data):
            if isinstance(event, DataReceived) and event.stream_id == 3:
                said += event.data
            if isinstance(event, StreamEnded) and event.stream_id == 3:
                return said.decode()
        sock.sendall(conn.data_to_send())
    return said.decode()


def events() -> None:
    """The second event is sent only after the first has come: no clock decides."""
    with connect() as sock:
        sock.sendall(request("a.test", "/events?name=events", "GET", (), b"", False))
        response = http.client.HTTPResponse(sock)
        response.begin()
        expect(response.getheader("content-type"), "text/event-stream")
        expect(response.readline() + response.readline(), b"data: first\n\n")
        expect(ask("a.test", "/release?name=events").body, b"open")
        expect(response.read(), b"data: second\n\n")


def long_poll() -> None:
    with connect() as sock:
        sock.sendall(request("a.test", "/poll?name=poll", "GET", (), b"", False))
        for _ in range(100):
            if ask("a.test", "/release?name=poll").body == b"open":
                break
            time.sleep(0.05)
        expect(receive(sock).body, b"/* released */")


def own_status() -> None:
    """nginx's generated text has a use for 418, which is its own."""
    answer = ask("a.test", "/status?code=418")
    expect((answer.status, answer.body), (418, b"as asked for"))


def paths() -> None:
    """A WebSocket's path arrives as it was sent, decoded once."""
    for sent, decoded in (("/a%20b", "/a b"), ("/a%252Fb", "/a%2Fb"), ("/a%3Fb", "/a?b")):
        with opened(f"{sent}/environ?c=d") as ws:
            expect(json.loads(ws.recv(timeout=30))["path"], f"{decoded}/environ")


def page(url: str, server_name: str) -> Callable[[], None]:
    """A page in a browser opens a WebSocket, and shows the echo."""

    def check() -> None:
        browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
        if browser is None:
            raise Unexpected("no browser")
        with tempfile.TemporaryDirectory() as profile:
            argv = [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
                *(f"--user-data-dir={profile}", "--ignore-certificate-errors"),
                *(f"--host-resolver-rules=MAP {server_name} 127.0.0.1", url),
            ]
            shown = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=90)
        found = re.search(r'<p id="echo">([^<]*)</p>', shown.stdout)
        expect(found and found[1], "echo: hello from a page, closed with 1000")

    return check


def root(server: str, spoofable: list[str]) -> Checks:
    return {
        "echo": echo_check("/echo"),
        "paths": paths,
        "own 418": own_status,
        "1 MB messages": megabytes,
        "ping": pings,
        "closed by the server": closed_by_server,
        "closed by the client": closed_by_client,
        "refused handshake": refusals,
        "nothing after a refusal": only_accepted_is_a_tunnel,
        "no other Upgrade": other_upgrades,
        "spoofed fields": names_check("/environ", server, spoofable),
        "events": events,
        "long poll": long_poll,
        "page": page("http://a.test/page", "a.test"),
    }


# --- tls: wss://s.test/app with a login -------------------------------------------------------


def tls(server: str, spoofable: list[str]) -> Checks:
    alice = login("alice", "secret")

    def stranger() -> None:
        try:
            with opened("/app/echo", tls=True):
                raise Unexpected("accepted")
        except InvalidStatus as error:
            expect(error.response.status_code, 401)

    def by_http2() -> None:
        """A WebSocket by RFC 8441, whether the front says that it takes one or not."""
        names = sorted({each.lower() for name in spoofable for each in spellings(name)})
        said = [(name, EVIL) for name in names if "." not in name]
        context = ssl.create_default_context(cafile="/etc/ssl/front-test.pem")
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(reach(443), server_hostname="s.test") as sock:
            expect(sock.selected_alpn_protocol(), "h2")
            conn = H2Connection(H2Configuration(validate_outbound_headers=False))
            conn.initiate_connection()
            pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https")]
            pseudo += [(":authority", "s.test"), (":path", "/app/environ")]
            own = [("sec-websocket-version", "13"), (alice[0].lower(), alice[1])]
            conn.send_headers(1, [*pseudo, *own, *said])
            sock.sendall(conn.data_to_send())
            answer, status = b"", ""
            while data := sock.recv(65536):
                events = conn.receive_data(data)
                sock.sendall(conn.data_to_send())
                for event in events:
                    if isinstance(event, ResponseReceived):
                        status = dict(event.headers)[b":status"].decode()
                    answer += event.data if isinstance(event, DataReceived) else b""
                gone = (StreamEnded, StreamReset, ConnectionTerminated)
                if b"scheme" in answer or any(isinstance(event, gone) for event in events):
                    break
        expect(EVIL.encode() in answer, False, f"{status} passed")

    return {
        "TLS: spoofed by HTTP/2": by_http2,
        "TLS: echo": echo_check("/app/echo", fields=[alice], tls=True),
        "TLS: spoofed fields": names_check(
            "/app/environ", server, spoofable, fields=[alice], tls=True
        ),
        "TLS: 401": stranger,
        "TLS: page": page("https://alice:secret@s.test/app/page", "s.test"),
    }


# --- the rest ---------------------------------------------------------------------------------


def many(server: str, _: list[str]) -> Checks:
    def at_once() -> None:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(opened("/echo")) for _ in range(MANY)]
            for number, ws in enumerate(held):
                ws.send(str(number))
            for number, ws in enumerate(held):
                expect(ws.recv(timeout=30), str(number))

    return {f"{MANY} at once": at_once}


def code_of(ws: Any) -> int:
    """Return the code that a WebSocket is closed with; 1006: no Close came (RFC 6455, 7.1.5)."""
    try:
        while True:
            ws.recv(timeout=30)
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd else 1006


def ends(server: str, words: list[str]) -> Checks:
    """What becomes of an open WebSocket when the front's unit reloads, and the site restarts.

    words: the unit, and whether it will close the WebSocket: only then is that waited for.
    """
    unit, closes = words

    def reload() -> None:
        with opened("/echo") as ws:
            subprocess.run(["systemctl", "reload", unit], check=True)
            if closes == "yes":
                expect(code_of(ws) in (1001, 1002, 1006), True)
                raise Unexpected("closed")
            with opened("/echo") as other:
                other.send("x")
                expect(other.recv(timeout=30), "x")
            ws.send("still there")
            expect(ws.recv(timeout=30), "still there")

    def restart() -> None:
        with opened("/echo") as ws:
            ws.send("x")
            ws.recv(timeout=30)
            stopping = subprocess.Popen(["systemctl", "restart", "mysite.service"])
            code = code_of(ws)
            with opened("/echo") as other:  # waits in the socket for the next process
                other.send("x")
                expect(other.recv(timeout=30), "x")
            expect(stopping.wait(90), 0, "systemctl")
            expect(code, 1012)

    return {"front reloaded": reload, "site restarted": restart}


def idle(server: str, seconds: list[str]) -> Checks:
    def silent() -> None:
        with opened("/echo") as ws:
            time.sleep(float(seconds[0]))
            ws.send("still there")
            expect(ws.recv(timeout=30), "still there")

    return {f"silent for {seconds[0]} s": silent}


SHAPES = {"root": root, "tls": tls, "many": many, "ends": ends, "idle": idle}


def tried(check: Callable[[], None]) -> str:
    """Return the outcome of a check, as front_client.py has it."""
    try:
        return outcome(check)
    except WebSocketException as error:
        return repr(error)


if __name__ == "__main__":
    shape, name, *fields = sys.argv[1:]
    checks = SHAPES[shape](name, fields)
    print(json.dumps({key: tried(check) for key, check in checks.items()}))
