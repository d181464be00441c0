"""The applications of the table of rules: one path, one way of answering, right or wrong."""

import json
from collections.abc import Iterable
from typing import Any

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


def following(environ: Any, start: Any) -> Iterable[bytes]:
    """What the next request on the same connection must get."""
    start("200 OK", list(PLAIN))
    return [b"the next one"]


def application(environ_: Any, start: Any) -> Iterable[bytes]:
    name = environ_["PATH_INFO"].split("/")[1]
    return globals()[name](environ_, start)  # type: ignore[no-any-return]
