"""The main process from start to exit: readiness, signals, idle exit, watchdog, graceful stop.

    import, health check, start, READY=1 -> serve -> STOPPING=1, drain -> exit 0

A transition is caused by a signal, by a limit (idle time, requests, memory), or by a successor that
is ready. Every exit is the same: stop accepting, finish the accepted requests, exit. Connections
that were not accepted stay in the backlog for the next process. docs/lifecycle.md says what clients
see of each transition.

The same class runs a process that serves and the parent of several worker processes; `workers.py`
makes these look like one server. Only the main process notifies the supervisor (sd_notify(3)). A
successor does so only after its predecessor has handed over (`reload.py`, `handover.py`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sdactivate import log
from sdactivate.errors import Error
from sdactivate.runtime import exit_deadline, health
from sdactivate.runtime.main_loop import MainLoop
from sdactivate.runtime.publish import Publisher, record_of
from sdactivate.runtime.recycling import Recycling
from sdactivate.runtime.reload import Reload, Succession
from sdactivate.runtime.reload_result import Askers
from sdactivate.runtime.status_line import Status
from sdactivate.servers.api import QUIET, QUIET_BESIDE_SUCCESSOR
from sdactivate.systemd import read_at_start

if TYPE_CHECKING:
    from sdactivate.runtime.handover import Successor
    from sdactivate.runtime.metrics import Metrics
    from sdactivate.runtime.plan import Plan
    from sdactivate.servers.api import Figures, Server

# Seconds for which a process that can't start answers waiting clients before it exits. A supervisor
# restarts it at once (RestartSec=100ms), and systemd before 254 can't increase that delay. Without
# this pause, an application that can't be imported would be imported in a loop and use a whole
# processor.
_APOLOGY, _SUPERVISED_APOLOGY = 0.2, 2.0


def run(plan: Plan) -> int:
    """Serve until a stop or another reason to exit; return the exit code.

    Raises Error if the server can't be started; the supervisor has been notified of the reason.
    """
    return exit_deadline.run(MainProcess(plan))


def _hot_path(server: str) -> str:
    """Return which form of its hot path the server `name` uses; "" if it has only one."""
    if server != "native":
        return ""
    from sdactivate.servers.native import accel

    return accel.in_use


_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})


class MainProcess:
    """The main process, or one that is to become it: one server, from start to exit."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._loop = MainLoop()
        self._began = time.monotonic()
        self._leaving: str | None = None  # the reason to exit
        self._is_succeeded = False  # a successor serves and is the main process
        self._stopped = False  # by a signal
        self._cut = False
        self.deadline = 0.0  # when unfinished requests are cut off
        grace = plan.settings.graceful_timeout
        self._succession = Succession(self._loop, grace, self._become_main, self._be_given_up)
        # Whether this is the process that the supervisor knows
        self._is_main = not self._succession.has_predecessor
        self._wants_reload = False  # when this becomes the main process
        self._reload = Reload(plan, self._loop, self._hand_over, self._reload_failed)
        self._askers = Askers()
        self._recycling = Recycling(plan.settings)
        self._again = False  # drain, and then execute a fresh interpreter
        self._server: Server
        self._status = Status(plan.settings.protocol, _hot_path(plan.settings.server))
        self._publisher = Publisher()
        self._metrics: Metrics | None = None

    def run(self) -> int:
        settings, loop = self._settings, self._loop
        log.dump_stacks_on_crash()
        for number in SIGNALS:
            if number in _STOPS:
                signal.signal(number, signal.SIG_DFL)  # nothing is accepted yet: exit at once
            else:
                self._arm(number)
        # Signals that arrived before are handled now: see _leave
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            if settings.workers == 1 or settings.preload:
                self._plan.load()
            self._arm_again()
            self._server = self._make()
            if settings.workers == 1:
                stopped = partial(loop.signalled, *_STOPS)
                health.check(self._server, settings, self._began, stopped)
            self._server.start()
        except Error as error:
            self._fail(str(error))
            raise
        loop.add(self._server.tick)
        loop.add(self._report)
        if settings.idle_timeout:
            loop.add(self._leave_if_idle)
        if settings.workers == 1:
            if self._recycling.wanted:
                loop.add(self._recycle)
            if settings.worker_timeout:
                loop.add(self._replace_if_stuck)
        if not loop.signalled(*_STOPS):
            if self._is_main:
                self._serve_as_main()
            else:
                self._succession.ready()
        while self._leaving is None:
            loop.turn()
            if self._server.failed is not None:
                log.say(log.ERROR, self._server.failed)
                self._leaving = self._leaving or self._server.failed
        return self._leave(self._leaving)

    def _make(self) -> Server:
        if self._settings.workers == 1:
            return self._plan.make(self._loop.poke)
        from sdactivate.runtime.workers import Workers

        return Workers(self._plan, self._loop)

    def _arm(self, number: int) -> None:
        self._loop.on_signal(number, lambda: SIGNALS[number](self))

    def _arm_again(self) -> None:
        """Take back signals that the application has handled or blocked while it was imported.

        Signals without a meaning here are left to it.
        """
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, action in SIGNALS.items():
            if action is not MainProcess.more_workers:
                self._arm(number)

    def _fail(self, reason: str) -> None:
        """Report why requests can't be served, to the supervisor or to the process that serves."""
        first, last = reason.partition("\n")[0], reason.rpartition("\n")[2]
        short = first if last == first else f"{first} {last}"
        self._tell(STATUS=f"failed to start: {short}", ERRNO=1)
        self._askers.answer(False)
        if self._is_main:
            self._apologise()
        else:
            self._succession.failed(short)

    def _apologise(self) -> None:
        """Answer waiting clients with 503, so that they don't wait for their timeouts."""

        def unavailable(environ: object, start_response: Callable[..., object]) -> list[bytes]:
            log.leave_reason_to_later()  # this process logs it when it exits
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"Service Unavailable\n"]

        server = self._plan.make(self._loop.poke, unavailable)
        server.start()
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)  # a stop interrupts this
        # Clients until then are answered at once; later ones wait for the next start
        time.sleep(_SUPERVISED_APOLOGY if self._plan.supervisor.is_there else _APOLOGY)
        server.drain()
        if not server.join(1.0):
            server.cut()

    def _serve_as_main(self) -> None:
        """Become the main process, the one that the supervisor knows."""
        figures = self._server.figures()
        self._publish(figures)
        self._tell(READY=1, STATUS=self._status.line(figures))
        self._askers.answer(True)
        if self._plan.metrics:
            from sdactivate.runtime.metrics import Metrics

            self._metrics = Metrics(
                *(self._plan.metrics, self._settings, self._loop, self._figures, self._probe)
            )
            self._metrics.start()
        watchdog = self._plan.supervisor.watchdog
        if watchdog:
            self._loop.add(lambda: self._answer_watchdog(watchdog))
        if self._wants_reload:
            self.reload()

    def _tell(self, **fields: object) -> bool:
        """Notify the supervisor if this is the main process; return whether it was notified."""
        return not self._is_main or self._try(self._plan.supervisor.tell, **fields)

    def _try(self, tell: Callable[..., bool], **fields: object) -> bool:
        try:
            tell(**fields)
        except BlockingIOError:
            return False  # its socket is full; messages not worth waiting for are sent again later
        except OSError as error:
            log.say(log.WARNING, f"can't notify the supervisor: {error}")
            return False
        return True

    # Chores

    def _report(self) -> float | None:
        if self._leaving is not None:
            return None
        self._server.unobserved = True
        said = log.catch_up()
        figures = self._server.figures()
        self._publish(figures)
        line = self._status.due(figures)
        if line is None:
            return None if said else 1.0
        self._server.unobserved = False
        if line:
            self._tell(STATUS=line)
        return 1.0

    def _publish(self, figures: Figures) -> None:
        status, lately = self._status, self._server.lately()
        self._publisher.publish(
            record_of(figures, lately)._replace(
                since=status.since,
                reloaded=status.reloaded,
                failed_reloads=status.failed_reloads,
                reason=status.reason,
            )
        )

    def _figures(self) -> str:
        from sdactivate.runtime import openmetrics

        status, server = self._status, self._server
        return openmetrics.text(
            server.figures(),
            server.durations(),
            since=status.since,
            reloaded=status.reloaded,
            failed_reloads=status.failed_reloads,
            is_announced=status.announced,
        )

    def _probe(self, path: str) -> str | None:
        """Return the status of readiness or liveness if `path` is the path of one of them."""
        from sdactivate.servers.native import probes

        is_ready = not self._status.announced and self._leaving is None
        return probes.status(self._settings, path, is_ready=is_ready)

    def _leave_if_idle(self) -> float:
        figures = self._server.figures()
        timeout = self._settings.idle_timeout
        if figures.busy or not self._is_settled:
            return timeout
        if figures.idle >= timeout:
            self._leaving = f"no request for {timeout:g} s (idle_timeout)"
        return timeout - figures.idle

    def _recycle(self) -> float:
        if self._is_settled and (reason := self._recycling.reason(self._server.figures())):
            self._renew(reason)
            return 60.0
        return 1.0

    def _replace_if_stuck(self) -> float:
        timeout, server = self._settings.worker_timeout, self._server
        if self._is_settled and (reason := self._recycling.stuck(server, server.figures())):
            self._renew(reason)
            return timeout
        return max(0.1, min(1.0, timeout / 4))

    def _answer_watchdog(self, seconds: float) -> float:
        if not self._server.stalled(self._settings.worker_timeout or seconds):
            self._tell(WATCHDOG=1)
        return seconds / 2

    # Signals

    def stop(self) -> None:
        """TERM, INT: finish the accepted requests and exit; the second time: exit at once.

        With drain_delay, the first signal announces the stop, and the second ends that wait.
        """
        delay = self._settings.drain_delay
        if delay and self._is_main and self._leaving is None and not self._status.announced:
            self._announce(delay)
            return
        self._cut = self._stopped
        self._stopped = True
        self._again = False
        self._leaving = self._leaving or "told to stop"

    def _announce(self, seconds: float) -> None:
        """Report not ready, serve for the drain delay, and then stop."""
        self._status.announced = True
        if self._reload.is_under_way:
            self._reload.give_up()
            self._reload_failed("the service was told to stop")
        self._server.announce()
        log.say(log.INFO, f"stop announced; still serving for {seconds:g} s (drain_delay)")
        self._tell(STATUS=self._status.line(self._server.figures()))
        end = time.monotonic() + seconds

        def stop_when_due() -> float | None:
            left = end - time.monotonic()
            if left > 0:
                return left
            if self._leaving is None:
                self.stop()
                self._loop.poke()  # otherwise the loop would sleep before it sees this
            return None

        self._loop.add(stop_when_due)

    def reload(self) -> None:
        """HUP: load new code. A reload in progress is aborted for the newer one."""
        if not self._is_main and self._leaving is None:
            self._wants_reload = True
            return
        self._askers.look()
        if self._leaving is not None or self._status.announced:
            self._askers.answer(False)
            return
        supervisor = self._plan.supervisor
        status = "reloading: a successor imports the application"
        if supervisor.is_there and (
            self._reload.is_under_way or self._try(supervisor.reloading, STATUS=status)
        ):
            self._reload.begin()
            return
        # The supervisor knows the service only by this PID, or could not be notified of another
        self._again = True
        self._leaving = "reloading: this process executes a fresh interpreter"

    def retire(self) -> None:
        """USR2: sent by einhorn to workers with old code, never twice."""
        if self._leaving is None and not self._plan.supervisor.is_there:
            self.stop()

    def more_workers(self) -> None:
        """Ignore signals that other servers use, whose default action would kill the process."""

    # Reload

    @property
    def _is_settled(self) -> bool:
        """Whether this is the main process and is not exiting."""
        return self._is_main and not (self._reload.is_under_way or self._status.announced)

    def _renew(self, reason: str) -> None:
        log.say(log.NOTICE, f"handing over to a fresh process: {reason}")
        self.reload()

    def _become_main(self, since: float) -> None:
        self._status.since = since
        self._status.reloaded = time.time()
        if stale := read_at_start.changed(self._settings.read_at_start, since):
            names = log.escape(", ".join(stale))
            self._status.stale = names
            log.say(
                log.WARNING,
                f"changed since the service was started, and not read again by a reload: {names}. "
                "To read them, restart the service: systemctl restart NAME",
            )
        self._is_main = True
        self._serve_as_main()

    def _be_given_up(self) -> None:
        self._leaving = "the old process has aborted this reload, or died"

    def _hand_over(self, successor: Successor, took: float) -> None:
        if not self._tell(MAINPID=successor.pid, READY=1, STATUS=f"reloaded in {took:.2f} s"):
            successor.kill()  # the successor would be killed with this process
            self._reload_failed("can't notify the supervisor of the successor")
            return
        self._is_main = False
        successor.confirm(self._status.since)
        self._is_succeeded = True
        self._leaving = "a successor serves"

    def _reload_failed(self, reason: str) -> None:
        log.say(log.ERROR, f"reload failed, the old code still serves: {reason}")
        self._status.reload_failed(log.escape(reason))
        figures = self._server.figures()
        self._publish(figures)
        self._tell(READY=1, STATUS=self._status.line(figures))
        self._askers.answer(False)

    # The end

    def _leave(self, why: str) -> int:
        server = self._server
        if self._reload.is_under_way:
            self._reload.give_up()
            self._askers.answer(False)
        if server.failed is not None:
            self._tell(STOPPING=1, STATUS=f"failed: {why}", ERRNO=1)
        elif not self._again:
            self._tell(STOPPING=1, STATUS=f"stopping: {why}")
        log.say(log.INFO, f"exiting: {why}")
        if self._metrics is not None and self._is_succeeded:
            self._metrics.stop()  # a successor answers now; without one nobody would
        server.drain(QUIET_BESIDE_SUCCESSOR if self._is_succeeded else QUIET)
        if self._is_succeeded:
            self._askers.answer(True)  # only now: new clients get the new code
        self.deadline = time.monotonic() + self._settings.graceful_timeout
        # Wait for the old process: it would be killed with the main process
        while not (server.join(0.0) and self._succession.is_over):
            if self._cut or time.monotonic() >= self.deadline:
                server.cut()
                break
            self._loop.turn(0.02)
        if server.lost:
            plural = "" if server.lost == 1 else "s"
            log.say(log.WARNING, f"cut off {server.lost} request{plural} that had not finished")
        if self._again:
            # Until the next interpreter handles them, they would kill the process
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS.keys() - _STOPS)
            self._plan.invocation.become(self._plan.sockets, self._askers.handed_on())
        return 0 if server.failed is None else 1


# What each signal does to the main process; see docs/lifecycle.md
SIGNALS: dict[int, Callable[[MainProcess], None]] = {
    signal.SIGTERM: MainProcess.stop,
    signal.SIGINT: MainProcess.stop,
    signal.SIGHUP: MainProcess.reload,
    signal.SIGUSR1: MainProcess.more_workers,
    signal.SIGUSR2: MainProcess.retire,
    signal.SIGWINCH: MainProcess.more_workers,
}
