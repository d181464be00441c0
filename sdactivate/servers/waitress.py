"""waitress with a graceful stop: `--server waitress`.

waitress can serve inherited sockets when it is called from Python, but it has no graceful stop: at
a restart every request in progress is lost. Here a thread that can be told to drain runs its loop.
To drain, the listening sockets are removed from the loop, idle connections are shut for reading
(requests sent before that are still served; see the native server's `retire`), and the loop runs
until the last connection has its answer. The listening sockets belong to systemd: waitress'
listen() on them does nothing, and they are closed but never shut down.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock, Thread, get_ident
from time import monotonic, time
from typing import Any

from sdactivate import log
from sdactivate.backends import BACKENDS
from sdactivate.errors import Error, UsageError
from sdactivate.servers import forks
from sdactivate.servers.api import LOOK_AT_IDLE, QUIET, Figures, Lately
from sdactivate.servers.native.shut_idle import shut_if_silent
from sdactivate.settings import TABLE, Settings
from sdactivate.systemd.listen_fds import InheritedSocket
from sdactivate.trust import BY_DEFAULT

try:
    from waitress import wasyncore
    from waitress.channel import ClientDisconnected, HTTPChannel
    from waitress.server import create_server
    from waitress.task import WSGITask
except ModuleNotFoundError as error:
    if error.name != "waitress":
        raise
    raise Error(
        f"waitress is not installed for {sys.executable}; install it with "
        f"`{BACKENDS['waitress'].install_command(sys.executable)}`"
    ) from None

# The settings that waitress supports, besides those of the lifecycle
_KNOWN = frozenset(
    {
        *("server", "protocol", "threads", "connections", "header_bytes", "body_bytes"),
        *(
            "body_buffer",
            "keepalive_timeout",
            "trust",
            "trust_headers",
            "allow_peer",
            "read_at_start",
            "fd",
            "notify_fd",
        ),
        *("workers", "preload", "graceful_timeout", "start_timeout", "health", "idle_timeout"),
        *(
            "drain_delay",
            "metrics",
            "worker_timeout",
            "max_requests",
            "max_requests_jitter",
            "max_memory",
        ),
    }
)
# waitress' name for the peer of a unix socket
_UNIX_PEER = "localhost"
_NO_LIMIT = 1 << 62
# The fields of the table of trust that waitress can trust
_BELIEVABLE = frozenset((*BY_DEFAULT, "X-Forwarded-Host", "X-Forwarded-Port"))


class Listening(socket.socket):
    """An inherited socket as waitress expects it. It already listens, and may have a gate."""

    gate: Any = None

    def listen(self, backlog: int = 0) -> None:
        """Do nothing: systemd has called listen() with the backlog of the socket unit."""

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; one that the gate does not admit is closed."""
        peer, address = super().accept()
        if self.gate is not None and not self.gate.admits(peer.fileno()):
            peer.close()
            raise BlockingIOError
        return peer, address


