"""A serving process from its start to its end.

    import, start, READY=1 -> serve -> STOPPING=1, drain -> exit 0

What moves it on is a signal, a limit (idle, requests, memory), or a successor that has become
ready. Every way out is the same: accept no more, finish what was accepted, leave; connections
that nobody has accepted stay in the backlog for the next process. docs/lifecycle.md says what
clients see of each transition.

The same class lives a process that serves and the parent of several that do; `workers.py` makes
the latter look like the former. Only the main process talks to the supervisor (sd_notify(3)); a
successor keeps silent until its predecessor has handed over (handover.py).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sdactivate.errors import Error
from sdactivate.runtime import handover, log, outcome
from sdactivate.runtime.notify import notify, reloading
from sdactivate.runtime.steward import Steward

if TYPE_CHECKING:
    from sdactivate.runtime.activation import InheritedSocket
    from sdactivate.runtime.serving import Figures, Serving
    from sdactivate.settings import Settings


# Seconds for which a process that can't start answers the clients that wait
_APOLOGY = 0.2


class Plan(NamedTuple):
    """What a process is to serve: a server to be made, its sockets, how it was all started.

    load: imports the application if that has not been done; raises Error where it can't be.
    make: makes the server of one process, given the function that wakes its steward, and
    another application than the one that was loaded if there is to be one.
    """

    load: Callable[[], None]
    make: Callable[..., Serving]
    sockets: Sequence[InheritedSocket]
    settings: Settings
    origin: handover.Origin


def run(plan: Plan) -> int:
    """Serve until told to stop, or until there is a reason to leave; returns the exit code.

    Raises Error where the server can't be started; the supervisor has then been told why.
    """
    return Life(plan).live()


class Recycling:
    """Tells when a serving process has done enough: max_requests, max_memory."""

    def __init__(self, settings: Settings) -> None:
        jitter = random.randint(0, settings.max_requests_jitter)  # noqa: S311
        self._requests = settings.max_requests and settings.max_requests + jitter
        self._memory = settings.max_memory
        self.wanted = bool(self._requests or self._memory)

    def reason(self, figures: Figures) -> str | None:
        """Return why the process is to be replaced, None if it is not."""
        if self._requests and figures.requests >= self._requests:
            return f"it has served {figures.requests} requests (max_requests)"
        if self._memory and (memory := resident_memory()) >= self._memory:
            return f"it has grown to {memory >> 20} MiB (max_memory)"
        return None


def resident_memory() -> int:
    """Bytes of memory that are this process's own: resident, but not shared (proc(5), statm)."""
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


