"""The application called in a loop with no server at all: what serving is compared with.

python -m bench.handler APP SECONDS: calls bench.apps.APP as a WSGI server must (a fresh environ
with a fresh body, start_response, the whole result, close) and prints the CPU time of a request.
"""

import importlib
import io
import json
import os
import sys
import time
from typing import Any

from bench.process import SERVER_CORE
from bench.wire import PARAMS


def base_environ() -> dict[str, Any]:
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def requests(application: Any, number: int) -> None:
    """Make `number` requests, one after another."""
    params, base, empty = PARAMS, base_environ(), io.BytesIO

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        pass

    for _ in range(number):
        environ = {**params, **base, "wsgi.input": empty()}
        result = application(environ, start_response)
        b"".join(result)
        if hasattr(result, "close"):
            result.close()


def main(app: str, seconds: str) -> None:
    application = importlib.import_module(f"bench.apps.{app}").application
    os.sched_setaffinity(0, {SERVER_CORE})
    requests(application, 500)
    number, until = 0, time.monotonic() + float(seconds)
    started, before = time.perf_counter_ns(), time.process_time_ns()
    while time.monotonic() < until:
        requests(application, 100)
        number += 100
    cpu, elapsed = time.process_time_ns() - before, time.perf_counter_ns() - started
    json.dump(
        {
            "requests": number,
            "cpu_us": cpu / number / 1000,
            "requests_per_s": number / elapsed * 1e9,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
