"""One worker process: it serves, and reports its state only to its parent.

Parent and worker exchange messages on a SOCK_SEQPACKET socket pair (unix(7)). The worker sends:

    ready               it can accept
    failed REASON       it can't, and exits
    figures N N …       its figures: while it serves, when it exits, and when the parent asks
    durations N N …     the durations of its latest requests, with the figures if there are metrics
    replace REASON      it has reached a limit, or is stuck, and must be replaced
    cut N               it has cut off N unfinished requests, and exits

The parent asks for figures, or tells the worker to cut off unfinished requests, that another worker
serves in its place, or that a stop is announced. If the parent's end of the channel is closed, the
parent has died, and the worker exits. To stop it, the parent sends TERM.
"""

from __future__ import annotations

import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from sdactivate import log
from sdactivate.errors import Error
from sdactivate.runtime import exit_deadline, health
from sdactivate.runtime.main_loop import MainLoop, is_readable
from sdactivate.runtime.publish import Publisher, record_of
from sdactivate.runtime.recycling import Recycling
from sdactivate.servers.api import QUIET, QUIET_BESIDE_SUCCESSOR, Figures

if TYPE_CHECKING:
    from sdactivate.runtime.plan import Plan

ASK = b"?"
"""Message from the parent: report your figures."""
CUT = b"!"
"""Message from the parent: cut off unfinished requests."""
ANNOUNCE = b"-"
"""Message from the parent: a stop is announced; serve on, but report not ready."""
REPLACED = b"+"
"""Message from the parent before TERM: another worker already serves in your place."""


def serve(plan: Plan, channel: socket.socket, *, is_replacement: bool) -> int:
    """Serve as one worker until told to stop or the parent is gone; return the exit code.

    is_replacement: it replaces a worker of the same start, and serves even if the health check
    fails, since no other process would serve in its place.
    """
    loop = MainLoop()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
        signal.signal(number, signal.SIG_IGN)  # the parent handles those
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return exit_deadline.run(WorkerProcess(plan, channel, loop, is_replacement))


def parse_figures(text: str) -> Figures:
    """Parse the figures in a worker's message: N N …."""
    requests, errors, busy, threads, workers, oldest, idle, backlog = text.split()
    return Figures(
        int(requests),
        int(errors),
        int(busy),
        int(threads),
        int(workers),
        float(oldest),
        float(idle),
        int(backlog) if backlog != "None" else None,
    )


class WorkerProcess:
    """A worker process, from its start to its exit."""

    def __init__(
        self, plan: Plan, channel: socket.socket, loop: MainLoop, is_replacement: bool
    ) -> None:
        self._began = time.monotonic()
        self._is_replacement = is_replacement
        self._plan = plan
        self._channel = channel
        self._loop = loop
        self._recycling = Recycling(plan.settings)
        self._leaving = False
        self._quiet = QUIET
        self._cut = False
        self.deadline = 0.0
        self._replacing = False
        self._said = Figures()
        self._publisher = Publisher()

    def run(self) -> int:
        try:
            self._plan.load()
            # Only now: until here TERM kills the process at once, since nothing was accepted
            self._loop.on_signal(signal.SIGTERM, self.stop)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            self._server = self._plan.make(self._loop.poke)
            self._check_health()
            self._server.start()
        except Error as error:
            log.say(log.ERROR, str(error))
            self._say(f"failed {error}")
            return error.exit_code
        self._say("ready")
        self._loop.watch(self._channel.fileno(), self._hear_parent)
        self._loop.add(self._server.tick)
        self._loop.add(self._report)
        while not self._leaving:
            self._loop.turn()
            if self._server.failed is not None:
                log.say(log.ERROR, self._server.failed)
                return 1
        for _ in range(8):  # TERM may arrive before an earlier message is read
            if is_readable(self._channel.fileno()):
                self._hear_parent()
        self._server.drain(self._quiet)
        self.deadline = time.monotonic() + self._plan.settings.graceful_timeout
        while not self._server.join(0.0):
            if self._cut or time.monotonic() >= self.deadline:
                self._server.cut()
                self._say(f"cut {self._server.lost}")
                break
            self._loop.turn(0.02)
        self._say_figures()
        return 0

    def _check_health(self) -> None:
        stopped = partial(self._loop.signalled, signal.SIGTERM)
        try:
            health.check(self._server, self._plan.settings, self._began, stopped)
        except health.Unhealthy as error:
            if not self._is_replacement:
                raise
            log.say(log.ERROR, f"this replacement of a worker serves anyway: {error}")

    def stop(self) -> None:
        self._leaving = True

    def _hear_parent(self) -> None:
        message = self._channel.recv(16)
        if message == CUT:
            self._leaving = self._cut = True
        elif message == ANNOUNCE:
            self._server.announce()
        elif message == REPLACED:
            self._quiet = QUIET_BESIDE_SUCCESSOR
        elif message:
            self._say_figures()
        else:  # the parent has died
            self._loop.forget(self._channel.fileno())
            self._leaving = True

    def _say(self, message: str) -> None:
        try:
            self._channel.send(message.encode("utf-8", "replace")[:60000])
        except OSError:
            pass  # the parent is gone, which the closed channel shows, too

    def _say_figures(self) -> Figures:
        figures = self._server.figures()
        self._say("figures " + " ".join(map(str, figures)))
        if self._plan.settings.metrics:
            self._say("durations " + " ".join(map(str, self._server.durations())))
        return figures

    def _report(self) -> float | None:
        self._server.unobserved = True
        said = log.catch_up()
        figures = self._say_figures()
        self._publisher.publish(record_of(figures, self._server.lately())._replace(is_worker=1))
        if not self._replacing:
            recycling = self._recycling
            reason = recycling.stuck(self._server, figures) or recycling.reason(figures)
            if reason:
                self._replacing = True
                self._say(f"replace {reason}")
        quiet = figures.requests == self._said.requests and not figures.busy
        self._said = figures
        if said and quiet and not self._recycling.wanted:
            return None
        self._server.unobserved = False
        return min(1.0, self._plan.settings.worker_timeout / 4 or 1.0)
