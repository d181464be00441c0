"""ASGI servers behind fronts in a machine: which are tried, and what else than "ok" is right."""

from pathlib import Path

from sdactivate.backends import BACKENDS
from tests.machine.front_results import Version
from tests.machine.fronts import SETUP, Deviation

CLIENT = Path(__file__).with_name("asgi_client.py")
"""Run in the machine only: it imports what only the site's environment has."""

SERVERS = [name for name, backend in BACKENDS.items() if backend.interfaces[0] == "asgi"]
ALL_CASES = [
    *((front, server) for front in SETUP for server in SERVERS),
    ("nginx", "gunicorn"),  # which is a WSGI server as a rule
]
"""What is tried by hand."""
CASES = [
    ("apache", "daphne"),
    ("lighttpd", "uvicorn"),
    # Only hypercorn speaks h2c, which Caddy and HAProxy would pass on by themselves
    *((front, "hypercorn") for front in ("nginx", "caddy", "haproxy")),
]
"""What every run tries: each front, and each server."""

# What is not "ok", and yet the front's or the server's own affair: by either, and check.
DEVIATIONS: dict[tuple[str, str], Deviation] = {
    ("lighttpd", "front reloaded"): Deviation(
        "closed",
        "lighttpd aborts the connection at a reload, after at most 8 s: the browser reports 1006; "
        "new requests wait for that time",
    ),
    ("caddy", "front reloaded"): Deviation(
        "closed", "Caddy closes it with 1001 at a reload; uvicorn's clients may see 1002"
    ),
    ("lighttpd", "TLS: 401"): Deviation(
        "accepted",
        "lighttpd does not pass the user to an http backend: `gen` refuses --auth-file",
    ),
    ("lighttpd", "TLS: page"): Deviation(
        "echo: hello from a page, closed with 1006",
        "With TLS browsers speak HTTP/2 to lighttpd, which ends a WebSocket's stream before the "
        "code arrives: the browser reports 1006",
    ),
    ("daphne", "closed by the server"): Deviation(
        "(4321, '')", "daphne sends the code without the reason"
    ),
    ("daphne", "site restarted"): Deviation(
        "1006", "daphne aborts the connection: the browser reports 1006"
    ),
    ("gunicorn", "site restarted"): Deviation(
        "1006",
        "gunicorn aborts the connection when --graceful-timeout has passed; new requests wait for "
        "that time",
    ),
    ("hypercorn", "closed by the client"): Deviation(
        "1006", "hypercorn reports 1006 to the application, whatever code the client sent"
    ),
    ("hypercorn", "site restarted"): Deviation(
        ("1011", "1006"),
        "hypercorn closes it with 1011, with Python 3.13 and later aborts it (1006), when "
        "--graceful-timeout has passed; new requests wait for that time",
    ),
}


def deviation(front: str, server: str, check: str, version: Version) -> Deviation | None:
    """Return what is found instead of "ok", and why; None where "ok" is right.

    version: the front's own.
    """
    row = DEVIATIONS.get((front, check))
    return row if row and row.of(version) else DEVIATIONS.get((server, check))


TOPICS: dict[str, tuple[str, ...]] = {
    "messages, 1 MB too": ("echo", "1 MB messages"),
    "paths": ("paths",),
    "ping": ("ping",),
    "close codes": ("closed by the server", "closed by the client"),
    "refused handshakes": ("refused handshake", "nothing after a refusal"),
    "nothing spoofed": (
        "spoofed fields",
        "TLS: spoofed fields",
        "TLS: spoofed by HTTP/2",
        "no other Upgrade",
    ),
    "a page in a browser": ("page", "TLS: page"),
    "TLS, mounted, login": ("TLS: echo", "TLS: 401"),
    "events, long polls": ("events", "long poll", "own 418"),
    "front reloaded": ("front reloaded",),
    "site restarted": ("site restarted",),
}
"""Every check, by the column of docs/asgi.md that it is a part of."""

NOT_TRIED = "no browser"
"""The outcome of a check that lacks what it needs in the machine."""

CHECKS: tuple[str, ...] = tuple(check for checks in TOPICS.values() for check in checks)