class Life:
    """The main process's life."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._steward = Steward()
        self._leaving: str | None = None  # why
        self._cut = False
        self._predecessor = handover.predecessor()
        self._successor: handover.Successor | None = None
        self._reload_began = 0.0
        self._askers: list[int] = []  # who waits to hear how the reload went
        self._again = False  # leave, and become a fresh interpreter
        self._server: Serving
        self._status = Status()

    def live(self) -> int:
        settings, steward = self._settings, self._steward
        _dump_stacks_on_crash()
        outcome.prepare()
        for number, action in SIGNALS.items():
            steward.on_signal(number, lambda action=action: action(self))  # type: ignore[misc]
        try:
            self._server = self._make()
            self._server.start()
        except Error as error:
            first, _, _ = str(error).partition("\n")
            last = str(error).rpartition("\n")[2]
            short = first if last == first else f"{first} {last}"
            self._tell(STATUS=f"failed to start: {short}", ERRNO=1)
            if self._predecessor is not None:
                self._predecessor.send(short.encode("utf-8", "replace"))
            else:
                self._apologise()
            raise
        steward.add(self._server.tick)
        steward.add(self._report)
        if settings.idle_timeout:
            steward.add(self._leave_if_idle)
        if settings.workers == 1:
            self._recycling = Recycling(settings)
            if self._recycling.wanted:
                steward.add(self._recycle)
            if settings.worker_timeout:
                steward.add(self._replace_if_stuck)
        self._begin()
        while self._leaving is None:
            steward.turn()
            if self._server.failed is not None:
                raise Error(self._server.failed)
        return self._leave(self._leaving)

    def _make(self) -> Serving:
        if self._settings.workers == 1:
            self._plan.load()
            return self._plan.make(self._steward.poke)
        from sdactivate.runtime.workers import Workers

        return Workers(self._plan, self._steward)

    def _apologise(self) -> None:
        """Answer the clients that wait with 503, rather than let them wait for their timeouts."""

        def unavailable(environ: object, start_response: Callable[..., object]) -> list[bytes]:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"Service Unavailable\n"]

        server = self._plan.make(self._steward.poke, unavailable)
        server.start()
        # Whoever has come by now is served at once; for the rest there is the next start
        time.sleep(_APOLOGY)
        server.drain()
        if not server.join(1.0):
            server.cut()

    def _begin(self) -> None:
        """Say that requests are served: to the supervisor, or to the predecessor first."""
        channel = self._predecessor
        if channel is None:
            self._become_main()
            return
        try:
            channel.sendall(handover.READY)
        except OSError:
            pass  # it has gone: the end of the channel says so too
        self._steward.watch(channel.fileno(), self._become_main)

    def _become_main(self) -> None:
        """This is the process that the supervisor knows."""
        if self._predecessor is not None:
            self._steward.forget(self._predecessor.fileno())
            self._predecessor.close()
            self._predecessor = None
            self._status.reloaded = True
        self._tell(READY=1, STATUS=self._status.line(self._server.figures()))
        watchdog = _watchdog_seconds()
        if watchdog:
            self._steward.add(lambda: self._answer_watchdog(watchdog))

    def _tell(self, **fields: object) -> None:
        if self._predecessor is None:
            try:
                notify(**fields)
            except OSError as error:
                log.say(log.WARNING, f"the supervisor can't be told: {error}")

    # Chores

    def _report(self) -> float | None:
        if self._leaving is not None:
            return None
        self._server.unobserved = True
        line = self._status.due(self._server.figures())
        if line is None:
            return None
        self._server.unobserved = False
        if line:
            self._tell(STATUS=line)
        return 1.0

    def _leave_if_idle(self) -> float:
        figures = self._server.figures()
        timeout = self._settings.idle_timeout
        if figures.busy or self._successor is not None or self._predecessor is not None:
            return timeout
        if figures.idle >= timeout:
            self._leaving = f"no request for {timeout:g} s (idle_timeout)"
        return timeout - figures.idle

    def _recycle(self) -> float:
        if self._successor is None and self._predecessor is None:
            reason = self._recycling.reason(self._server.figures())
            if reason:
                log.say(log.NOTICE, f"handing over to a fresh process: {reason}")
                self.reload()
                return 60.0
        return 1.0

    def _replace_if_stuck(self) -> float:
        timeout = self._settings.worker_timeout
        if self._successor is None and self._predecessor is None:
            stacks = self._server.stacks(timeout)
            if stacks:
                for stack in stacks:
                    log.say(log.ERROR, f"a request has taken over {timeout:g} s:\n{stack}")
                log.say(log.NOTICE, "handing over to a fresh process (worker_timeout)")
                self.reload()
                return timeout
        return max(0.1, min(1.0, timeout / 4))

    def _answer_watchdog(self, seconds: float) -> float:
        if not self._server.stalled(self._settings.worker_timeout or seconds):
            self._tell(WATCHDOG=1)
        return seconds / 2

    # Signals

    def stop(self) -> None:
        """TERM, INT: finish what was accepted and leave; the second time: leave at once."""
        self._cut = self._leaving is not None
        self._leaving = "told to stop"

    def reload(self) -> None:
        """HUP: bring new code in. A reload under way is given up for the newer one."""
        self._askers += outcome.askers()
        if self._leaving is not None:
            return
        if not os.environ.get("NOTIFY_SOCKET"):
            # A supervisor that knows us by our PID alone
            self._again = True
            self._leaving = "reloading: a fresh interpreter takes this process over"
            return
        if self._successor is not None:
            self._steward.forget(self._successor.channel.fileno())
            self._successor.kill()
            self._successor = None
        elif self._predecessor is None:
            reloading(STATUS="reloading: a successor imports the application")
        self._reload_began = time.monotonic()
        try:
            self._successor = handover.Successor(self._plan.origin, self._plan.sockets)
        except OSError as error:
            self._reload_failed(str(error))
            return
        self._steward.watch(self._successor.channel.fileno(), self._hear_successor)
        self._steward.add(self._give_successor_up)

    def retire(self) -> None:
        """USR2: einhorn's word to the workers of the old code. From nobody else, so no second."""
        if self._leaving is None and not os.environ.get("NOTIFY_SOCKET"):
            self.stop()

    def more_workers(self) -> None:
        """Signals that other servers know: nothing, but no death either."""

    # Reload

    def _hear_successor(self) -> None:
        successor = self._successor
        if successor is None:
            return
        ready = successor.hear()
        if ready is None:
            return
        self._steward.forget(successor.channel.fileno())
        if not ready:
            self._successor = None
            successor.close()
            self._reload_failed(successor.said.strip() or "the successor's own words are above")
            return
        took = time.monotonic() - self._reload_began
        self._tell(MAINPID=successor.pid, READY=1, STATUS=f"reloaded in {took:.2f} s")
        self._answer(True)
        self._leaving = "a successor serves"

    def _give_successor_up(self) -> float | None:
        successor = self._successor
        if successor is None or self._leaving is not None:
            return None
        left = self._reload_began + self._settings.start_timeout - time.monotonic()
        if left > 0:
            return left
        self._steward.forget(successor.channel.fileno())
        self._successor = None
        successor.kill()
        self._reload_failed(f"not ready after {self._settings.start_timeout:g} s (start_timeout)")
        return None

    def _answer(self, succeeded: bool) -> None:
        askers, self._askers = self._askers, []
        outcome.answer(askers, succeeded)

    def _reload_failed(self, reason: str) -> None:
        log.say(log.ERROR, f"reload failed, the old code serves on: {reason}")
        self._status.failed_reloads += 1
        figures = self._server.figures()
        failure = f"reload failed ({self._status.failed_reloads}): {log.escape(reason)}"
        self._tell(READY=1, STATUS=f"{failure}; {self._status.line(figures)}")
        self._answer(False)

    # The end

    def _leave(self, why: str) -> int:
        settings, server = self._settings, self._server
        handed_over = self._successor is not None and why == "a successor serves"
        if self._successor is not None:
            if handed_over:
                self._successor.close()
            else:
                self._steward.forget(self._successor.channel.fileno())
                self._successor.kill()
                self._answer(False)
        if not handed_over and not self._again:
            self._tell(STOPPING=1, STATUS=f"stopping: {why}")
        log.say(log.INFO, f"leaving: {why}")
        server.drain()
        deadline = time.monotonic() + settings.graceful_timeout
        while not server.join(0.0):
            if self._cut or time.monotonic() >= deadline:
                busy = server.figures().busy
                log.say(log.WARNING, f"cut off {busy} requests that had not ended")
                server.cut()
                break
            self._steward.turn(0.02)
        if self._again:
            handover.exec_again(self._plan.origin, self._plan.sockets)
        return 0


