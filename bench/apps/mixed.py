"""An application that computes or waits as long as its path says, in milliseconds."""

import time

from bench.apps import Environ, StartResponse, trivial


def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Answer /compute/MS after so much CPU time of this thread, /wait/MS after so long, others."""
    _, kind, *amount = environ["PATH_INFO"].split("/")
    if kind == "compute":
        until = time.thread_time() + int(amount[0]) / 1000
        while time.thread_time() < until:
            pass
    elif kind == "wait":
        time.sleep(int(amount[0]) / 1000)
    return trivial.application(environ, start_response)
