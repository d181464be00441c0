"""A site for containers: it says which release it is, and can be slow."""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

time.sleep(float(os.environ.get("SLOW_START", "0")))
RELEASE = os.environ.get("RELEASE", "0")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the release; below /slow/N after N seconds. Its directories can be written to."""
    path = environ["PATH_INFO"]
    if path.startswith("/slow/"):
        time.sleep(float(path.rpartition("/")[2]))
    if path == "/write":
        for directory in (os.environ["STATE_DIRECTORY"], os.environ["CACHE_DIRECTORY"], "/tmp"):
            with open(f"{directory}/x", "w") as file:
                file.write("x")
    if path == "/secret":
        with open(f"{os.environ['CREDENTIALS_DIRECTORY']}/token") as file:
            body = file.read().encode()
    else:
        body = f"release {RELEASE}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
