"""Starts the servers that are started from Python code.

python -m bench.peers SERVER [ADDRESS] APPLICATION PROTOCOL WORKERS THREADS; without ADDRESS the
listening socket is descriptor 3.
"""

import importlib
import importlib.metadata
import logging
import os
import signal
import socket
import sys
import types
from typing import Any

from bench.apps import Application


def stop_on_term() -> None:
    """TERM ends these servers as Ctrl-C does; Python's default would cut requests off."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def bjoern(application: Application, protocol: str, workers: int, threads: int) -> None:
    import bjoern

    listener = socket.socket(fileno=3)
    listener.setblocking(False)
    for _ in range(workers - 1):
        if not os.fork():
            break
    bjoern.server_run(listener, application)


def waitress(application: Application, protocol: str, workers: int, threads: int) -> None:
    import waitress

    stop_on_term()
    waitress.serve(application, sockets=[socket.socket(fileno=3)], threads=threads)


def cheroot(path: str, application: Application, protocol: str, workers: int, threads: int) -> None:
    from cheroot.wsgi import Server

    stop_on_term()
    server = Server(path, application, numthreads=threads, max=threads)
    try:
        server.start()
    except KeyboardInterrupt:
        server.stop()


def flup(path: str, application: Application, protocol: str, workers: int, threads: int) -> None:
    if protocol == "scgi":
        from flup.server.scgi import WSGIServer
    else:
        from flup.server.fcgi import WSGIServer
    WSGIServer(application, bindAddress=path).run()


def flup_quiet(*arguments: Any) -> None:
    logging.disable(logging.ERROR)
    flup(*arguments)


def fast(server: Any, port: str, application: Application, workers: int) -> None:
    """FastWSGI, and what succeeds it: the same interface, and no unix sockets."""
    server.init(application, "127.0.0.1", int(port), workers=workers)
    server.run()


def fastwsgi(
    port: str, application: Application, protocol: str, workers: int, threads: int
) -> None:
    # It asks pkg_resources for its own version, and setuptools no longer brings that
    get_distribution = importlib.metadata.distribution
    sys.modules["pkg_resources"] = types.SimpleNamespace(get_distribution=get_distribution)  # type: ignore[assignment]
    import fastwsgi

    fast(fastwsgi.server, port, application, workers)


def fastpysgi(
    port: str, application: Application, protocol: str, workers: int, threads: int
) -> None:
    import fastpysgi

    fast(fastpysgi.server, port, application, workers)


def main(argv: list[str]) -> None:
    *words, target, protocol, workers, threads = argv
    module, _, name = target.partition(":")
    application = getattr(importlib.import_module(module), name)
    server = globals()[words[0].replace("-", "_")]
    server(*words[1:], application, protocol, int(workers), int(threads))


if __name__ == "__main__":
    main(sys.argv[1:])
