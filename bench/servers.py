"""The servers: one row each, with the command line that serves a case.

`SOCKET` in a command line stands for the path of the unix socket that the server shall make, or for
the port that it shall listen on where it has `tcp`; a row without `SOCKET` inherits the socket as
descriptor 3. Request logs are off where the server has them
on by default, except in the row "flup", which is flup as it ships. flup takes as many threads as
it likes (it closes connections when it may not). Everything else is the server's default.
"""

import importlib.metadata
import os
from collections.abc import Callable
from typing import NamedTuple

from bench.process import python, script
from bench.wire import PROTOCOLS

SOCKET = "{socket}"

BEFORE = "BENCH_BEFORE"
"""The variable that names another checkout of this project, for the row "before"."""


class Case(NamedTuple):
    """What is served: by whom, over what, which application, with how much parallelism."""

    server: str
    protocol: str
    app: str
    workers: int = 1
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.server} {self.protocol} {self.app} {self.workers}x{self.threads}"


class Server(NamedTuple):
    """One row: the distribution it comes from, its protocols, and its command line."""

    package: str
    protocols: tuple[str, ...]
    argv: Callable[[Case], list[str]]
    most_workers: int = 1
    most_threads: int = 1
    reload: str = ""  # how new code is brought in: a signal's name, or nothing but a restart
    tcp: bool = False  # it listens on a port of 127.0.0.1 instead of a unix socket


def wsgi(case: Case) -> str:
    return f"bench.apps.{case.app}:application"


def peer(*words: str) -> Callable[[Case], list[str]]:
    """A server that is started from Python code: see peers.py."""
    return lambda case: python(
        "-m", "bench.peers", *words, wsgi(case), case.protocol, str(case.workers), str(case.threads)
    )


def sdactivate(case: Case) -> list[str]:
    size = ["--workers", str(case.workers), "--threads", str(case.threads)]
    return python("-m", "sdactivate", "serve", wsgi(case), *size)


def before(case: Case) -> list[str]:
    _, _, _, *words = sdactivate(case)
    there = f"import sys; sys.path.insert(0, {os.environ[BEFORE]!r})"
    return python("-c", f"{there}; from sdactivate.cli import entry; sys.exit(entry())", *words)


def gunicorn(kind: str) -> Callable[[Case], list[str]]:
    return lambda case: python(
        *("-m", "gunicorn", "--no-control-socket", "--log-level", "warning"),
        *("--worker-class", kind, "--protocol", case.protocol.split("-")[0]),
        *("--workers", str(case.workers), "--threads", str(case.threads)),
        wsgi(case),
    )


def uwsgi(*more: str) -> Callable[[Case], list[str]]:
    return lambda case: [
        *(script("uwsgi"), "--need-app", "--die-on-term", "--disable-logging", *more),
        *("--module", wsgi(case), "--pythonpath", ".", "--virtualenv", script("..")),
        *("--processes", str(case.workers), "--threads", str(case.threads), "--enable-threads"),
        *("--protocol", case.protocol.split("-")[0]),
    ]


def granian(case: Case) -> list[str]:
    return python(
        *("-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws", "--uds", SOCKET),
        *("--workers", str(case.workers), "--blocking-threads", str(case.threads)),
        *("--log-level", "warning", wsgi(case)),
    )


def uvicorn(case: Case) -> list[str]:
    return python(
        *("-m", "uvicorn", "--fd", "3", "--loop", "uvloop", "--http", "httptools"),
        *("--no-access-log", "--log-level", "warning", "--workers", str(case.workers)),
        f"bench.apps.{case.app}:asgi",
    )


UWSGI = ("scgi", "fastcgi-close", "uwsgi", "http-close")  # it never keeps a FastCGI connection
SERVERS = {
    "sdactivate": Server("sdactivate", tuple(PROTOCOLS), sdactivate, 8, 64, "HUP"),
    "before": Server("sdactivate", tuple(PROTOCOLS), before, 8, 64),
    "bjoern": Server("bjoern", ("http", "http-close"), peer("bjoern"), 8),
    "uwsgi": Server("uWSGI", UWSGI, uwsgi("--master"), 8, 64, "HUP"),
    "uwsgi-single": Server("uWSGI", UWSGI, uwsgi(), 1, 64),
    "granian": Server("granian", ("http",), granian, 8, 64),
    "uvicorn": Server("uvicorn", ("http",), uvicorn, 8),
    "waitress": Server("waitress", ("http",), peer("waitress"), 1, 64),
    "cheroot": Server("cheroot", ("http",), peer("cheroot", SOCKET), 1, 64),
    "gunicorn-sync": Server("gunicorn", ("uwsgi", "http-close"), gunicorn("sync"), 8, 1, "HUP"),
    "gunicorn-gthread": Server("gunicorn", ("http",), gunicorn("gthread"), 8, 64, "HUP"),
    "flup-quiet": Server("flup", ("scgi", "fastcgi-close"), peer("flup-quiet", SOCKET), 1, 64),
    "flup": Server("flup", ("scgi", "fastcgi-close"), peer("flup", SOCKET), 1, 64),
    # Who has no unix sockets, and this server beside them
    "sdactivate-tcp": Server("sdactivate", ("http",), sdactivate, 8, 64, tcp=True),
    "fastwsgi": Server("fastwsgi", ("http",), peer("fastwsgi", SOCKET), 8, tcp=True),
    "fastpysgi": Server("fastpysgi", ("http",), peer("fastpysgi", SOCKET), 8, tcp=True),
}


def version(server: str) -> str | None:
    """The installed version, or None where the server is not installed."""
    if server == "before" and BEFORE not in os.environ:
        return None
    try:
        return importlib.metadata.version(SERVERS[server].package)
    except importlib.metadata.PackageNotFoundError:
        return None
