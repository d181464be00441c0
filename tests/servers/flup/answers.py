"""What the tests of flup serve: one path for each thing that flup gets wrong."""

import errno
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

Environ = dict[str, Any]
Start = Callable[..., Any]

# What became of the last body that was read
outcome = "nothing was read"


def ready(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"ready"]


def slow(environ: Environ, start: Start) -> Iterable[bytes]:
    print("slowly", file=sys.stderr, flush=True)
    time.sleep(0.3)
    return ready(environ, start)


def read(environ: Environ, start: Start) -> Iterable[bytes]:
    """All of the body, however long it says it is."""
    global outcome
    environ["wsgi.errors"].write("reading\n")
    environ["wsgi.errors"].flush()
    try:
        body = environ["wsgi.input"].read()
    except OSError as error:
        outcome = f"failed: {error}"
        raise
    outcome = f"{type(body).__name__} {len(body)}"
    start("200 OK", [("Content-Type", "text/plain")])
    return [outcome.encode()]


def became(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [outcome.encode()]


def split(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-Name", "value\r\nSet-Cookie: forged=1")])
    return [b"split"]


def unmodified(environ: Environ, start: Start) -> Iterable[bytes]:
    start("304 Not Modified", [("ETag", '"1"')])
    return [b""]


def head(environ: Environ, start: Start) -> Iterable[bytes]:
    """As frameworks answer HEAD: without a body."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [b""]


def pipe(environ: Environ, start: Start) -> Iterable[bytes]:
    """The application's own trouble with a pipe of its own."""
    raise BrokenPipeError(errno.EPIPE, "a pipe of the application's")


def fails(environ: Environ, start: Start) -> Iterable[bytes]:
    raise LookupError("the words to look for")


def cookie(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("HTTP_COOKIE", "").encode()]


def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/").partition("\n")[0]
    answer: Callable[[Environ, Start], Iterable[bytes]] = globals()[name]
    return answer(environ, start_response)


def _echo(environ: Environ, start: Start) -> Iterable[bytes]:
    body = b""
    while piece := environ["wsgi.input"].read(1000):
        body += piece
    environ["wsgi.errors"].write("said\n")
    environ["wsgi.errors"].flush()
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


# wsgiref's own judgement of what the server does
validated = validator(_echo)