# What each signal does to the main process; see docs/lifecycle.md
SIGNALS: dict[int, Callable[[Life], None]] = {
    signal.SIGTERM: Life.stop,
    signal.SIGINT: Life.stop,
    signal.SIGHUP: Life.reload,
    signal.SIGUSR1: Life.more_workers,
    signal.SIGUSR2: Life.retire,
    signal.SIGWINCH: Life.more_workers,
}


class Status:
    """What `systemctl status` shows."""

    def __init__(self) -> None:
        self.reloaded = False
        self.failed_reloads = 0
        self._began = time.time()
        self._requests = 0
        self._at = time.monotonic()
        self._rate = 0.0
        self._said = ""

    def line(self, figures: Figures) -> str:
        """Return it, as of now."""
        parts = [
            f"ready: {figures.busy} of {figures.threads} threads busy"
            + (f" in {figures.workers} workers" if figures.workers > 1 else ""),
            f"{self._rate:.0f} requests/s",
            f"{figures.requests} served",
            f"{figures.errors} failed",
        ]
        if figures.backlog is not None:
            parts.append(f"{figures.backlog} waiting")
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._began))
        parts.append(f"{'reloaded' if self.reloaded else 'started'} {since}")
        return ", ".join(parts)

    def due(self, figures: Figures) -> str | None:
        """Return the line if it has changed, "" if not, None if nothing goes on any more."""
        now = time.monotonic()
        elapsed = now - self._at
        if elapsed < 0.9:
            return ""
        rate = (figures.requests - self._requests) / elapsed
        quiet = rate == 0 == self._rate and not figures.busy
        self._at, self._requests, self._rate = now, figures.requests, rate
        line = self.line(figures)
        if line == self._said:
            return None if quiet else ""
        self._said = line
        return line


def _watchdog_seconds() -> float:
    """The interval of WatchdogSec= for this process, 0: none; see sd_watchdog_enabled(3)."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID")
    if not usec.isdigit() or pid not in (None, str(os.getpid())):
        return 0.0
    return int(usec) / 1e6


def _dump_stacks_on_crash() -> None:
    """Let a crash in C, and SIGABRT, leave the Python stacks in the log."""
    import faulthandler

    try:
        faulthandler.enable(all_threads=True)
    except (OSError, ValueError, RuntimeError):
        pass  # no standard error to write to
