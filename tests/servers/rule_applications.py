"""The applications of the table of rules: one path, one way of answering, right or wrong."""

import array
import gzip
import io
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

PLAIN = [("Content-Type", "text/plain")]


def environ(environ: Any, start: Any) -> Iterable[bytes]:
    """The variables of the request."""
    start("200 OK", list(PLAIN))
    return [json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()]


def becomes(environ: Any, start: Any) -> Iterable[bytes]:
    """An application that changes the method, as those do that let a field override it."""
    environ["REQUEST_METHOD"] = method = environ["QUERY_STRING"]
    start("200 OK", list(PLAIN))
    return [b"became ", method.encode()]


def cleared(environ: Any, start: Any) -> Iterable[bytes]:
    environ.clear()
    start("200 OK", list(PLAIN))
    return [b"cleared"]


def answers(environ: Any, start: Any) -> Iterable[bytes]:
    """The status and the headers of the query, which is JSON, and a body of five bytes."""
    status, headers = json.loads(unquote(environ["QUERY_STRING"]))
    start(status, [(name, value) for name, value in headers])
    return [b"hello"]


def recovers(environ: Any, start: Any) -> Iterable[bytes]:
    """An application that hears in start_response what is wrong with its answer."""
    try:
        start("200 OK", [("X-Wrong", "a\r\nb")])
    except ValueError as error:
        start("409 Conflict", list(PLAIN))
        return [f"heard: {type(error).__name__}".encode()]
    return [b"not heard"]


def changes_headers(environ: Any, start: Any) -> Iterable[bytes]:
    """An application that puts a forbidden header where it has been looked for already."""
    headers = [*PLAIN, ("X-Here", "yes")]
    start("200 OK", headers)
    headers.append(("X-Late", "a\r\nX-Evil: b"))
    return [b"hello"]


class Subclass(bytes):
    """Bytes by another name."""


BODIES: dict[str, Any] = {
    "bytes": b"hello",
    "subclass": Subclass(b"hello"),
    "bytearray": bytearray(b"hello"),
    "memoryview": memoryview(b"-hello-")[1:-1],
    "array": array.array("b", b"hello"),
    "str": "hello",
    "int": 5,
}


def body(environ: Any, start: Any) -> Iterable[bytes]:
    """A body of the kind that the query names first, given in the way that it names then."""
    kind, way = environ["QUERY_STRING"].split(",")
    piece = BODIES[kind]
    write = start("200 OK", list(PLAIN))
    if way == "written":
        write(piece)
    ways: dict[str, Any] = {
        "only": [piece],
        "tuple": (piece,),
        "two": [piece, b""],
        "generator": (each for each in [piece]),
        "written": [],
    }
    return ways[way]  # type: ignore[no-any-return]


def overruns(environ: Any, start: Any) -> Iterable[bytes]:
    """Ten bytes are promised; without an end come pieces of as many as the query says."""
    size = int(environ["QUERY_STRING"])
    start("200 OK", [*PLAIN, ("Content-Length", "10")])
    return (b"0123456789"[:size] for _ in iter(int, 1))


def endless(environ: Any, start: Any) -> Iterable[bytes]:
    """Pieces without an end, for an answer that has no body."""
    start(unquote(environ["QUERY_STRING"]), list(PLAIN))
    return (b"x" * 1000 for _ in iter(int, 1))


CONTENT = b"0123456789" * 2000


class Shouting(io.FileIO):
    """A file whose read() is not what it holds."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size).replace(b"0", b"O")


class Proxy:
    """What stands in front of a file, as Django's File does."""

    def __init__(self, file: Any) -> None:
        self.file = file

    @property
    def read(self) -> Any:
        return self.file.read

    def fileno(self) -> int:
        return self.file.fileno()  # type: ignore[no-any-return]


def opened(kind: str) -> Any:
    """A file of that kind, at the place that reading begins."""
    path = Path(tempfile.mkdtemp()) / "file"
    path.write_bytes(gzip.compress(CONTENT) if kind == "gzip" else CONTENT)
    if kind == "gzip":
        return gzip.open(path)
    if kind == "gzip proxy":
        path.write_bytes(gzip.compress(CONTENT))
        return Proxy(gzip.open(path))
    if kind == "shouting":
        return Shouting(path)
    if kind == "buffered shouting":
        return io.BufferedReader(Shouting(path))
    if kind == "write only":
        return path.open("wb")
    if kind == "closed":
        file = path.open("rb")
        file.close()
        return file
    if kind == "pseudo":
        return open("/proc/sys/kernel/ostype", "rb")
    if kind == "pipe":
        ends = os.pipe()
        os.write(ends[1], CONTENT[:1000])
        os.close(ends[1])
        return os.fdopen(ends[0], "rb")
    if kind == "appended":
        changing = path.open("r+b")
        changing.seek(0, os.SEEK_END)
        changing.write(b"more")
        changing.seek(10)
        return changing
    files: dict[str, Any] = {
        "plain": lambda: path.open("rb"),
        "unbuffered": lambda: path.open("rb", buffering=0),
        "changing": lambda: path.open("r+b"),
        "proxy": lambda: Proxy(path.open("rb")),
        "named": lambda: tempfile.NamedTemporaryFile(),  # noqa: SIM115
        "at its end": lambda: path.open("rb"),
    }
    file = files[kind]()
    if kind == "named":
        file.write(CONTENT)
        file.seek(0)
    (file.file if kind == "proxy" else file).read(len(CONTENT) if kind == "at its end" else 10)
    return file


def file(environ: Any, start: Any) -> Iterable[bytes]:
    """wsgi.file_wrapper over a file of the kind that the query names."""
    start("200 OK", list(PLAIN))
    return environ["wsgi.file_wrapper"](opened(unquote(environ["QUERY_STRING"])), 4096)  # type: ignore[no-any-return]


closed: list[str] = []


class Ticks:
    """Pieces without an end, whose close() is noted."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"tick "

    def close(self) -> None:
        closed.append("ticks")


def ticks(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    return Ticks()


def was_closed(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", list(PLAIN))
    return [b",".join(each.encode() for each in closed)]


def forks(environ: Any, start: Any) -> Iterable[bytes]:
    """A child that lives on, as those of some libraries do; the body is its process number."""
    child = os.fork()
    if not child:
        time.sleep(30)
        os._exit(0)
    start("200 OK", list(PLAIN))
    return [str(child).encode()]


def following(environ: Any, start: Any) -> Iterable[bytes]:
    """What the next request on the same connection must get."""
    start("200 OK", list(PLAIN))
    return [b"the next one"]


def application(environ_: Any, start: Any) -> Iterable[bytes]:
    name = environ_["PATH_INFO"].split("/")[1]
    return globals()[name](environ_, start)  # type: ignore[no-any-return]
