"""An application that answers in each of the ways that a site does, by the path."""

from collections.abc import Iterable, Iterator

from bench.apps import BODY, Environ, StartResponse

LARGE = BODY + b"x" * 40_000
KINDS = ("list", "pieces", "large", "read", "garbage", "written")


def pieces() -> Iterator[bytes]:
    yield BODY
    for _ in range(4):
        yield b"x" * 2_000


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answer /pieces piece by piece, /large with 40 kB, /read when the body has been read."""
    kind = environ["PATH_INFO"].strip("/")
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if kind == "pieces":
        return pieces()
    if kind == "large":
        return [LARGE]
    if kind == "read":
        return [BODY, b"%d" % len(environ["wsgi.input"].read())]
    if kind == "garbage":  # for the collector
        knot = {"environ": environ}
        knot["knot"] = knot
    if kind == "written":
        write(BODY)
        return []
    return [BODY]
