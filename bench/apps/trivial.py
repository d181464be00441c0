"""The least a WSGI application can do: what is left is the server's own cost."""

from bench.apps import BODY, Environ, Message, Receive, Send, StartResponse

HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
ASGI_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS]


def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", HEADERS)
    return [BODY]


async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": ASGI_HEADERS})
        await send({"type": "http.response.body", "body": BODY})
