"""What tests ask of an ASGI server: WebSockets, events and long polls, without a framework.

Below whatever mount: the last part of the path is the name of the page. See
https://asgi.readthedocs.io/en/latest/specs/www.html for the messages.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_gates: dict[str, asyncio.Event] = {}
_closed: dict[str, int] = {}

# The browser shows what it has when all is loaded: not before the gate is open
PAGE = """<!DOCTYPE html>
<title>echo</title>
<p id="echo">nothing came</p>
<script>
  const echo = document.getElementById("echo");
  const url = location.href.replace(/^http/, "ws").replace("/page", "/echo");
  const socket = new WebSocket(url);
  socket.onopen = () => socket.send("hello from a page");
  socket.onmessage = event => { echo.textContent = "echo: " + event.data; socket.close(1000); };
  socket.onclose = event => {
    echo.textContent += ", closed with " + event.code;
    fetch(location.origin + location.pathname.replace("page", "release?name=page"));
  };
</script>
<script src="poll?name=page" async></script>
"""


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one connection, or the server's start and stop."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    pages = WEBSOCKETS if scope["type"] == "websocket" else PAGES
    name = scope["path"].rpartition("/")[2]
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    await pages.get(name, environ)(scope, receive, send, query)


async def lifespan(receive: Receive, send: Send) -> None:
    """Agree to the server's start and stop."""
    while True:
        what = (await receive())["type"]
        await send({"type": f"{what}.complete"})
        if what == "lifespan.shutdown":
            return


def shown(scope: Scope) -> str:
    """Return the request as the application gets it."""
    kept = ("type", "http_version", "scheme", "path", "root_path", "client", "server")
    return json.dumps(
        {
            **{name: scope.get(name) for name in kept},
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        }
    )


# --- WebSockets -------------------------------------------------------------------------------


async def echo(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Send back what comes; keep the code that the client closes with for /closed?name=."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kept = {key: message[key] for key in ("text", "bytes") if message.get(key) is not None}
        await send({"type": "websocket.send", **kept})
    if "name" in query:
        _closed[query["name"]] = message["code"]


async def scope_of(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Say what the server knows of the handshake, and close."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": shown(scope)})
    await send({"type": "websocket.close", "code": 1000})


async def close(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Close with ?code= and ?reason=."""
    await receive()
    await send({"type": "websocket.accept"})
    reason = query.get("reason", "")
    await send({"type": "websocket.close", "code": int(query["code"]), "reason": reason})


async def refuse(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Refuse the handshake: 403."""
    await receive()
    await send({"type": "websocket.close"})


WEBSOCKETS = {"echo": echo, "environ": scope_of, "close": close, "refuse": refuse}


# --- HTTP -------------------------------------------------------------------------------------


async def respond(send: Send, body: str, kind: str = "text/plain", status: int = 200) -> None:
    """Send a whole response."""
    data = body.encode()
    fields = [(b"content-type", kind.encode()), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data})


async def environ(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Say what the server knows of the request."""
    await respond(send, shown(scope), "application/json")


@contextmanager
def gate(name: str) -> Iterator[asyncio.Event]:
    """Have a gate that `release` opens."""
    _gates[name] = asyncio.Event()
    try:
        yield _gates[name]
    finally:
        del _gates[name]


async def events(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Send an event, wait until /release?name= is asked for, send another."""
    fields = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
    with gate(query["name"]) as opened:
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        await asyncio.wait_for(opened.wait(), 20)
        await send({"type": "http.response.body", "body": b"data: second\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def poll(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Answer when /release?name= is asked for."""
    with gate(query["name"]) as opened:
        await asyncio.wait_for(opened.wait(), 20)
    await respond(send, "/* released */", "text/javascript")


async def release(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Open the gate of ?name=; say whether there was one."""
    opened = _gates.get(query["name"])
    if opened:
        opened.set()
    await respond(send, "open" if opened else "no such gate")


async def closed(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Say with which code the client of /echo?name= has closed, or that it has not."""
    await respond(send, str(_closed.get(query["name"], "not yet")))


async def page(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """A page that opens a WebSocket to /echo beside it, and shows what comes back."""
    await respond(send, PAGE, "text/html")


async def status(scope: Scope, receive: Receive, send: Send, query: dict[str, str]) -> None:
    """Answer with the status ?code=."""
    await respond(send, "as asked for", status=int(query["code"]))


PAGES = {
    "events": events,
    "poll": poll,
    "release": release,
    "closed": closed,
    "page": page,
    "status": status,
}
