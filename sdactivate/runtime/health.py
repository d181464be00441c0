"""Health checks before serving: load Django's URLconf, and request the page of --health.

An application that can be imported may still fail every request: Django imports its URLconf, and
with it the views, only at the first request. Here that is done before READY=1, and before a
successor takes over. It is done in the process that serves, never in one that forks worker
processes afterwards, since they would share connections that views open.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from sdactivate import log
from sdactivate.errors import Error
from sdactivate.runtime import gc_tuning
from sdactivate.runtime.main_loop import is_readable

if TYPE_CHECKING:
    from sdactivate.servers.api import Server
    from sdactivate.settings import Settings

# Seconds between checks whether to stop
_LOOK = 0.1
# Bytes of a response that are kept. The status is at its beginning
_KEPT = 65536
# The part of start_timeout that is reserved to report a failure before the old process gives up
_TO_TELL = 0.1


class Unhealthy(Error):
    """`serve`: before it serves, the application failed its check.

    Django's URLconf can't be loaded, or the page of the setting `health` did not answer 2xx or 3xx.
    """


def check(server: Server, settings: Settings, began: float, is_stopped: Callable[[], bool]) -> None:
    """Load Django's URLconf if this is Django, and request the page of the setting `health`.

    server: the server that is about to start. began: when this process started, on the monotonic
    clock; `start_timeout` counts from there. is_stopped: returns whether the process is to stop,
    which ends the wait. Raises Unhealthy, with the traceback if there is one.
    """
    with gc_tuning.later():
        load_urlconf()
    if settings.health:
        allowed = settings.start_timeout * (1 - _TO_TELL)
        _ask(server, Page.parse(settings.health), began + allowed, settings, is_stopped)


# Django


def load_urlconf() -> None:
    """Import Django's URLconf, and with it the views, if a Django application was imported.

    Closes database connections that the import has opened. Raises Unhealthy if the import fails.
    """
    if "django.core.handlers.wsgi" not in sys.modules:
        return
    from django.apps import apps
    from django.conf import settings

    if not (settings.configured and apps.ready and hasattr(settings, "ROOT_URLCONF")):
        return
    from django.db import connections
    from django.urls import get_resolver

    try:
        # Compiles every pattern, as reverse() does
        get_resolver().reverse_dict  # noqa: B018 - a property that imports
    except (Exception, SystemExit) as error:
        text = "".join(traceback.format_exception(error)).rstrip()
        name = log.escape(settings.ROOT_URLCONF)
        raise Unhealthy(f"loading the URLconf {name} failed:\n{text}") from error
    finally:
        connections.close_all()


# The page


class Page(NamedTuple):
    """The page to request: https://host:port/path?query."""

    scheme: str
    host: str
    """The host, with the port if the URL has one."""
    path: str
    query: str

    @classmethod
    def parse(cls, text: str) -> Page:
        """Parse the setting `health`; without a host, it is localhost."""
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", f"localhost{text}"
        host, _, target = rest.partition("/")
        path, _, query = target.partition("?")
        return cls(scheme, host, f"/{path}", query)

    @property
    def target(self) -> str:
        """The path with the query, for a request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{self.target}"

    def variables(self) -> dict[str, str]:
        """Return the variables of the request for SCGI, FastCGI and uwsgi (RFC 3875)."""
        name, _, port = self.host.rpartition(":")
        if not (name and port.isdigit()):
            name, port = self.host, "443" if self.scheme == "https" else "80"
        return {
            "CONTENT_LENGTH": "0",
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": self.target,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(self.path).decode("latin-1"),
            "QUERY_STRING": self.query,
            "SERVER_NAME": name,
            "SERVER_PORT": port,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REQUEST_SCHEME": self.scheme,
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": self.host,
            "HTTP_USER_AGENT": _AGENT,
            "HTTP_ACCEPT": "*/*",
            **({"HTTPS": "on"} if self.scheme == "https" else {}),
        }


_AGENT = "sdactivate (health check)"


def _http(page: Page) -> bytes:
    fields = {
        "Host": page.host,
        "User-Agent": _AGENT,
        "Accept": "*/*",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Proto": page.scheme,
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {page.target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def _encoded(page: Page) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), text.encode("latin-1")) for name, text in page.variables().items()]


def _scgi(page: Page) -> bytes:
    pairs = [*_encoded(page), (b"SCGI", b"1")]
    header = b"".join(b"%b\0%b\0" % pair for pair in pairs)
    return b"%d:%b," % (len(header), header)


def _uwsgi(page: Page) -> bytes:
    block = b"".join(
        struct.pack("<H", len(text)) + text for pair in _encoded(page) for text in pair
    )
    return struct.pack("<BHB", 0, len(block), 0) + block


def _fastcgi(page: Page) -> bytes:
    from sdactivate.servers.native.wire import fastcgi as wire

    def record(kind: int, content: bytes) -> bytes:
        return wire.head(kind, 1, len(content)) + content

    params = b"".join(
        struct.pack(">II", len(name) | 1 << 31, len(text) | 1 << 31) + name + text
        for name, text in _encoded(page)
    )
    begin = struct.pack(">HB5x", wire.RESPONDER, 0)  # the connection ends after the answer
    return (
        record(wire.BEGIN_REQUEST, begin)
        + record(wire.PARAMS, params)
        + record(wire.PARAMS, b"")
        + record(wire.STDIN, b"")
    )


REQUESTS: Mapping[str, Callable[[Page], bytes]] = {
    "http": _http,
    "scgi": _scgi,
    "uwsgi": _uwsgi,
    "fastcgi": _fastcgi,
}
"""Builds the request, by protocol."""

_STATUS = re.compile(rb"(?:Status: |HTTP/1\.[01] )([2-9][0-9]{2}[^\r\n]*)\r\n")


def status(protocol: str, answer: bytes) -> str:
    """Return the status of an answer that has arrived at least in part; "": none yet."""
    if protocol == "fastcgi":
        answer = _stdout(answer)
    found = _STATUS.search(answer.partition(b"\r\n\r\n")[0] + b"\r\n")
    if found is None and answer.startswith(b"HTTP/1.1 1"):  # skip 103 Early Hints
        return status(protocol, answer.partition(b"\r\n\r\n")[2])
    return found[1].decode("latin-1") if found else ""


def _stdout(answer: bytes) -> bytes:
    """Return the response in FastCGI records: the content of STDOUT."""
    from sdactivate.servers.native.wire import fastcgi as wire

    found, at = b"", 0
    while at + wire.HEAD <= len(answer):
        kind, length, padding = struct.unpack_from(">xBxxHBx", answer, at)
        at += wire.HEAD
        if kind == wire.STDOUT:
            found += answer[at : at + length]
        at += length + padding
    return found


# Asking


def _ask(
    server: Server,
    page: Page,
    deadline: float,
    settings: Settings,
    is_stopped: Callable[[], bool],
) -> None:
    ours, theirs = socket.socketpair()
    with ours, _raised() as raised:
        protocol = server.adopt(theirs)
        ours.sendall(REQUESTS[protocol](page))
        answer = b""
        while not is_stopped():
            if is_readable(ours.fileno(), _LOOK):
                try:
                    data = ours.recv(65536)
                except OSError:  # a reset ends the answer, too
                    data = b""
                if not data:
                    break
                answer = (answer + data)[:_KEPT]
            elif monotonic() >= deadline:
                stacks = server.stacks(0)
                where = f"; the request is at:\n{stacks[0]}" if stacks else ""
                raise Unhealthy(
                    f"health check: GET {page} got no answer within "
                    f"start_timeout={settings.start_timeout:g} s{where}"
                )
        else:
            return  # the process is stopping: what stops it reports the rest
    found = status(protocol, answer)
    if found[:1] in ("2", "3") and found and not raised:
        return
    if raised or found:
        raise Unhealthy(f"health check: GET {page} was answered {_why(found, raised)}")
    raise Unhealthy(f"health check: GET {page} got no answer: the connection was closed")


def _why(found: str, raised: list[tuple[BaseException, bool]]) -> str:
    found = log.escape(found) or "nothing"
    if raised:
        error, is_logged = raised[0]
        if is_logged:
            (last,) = traceback.format_exception_only(error)[-1:]
            return f"{found}; its traceback is above:\n{last.rstrip()}"
        return f"{found}:\n{''.join(traceback.format_exception(error)).rstrip()}"
    if found.startswith("400") and "django" in sys.modules:
        found += (
            "; Django answers so if the host is not in ALLOWED_HOSTS. Use one that is: --health "
            "https://example.org/up"
        )
    return found


@contextmanager
def _raised() -> Iterator[list[tuple[BaseException, bool]]]:
    """Collect the exceptions that the application raises, and whether each was logged.

    Django turns an exception into a response, and its LOGGING may not log it.
    """
    raised: list[tuple[BaseException, bool]] = []

    def seen(**_: object) -> None:
        if (error := sys.exc_info()[1]) is not None:
            raised.append((error, False))

    signals = sys.modules.get("django.core.signals")
    if signals is not None:
        signals.got_request_exception.connect(seen)
    log.on_exception = lambda error: raised.append((error, True))
    try:
        yield raised
    finally:
        log.on_exception = None
        if signals is not None:
            signals.got_request_exception.disconnect(seen)
