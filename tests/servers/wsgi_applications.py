"""The applications of test_wsgi.py: one path, one way of using WSGI, right or wrong."""

import io
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.validate import validator

PLAIN = [("Content-Type", "text/plain")]
closed: list[str] = []


class Closing:
    """An iterable that notes that it was closed."""

    def __init__(self, name: str, pieces: Iterable[bytes], fail: bool = False) -> None:
        self.name, self.pieces, self.fail = name, pieces, fail

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def close(self) -> None:
        closed.append(self.name)
        if self.fail:
            raise RuntimeError("close() fails")


def echo(environ: Any, start: Any) -> Iterable[bytes]:
    """The body, read in the way that the query names."""
    body = environ["wsgi.input"]
    read = {
        "read": body.read,
        "sized": lambda: b"".join(iter(lambda: body.read(1000), b"")),
        "readline": lambda: b"".join(iter(body.readline, b"")),
        "short-lines": lambda: b"".join(iter(lambda: body.readline(7), b"")),
        "readlines": lambda: b"".join(body.readlines()),
        "iteration": lambda: b"".join(body),
        "past": lambda: body.read() + body.read() + body.read(5) + body.readline(),
    }[environ["QUERY_STRING"]]
    start("200 OK", list(PLAIN))
    return [read()]


def environ(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    wanted = ("wsgi.version", "wsgi.url_scheme", "wsgi.multithread", "wsgi.multiprocess")
    found = {k: v for k, v in environ.items() if isinstance(v, str) or k in wanted}
    return [json.dumps(found).encode()]


def streamed(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    return (b"piece %d\n" % number for number in range(100))


def written(environ: Any, start: Any) -> Iterable[bytes]:
    write = start("200 OK", list(PLAIN))
    write(b"written, ")
    write(b"twice, ")
    return [b"returned"]


def bodiless(environ: Any, start: Any) -> Iterable[bytes]:
    start(environ["QUERY_STRING"].replace("+", " "), [("X-Here", "yes")])
    return [b"never to be seen"]


def sized(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", [*PLAIN, ("Content-Length", "10")])
    return {"exact": [b"0123456789"], "less": [b"0123"], "more": [b"0123456789ABC"]}[
        environ["QUERY_STRING"]
    ]


def sized_pieces(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", [*PLAIN, ("Content-Length", "10")])
    pieces = {"exact": b"0123456789", "less": b"0123", "more": b"0123456789ABC"}
    return (bytes([byte]) for byte in pieces[environ["QUERY_STRING"]])


def closing(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))

    def breaking() -> Iterator[bytes]:
        yield b"first"
        raise RuntimeError("in iteration")

    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(65536)

    name = environ["QUERY_STRING"]
    pieces = {"breaks": breaking(), "endless": endless()}.get(name, [b"a", b"b"])
    return Closing(name, pieces, fail=name == "fails")


def raises(environ: Any, start: Any) -> Iterable[bytes]:
    if environ["QUERY_STRING"] == "before":
        raise RuntimeError("before start_response")
    start("200 OK", list(PLAIN))
    if environ["QUERY_STRING"] == "exit":
        sys.exit(3)
    raise RuntimeError("after start_response")


def again(environ: Any, start: Any) -> Iterable[bytes]:
    """start_response a second time: without exc_info, with it, and after the head."""
    write = start("200 OK", list(PLAIN))
    if environ["QUERY_STRING"] == "sent":
        write(b"sent")
    try:
        raise RuntimeError("something")
    except RuntimeError:
        info = None if environ["QUERY_STRING"] == "bare" else sys.exc_info()
        start("503 Service Unavailable", list(PLAIN), info)
    return [b"replaced"]


def split(environ: Any, start: Any) -> Iterable[bytes]:
    evil = {
        "value": ("X-A", "a\r\nX-Evil: b"),
        "name": ("X-A: a\r\nX-Evil", "b"),
        "nul": ("X", "\0"),
    }
    name = environ["QUERY_STRING"]
    start("200 OK\r\nX-Evil: b" if name == "status" else "200 OK", [evil.get(name, ("X-A", "a"))])
    return [b"never"]


def unread(environ: Any, start: Any) -> Iterable[bytes]:
    start("403 Forbidden", list(PLAIN))
    return [b"not read"]


def file(environ: Any, start: Any) -> Iterable[bytes]:
    content = b"0123456789" * 30000
    kept: Any = io.BytesIO(content)
    if environ["QUERY_STRING"] == "real":
        kept = tempfile.TemporaryFile()  # noqa: SIM115
        kept.write(content)
        kept.seek(10)
    start("200 OK", list(PLAIN))
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](kept, 8192)
    return wrapped


def large(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    return [b"x" * 5_000_000]


def cookies(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", [*PLAIN, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return []


def was_closed(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    return [json.dumps(closed).encode()]


@validator
def valid(environ: Any, start: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@validator
def valid_stream(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    return (line for line in environ["wsgi.input"])


def application(environ_: Any, start: Any) -> Iterable[bytes]:
    name = environ_["PATH_INFO"].split("/")[1]
    return globals()[name](environ_, start)  # type: ignore[no-any-return]
