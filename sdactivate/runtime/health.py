"""Health checks before serving: load Django's URLconf, and request the page of --health.

An application that can be imported may still fail every request: Django imports its URLconf, and
with it the views, only at the first request. Here that is done before READY=1, and before a
successor takes over. It is done in the process that serves, never in one that forks worker
processes afterwards, since they would share connections that views open.
"""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

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
        _ask(server, settings, began + allowed, is_stopped)


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


# Asking


def _ask(
    server: Server, settings: Settings, deadline: float, is_stopped: Callable[[], bool]
) -> None:
    # Only here: a server without --health starts sooner without it
    from sdactivate.runtime.health_page import REQUESTS, Page, status

    page = Page.parse(settings.health)
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
