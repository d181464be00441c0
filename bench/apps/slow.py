"""What slow peers are slow at: a large file, one large object, and a body that is read whole."""

import os
import tempfile
from collections.abc import Iterable
from typing import Any

from bench.apps import BODY, Environ, StartResponse

SIZE = int(os.environ.get("BENCH_SIZE", 8 << 20))
BLOB = bytes(SIZE)
FILE = tempfile.NamedTemporaryFile(prefix="bench-", dir="/var/tmp")  # noqa: SIM115
FILE.truncate(SIZE)


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/file":
        wrapped: Any = environ["wsgi.file_wrapper"](open(FILE.name, "rb"))  # noqa: SIM115
        return wrapped  # type: ignore[no-any-return]
    if path == "/blob":
        return [BLOB]
    environ["wsgi.input"].read()
    return [BODY]
