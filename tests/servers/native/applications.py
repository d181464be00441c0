"""What the tests of the native server let it serve; the path says what is wanted."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

Environ = dict[str, Any]
PLAIN = [("Content-Type", "text/plain")]
_met = threading.Condition()
_waiting = 0


def meet(count: int) -> bytes:
    """Return when `count` requests are here at the same time."""
    global _waiting
    with _met:
        _waiting += 1
        if _waiting % count == 0:
            _met.notify_all()
            return b"met"
        return b"met" if _met.wait(20) else b"alone"


def told(environ: Environ) -> bytes:
    """All that is known of the request, its body under "body", as JSON."""
    try:
        body = environ["wsgi.input"].read().decode("latin-1")
    except OSError as error:
        body = f"error: {error}"
    found = {name: value for name, value in environ.items() if isinstance(value, str)}
    return json.dumps({**found, "body": body}).encode()


@cache
def blob(size: int) -> bytes:
    """One object, whoever asks for it."""
    return b"x" * size


def hold(until: str) -> None:
    """Take all descriptors there are, until there is a file of that name."""
    taken = []
    while not os.path.exists(until):
        try:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            time.sleep(0.01)
    for fd in taken:
        os.close(fd)


def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application."""
    name, *words = environ["PATH_INFO"].strip("/").split("/")
    start_response("200 OK", PLAIN)
    if name == "meet":
        return [meet(int(words[0]))]
    if name == "sleep":
        time.sleep(float(words[0]))
    if name == "read":
        size = 0
        while piece := environ["wsgi.input"].read(65536):
            size += len(piece)
        return [f"{size} {environ.get('CONTENT_LENGTH')}".encode()]
    if name == "file":
        file = tempfile.TemporaryFile()  # noqa: SIM115
        file.truncate(int(words[0]))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 65536)
        return wrapped
    if name == "hold":
        hold("/" + "/".join(words))
    if name == "blob":
        return [blob(int(words[0]))]
    if name == "fresh":
        return [b"x" * int(words[0])]
    if name == "big":
        return (b"x" * 65536 for _ in range(int(words[0])))
    if name == "told":
        return [told(environ)]
    return [b"hello"]
