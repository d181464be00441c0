"""An application that waits 5 ms, as one does for a database on another machine."""

import asyncio
import time

from bench.apps import Environ, Message, Receive, Send, StartResponse, trivial

SECONDS = 0.005


def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
    time.sleep(SECONDS)
    return trivial.application(environ, start_response)


async def asgi(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await asyncio.sleep(SECONDS)
        await trivial.asgi(scope, receive, send)