class Server:
    """One process's waitress. See the native server's for the arguments.

    Raises UsageError for a setting that waitress does not have, or that is not valid for these
    sockets, and Error if waitress is not installed.
    """

    def __init__(
        self,
        application: Callable[..., Any],
        sockets: Sequence[InheritedSocket],
        settings: Settings,
        poke: Callable[[], None] = lambda: None,
        gate: Any = None,
    ) -> None:
        self.failed: str | None = None
        self.unobserved = False
        self.errors = 0
        self.lost = 0
        self.requests = 0
        self.settings = settings
        self.serving: dict[int, tuple[float, str]] = {}  # by thread: since when, what
        self.last = monotonic()  # when a request began or ended
        self._poke = poke
        self._mutex = Lock()
        self._draining = False
        self._drain_began = 0.0  # on waitress' clock
        self._quiet = QUIET
        self._cut = False
        self._map: dict[int, Any] = {}
        # Copies: a successor inherits the originals
        listening = [Listening(fileno=os.dup(inherited.sock.fileno())) for inherited in sockets]
        for sock in listening:
            sock.gate = gate
        self._server = create_server(
            application, map=self._map, sockets=listening, **adjustments(settings, listening)
        )
        self._listeners = [each for each in self._map.values() if getattr(each, "accepting", None)]
        for listener in self._listeners:
            listener.channel_class = partial(Channel, self)
        self._thread = Thread(target=self._loop, name="waitress", daemon=True)

    def start(self) -> None:
        """Start to accept."""
        for listener in self._listeners:
            listener.accepting = True
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._listeners[0].pull_trigger()

    def adopt(self, sock: socket.socket) -> str:
        """Serve a connected socket, as if the first listener had accepted it."""
        listener = self._listeners[0]
        for each in self._listeners:
            each.accepting = False  # until `start`
        front = (listener.adj.trusted_proxy or "127.0.0.1", 0)
        listener.channel_class(listener, sock, front, listener.adj, map=self._map)
        self._thread.start()
        return "http"

    def announce(self) -> None:
        """Do nothing: waitress answers no health checks."""

    def durations(self) -> tuple[int, ...]:
        """Return nothing: waitress records no durations."""
        return Lately().durations

    def drain(self, quiet: float = QUIET) -> None:
        """Stop accepting, and finish the accepted requests."""
        self._drain_began = time()
        self._quiet = quiet
        self._draining = True
        self._listeners[0].pull_trigger()

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` for the last response; return whether it has been sent."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def cut(self) -> None:
        """Close the remaining connections."""
        channels = [each for each in list(self._map.values()) if isinstance(each, Channel)]
        self.lost += sum(not channel.is_idle for channel in channels)
        self._cut = True
        self._listeners[0].pull_trigger()

    def tick(self) -> float | None:
        """Do nothing: waitress' own loop handles its deadlines."""
        return None

    def figures(self) -> Figures:
        """Return the current figures."""
        now = monotonic()
        busy = list(self.serving.values())
        return Figures(
            requests=self.requests,
            errors=self.errors,
            busy=len(busy),
            threads=self.settings.threads,
            oldest=max((now - since for since, _ in busy), default=0.0),
            idle=0.0 if busy else now - self.last,
        )

    def lately(self) -> Lately:
        """Return nothing: waitress' threads record no requests."""
        return Lately()

    def stalled(self, seconds: float) -> bool:
        """Whether every thread has been in the same request for more than `seconds`."""
        now = monotonic()
        busy = list(self.serving.values())
        return len(busy) >= self.settings.threads and all(now - at > seconds for at, _ in busy)

    def stacks(self, seconds: float) -> list[str]:
        """Return the requests that have taken longer than `seconds`, each with its stack."""
        now = monotonic()
        frames = sys._current_frames()
        return [
            f"{what}\n{''.join(traceback.format_stack(frames[ident]))}".rstrip()
            for ident, (since, what) in list(self.serving.items())
            if now - since > seconds and ident in frames
        ]

    @property
    def draining(self) -> bool:
        """Whether the server accepts no further requests on kept-alive connections."""
        return self._draining

    def has_been_quiet(self, since: float) -> bool:
        """Whether, at a stop, a peer last heard at `since` has been silent for long enough."""
        return time() - max(since, self._drain_began) >= self._quiet

    # In waitress' threads

    def begin(self, ident: int, what: str) -> None:
        """Record that the thread `ident` starts a request."""
        self.serving[ident] = (monotonic(), what)
        if self.unobserved:
            self.unobserved = False
            self._poke()

    def end(self, ident: int, failed: bool) -> None:
        """Record that the thread has sent the response, or could not parse the request."""
        with self._mutex:
            del self.serving[ident]
            self.requests += 1
            self.errors += failed
            self.last = monotonic()

    # In the loop's thread

    def _loop(self) -> None:
        try:
            while not self._cut:
                if self._draining and not self._drained():
                    break
                # A thread that has finished a request pulls the trigger, which ends the wait
                wasyncore.loop(
                    timeout=LOOK_AT_IDLE if self._draining else 1.0,
                    use_poll=True,
                    map=self._map,
                    count=1,
                )
        except Exception as error:
            log.say_exception("waitress' loop has ended", error)
            self.failed = f"waitress' loop has ended: {error}"
            self._poke()
        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=0 if self._cut else 5)
        wasyncore.close_all(self._map)

    def _drained(self) -> bool:
        """Retire the listeners and idle channels; return whether any channel is left."""
        for listener in self._listeners:
            if listener.accepting:
                listener.accepting = False
                listener.del_channel()
        channels = [each for each in list(self._map.values()) if isinstance(each, Channel)]
        for channel in channels:
            channel.retire()
        return bool(channels)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A waitress connection that reports its requests to the server."""

    def __init__(self, owner: Server, *args: Any, **kwargs: Any) -> None:
        self.owner = owner
        self._retired = False
        self.task_class = partial(Task, owner)
        super().__init__(*args, **kwargs)

    def service(self) -> None:
        """Serve a request, in one of waitress' threads."""
        owner, ident, request = self.owner, get_ident(), self.requests[0]
        owner.begin(ident, log.escape(f"{request.command} {request.path}"))
        try:
            super().service()
        finally:
            owner.end(ident, failed=request.error is not None)

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun or is being served."""
        return not (self.requests or self.request or self.total_outbufs_len)

    def handle_close(self) -> None:
        """Close the connection, even if a child of this process has a copy of it."""
        if forks.happened:
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer has closed it already
        super().handle_close()

    def retire(self) -> None:
        """End the connection if no request is in progress; what was sent is still read."""
        if self.is_idle and not self._retired and self.owner.has_been_quiet(self.last_activity):
            self._retired = shut_if_silent(self.socket.fileno())


class Task(WSGITask):  # type: ignore[misc]
    """A waitress request whose failure is counted."""

    def __init__(self, owner: Server, *args: Any) -> None:
        self._owner = owner
        super().__init__(*args)

    def build_response_header(self) -> bytes:
        """Return the head; at a stop it says that the connection will be closed."""
        if self._owner.draining:
            self.request.headers["CONNECTION"] = "close"
        head: bytes = super().build_response_header()
        return head

    def execute(self) -> None:
        """Call the application. Its exceptions are passed on: waitress logs them and answers."""
        try:
            super().execute()
        except ClientDisconnected:
            raise
        except Exception as error:
            self._owner.errors += 1
            log.has_raised(error)
            raise


def adjustments(settings: Settings, sockets: Sequence[socket.socket]) -> dict[str, Any]:
    """Return waitress' settings: its "Arguments to waitress.serve".

    Raises UsageError for settings that it does not support.
    """
    for setting in TABLE:
        if getattr(settings, setting.name) != setting.default and setting.name not in _KNOWN:
            raise UsageError(f"{setting.option}: waitress has no such setting; see docs/servers.md")
    if settings.protocol not in ("auto", "http"):
        raise UsageError(
            f"--protocol {settings.protocol}: waitress speaks http only; the native server "
            "speaks all four at once"
        )
    if any(sock.family == socket.AF_VSOCK for sock in sockets):
        raise UsageError("waitress does not serve vsock sockets; the native server does")
    if len(settings.trust) > 1:
        raise UsageError(f"--trust {' '.join(settings.trust)}: waitress can trust only one proxy")
    for field in settings.trust_headers:
        if field not in _BELIEVABLE:
            raise UsageError(
                f"--trust-headers {field}: waitress does not read it; the native server does"
            )
    unix = any(sock.family == socket.AF_UNIX for sock in sockets)
    trusted = settings.trust[0] if settings.trust else _UNIX_PEER if unix else None
    told: dict[str, Any] = {
        "threads": settings.threads,
        "connection_limit": settings.connections,
        "channel_timeout": max(1, round(settings.keepalive_timeout)),
        "max_request_header_size": settings.header_bytes,
        "max_request_body_size": settings.body_bytes or _NO_LIMIT,
        "inbuf_overflow": settings.body_buffer,
        "clear_untrusted_proxy_headers": True,
    }
    if trusted:
        fields = {field.lower() for field in (*BY_DEFAULT, *settings.trust_headers)}
        told |= {"trusted_proxy": trusted, "trusted_proxy_headers": fields}
    return told
