"""The parent of several worker processes: it forks, watches and replaces them.

The parent serves no requests. It imports the application, then forks its workers; with preload=no
each worker imports the application. Each worker sends its figures on its own channel. The parent
queries those that send nothing, and replaces those that die, reach a limit, are stuck, or do not
answer. A replacement is ready before the worker it replaces is told to stop. A service whose
workers keep dying fails instead of restarting them in a loop.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from sdactivate import log, stdio
from sdactivate.errors import Error
from sdactivate.runtime import gc_tuning
from sdactivate.runtime.main_loop import is_readable
from sdactivate.runtime.worker import ANNOUNCE, ASK, CUT, REPLACED, parse_figures, serve
from sdactivate.servers.api import QUIET, Figures, Lately
from sdactivate.status_record import BUCKETS

if TYPE_CHECKING:
    from sdactivate.runtime.main_loop import MainLoop
    from sdactivate.runtime.plan import Plan

# Seconds for workers that will be killed to report how many requests that cuts off
_LAST_WORDS = 1.0
# This many deaths for each worker, within this many seconds, mean that the service fails
_DEATHS = 3
_DEATHS_WITHIN = 10.0
# A worker that does not answer for this many times worker_timeout hangs in code that lets no other
# thread run
_SILENT = 2.0


class WorkersFailed(Error):
    """`serve`: the worker processes could not be started, or exit as soon as they are."""


class Worker:
    """A worker process as its parent sees it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.ready = False
        self.leaving = False  # whether it has been told to stop
        self.replaced_by: Worker | None = None
        self.figures = Figures()
        self.durations: tuple[int, ...] = ()
        self.heard = time.monotonic()
        self.asked = 0.0  # since when an answer is due; 0: none is
        self.aborted = False
        self.failure = ""
        self.lost: int | None = None  # how many requests it has cut off; None: not reported yet

    def ask(self, now: float) -> None:
        """Ask for its figures."""
        if self.ready and not self.asked:
            self.asked = now
            self.say(ASK)

    def say(self, message: bytes) -> None:
        """Send it one message, if it still runs."""
        try:
            self.channel.send(message)
        except OSError:
            pass  # it has exited and will be reaped

    def kill(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass


class Workers:
    """The workers of a service: a `Server` that consists of several processes."""

    def __init__(self, plan: Plan, loop: MainLoop) -> None:
        self.unobserved = False
        self.failed: str | None = None
        self.lost = 0
        self._plan = plan
        self._loop = loop
        self._workers: dict[int, Worker] = {}
        self._gone = Figures()  # the figures of workers that have exited
        self._deaths: deque[float] = deque()
        self._starting = True
        self._announced = False
        self._draining = False

    # Server

    def adopt(self, sock: socket.socket) -> str:
        """Never called: each worker process has a server of its own."""
        raise NotImplementedError

    def start(self) -> None:
        """Fork the workers and wait until each can accept. Raises WorkersFailed."""
        settings = self._plan.settings
        if settings.preload:
            _warn_of_threads()
            _warn_of_connections(self._plan)
            gc_tuning.share()
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        deadline = time.monotonic() + settings.start_timeout
        for _ in range(settings.workers):
            self._spawn()
        while waiting := [w for w in self._workers.values() if not w.ready]:
            for worker in _speaking(waiting):
                if not self._hear(worker):
                    time.sleep(0.001)  # it is exiting, but can't be reaped yet
            self._reap()  # a worker that died is replaced, whether it was ready or not
            if self.failed is None:
                # Not only when it has exited: a hanging request may delay that
                self.failed = next((w.failure for w in waiting if w.failure), None)
            if self.failed is not None:
                self.cut()
                raise WorkersFailed(self.failed)
            if self._loop.signalled(signal.SIGTERM, signal.SIGINT):
                return  # told to stop meanwhile, which is handled next
            if time.monotonic() > deadline:
                self.cut()
                raise WorkersFailed(
                    f"the workers were not ready after {settings.start_timeout:g} s; if the "
                    "application takes that long to import, raise start_timeout"
                )
        self._starting = False

    def announce(self) -> None:
        self._announced = True
        for worker in self._workers.values():
            if worker.ready:
                worker.say(ANNOUNCE)

    def drain(self, quiet: float = QUIET) -> None:
        self._draining = True
        for worker in self._workers.values():
            worker.leaving = True
            if quiet != QUIET:
                worker.say(REPLACED)
            worker.kill(signal.SIGTERM)

    def join(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while self._workers:
            self._reap()
            if time.monotonic() >= end:
                break
            time.sleep(0.01)
        return not self._workers

    def cut(self) -> None:
        """Have each worker cut off its requests and report how many; then kill it."""
        self._draining = True
        for worker in self._workers.values():
            worker.say(CUT)
        end = time.monotonic() + _LAST_WORDS
        while any(w.ready and w.lost is None for w in self._workers.values()):
            for worker in _speaking(list(self._workers.values())):
                if not self._hear(worker) and worker.lost is None:
                    worker.lost = worker.figures.busy
            if time.monotonic() >= end:
                break
        for worker in self._workers.values():
            worker.kill(signal.SIGKILL)
        self.join(5.0)

    def tick(self) -> float | None:
        """Kill the workers that hang and can't report it themselves."""
        timeout = self._plan.settings.worker_timeout
        if not timeout:
            return None
        self._abort_silent(timeout * _SILENT)
        return timeout / 2

    def _abort_silent(self, seconds: float) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.asked and now - worker.asked > seconds:
                log.say(log.ERROR, f"worker {worker.pid} hangs; aborting it:")
                # On ABRT, faulthandler prints the Python stacks
                worker.kill(signal.SIGKILL if worker.aborted else signal.SIGABRT)
                worker.aborted = True
            worker.ask(now)

    def figures(self) -> Figures:
        workers = list(self._workers.values())
        every = [worker.figures for worker in workers]
        now = time.monotonic()
        backlogs = [f.backlog for f in every if f.backlog is not None]
        return Figures(
            requests=self._gone.requests + sum(f.requests for f in every),
            errors=self._gone.errors + sum(f.errors for f in every),
            busy=sum(f.busy for f in every),
            threads=sum(f.threads for f in every),
            workers=len(workers),
            oldest=max((f.oldest for f in every), default=0.0),
            idle=min((w.figures.idle + now - w.heard for w in workers), default=0.0),
            backlog=max(backlogs) if backlogs else None,
        )

    def lately(self) -> Lately:
        """Return an empty list: each worker process publishes its own record."""
        return Lately()

    def durations(self) -> tuple[int, ...]:
        """Return the durations that the workers have reported."""
        said = [worker.durations for worker in self._workers.values() if worker.durations]
        return tuple(map(sum, zip(*said, strict=True))) or (0,) * BUCKETS

    def stalled(self, seconds: float) -> bool:
        self._abort_silent(seconds)
        now = time.monotonic()
        return bool(self._workers) and all(
            w.figures.busy
            and w.figures.busy >= w.figures.threads
            and w.figures.oldest + now - w.heard > seconds
            for w in self._workers.values()
        )

    def stacks(self, seconds: float) -> list[str]:
        return []  # each worker does this itself

    # Children

    def _spawn(self) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdio.flush()
        # Until the child has reset this process's handlers, they would record a signal where the
        # child doesn't look, and it would miss its stop
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._loop.signals)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not pid:
            ours.close()
            for other in self._workers.values():
                other.channel.close()
            self._loop.reset()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise SystemExit(serve(self._plan, theirs, is_replacement=not self._starting))
        theirs.close()
        ours.setblocking(False)
        worker = self._workers[pid] = Worker(pid, ours)
        self._loop.watch(ours.fileno(), lambda: self._listen(worker))
        return worker

    def _listen(self, worker: Worker) -> None:
        before = worker.figures.requests
        if not self._hear(worker):
            # It has exited, or is about to: SIGCHLD will tell
            self._loop.forget(worker.channel.fileno())
        if self.unobserved and (worker.figures.busy or worker.figures.requests != before):
            self.unobserved = False
            self._loop.poke()

    def _hear(self, worker: Worker) -> bool:
        """Read a worker's messages; return whether it still runs."""
        try:
            message = worker.channel.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not message:
            return False
        worker.heard = time.monotonic()
        worker.asked = 0.0
        kind, _, text = message.decode("utf-8", "replace").partition(" ")
        if kind == "figures":
            worker.figures = parse_figures(text)
        elif kind == "durations":
            worker.durations = tuple(map(int, text.split()))
        elif kind == "ready":
            worker.ready = True
            if self._announced:
                worker.say(ANNOUNCE)
            self._retire_replaced(worker)
        elif kind == "replace":
            self._replace(worker, text)
        elif kind == "cut":
            worker.lost = int(text)
        elif kind == "failed":
            worker.failure = text
        return True

    def _replace(self, worker: Worker, reason: str) -> None:
        """Fork a replacement of `worker`, which is told to stop when the replacement is ready."""
        if self._draining or worker.leaving or worker.replaced_by is not None:
            return
        log.say(log.NOTICE, f"replacing worker {worker.pid}: {reason}")
        worker.replaced_by = self._spawn()

    def _retire_replaced(self, successor: Worker) -> None:
        for worker in self._workers.values():
            if worker.replaced_by is successor and not worker.leaving:
                worker.leaving = True
                worker.say(REPLACED)
                worker.kill(signal.SIGTERM)

    def _reap(self) -> None:
        """Reap the workers that have exited, and replace them."""
        for pid, worker in list(self._workers.items()):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = pid, 0
            if not ended:
                continue
            while is_readable(worker.channel.fileno()) and self._hear(worker):
                pass  # its last messages
            del self._workers[pid]
            self._loop.forget(worker.channel.fileno())
            worker.channel.close()
            if self._draining:
                self.lost += worker.figures.busy if worker.lost is None else worker.lost
            self._gone = Figures(
                self._gone.requests + worker.figures.requests,
                self._gone.errors + worker.figures.errors,
            )
            if not worker.leaving and not self._draining:
                self._died(worker, status)

    def _died(self, worker: Worker, status: int) -> None:
        if worker.failure and not worker.ready and self._starting:
            # The application fails, and would fail in the next one, too
            self.failed = worker.failure
            return
        now = time.monotonic()
        how = _how(status)
        log.say(log.ERROR, f"worker {worker.pid} {how}; starting another")
        for other in self._workers.values():
            if other.replaced_by is worker:
                other.replaced_by = None
        if worker.replaced_by is not None:
            return  # a replacement has already taken its place
        self._deaths.append(now)
        while now - self._deaths[0] > _DEATHS_WITHIN:
            self._deaths.popleft()
        if len(self._deaths) > _DEATHS * self._plan.settings.workers:
            self.failed = (
                f"{len(self._deaths)} workers died within {_DEATHS_WITHIN:g} s; the last one {how}"
            )
            self._loop.poke()
            return
        self._spawn()


def _speaking(workers: list[Worker]) -> list[Worker]:
    """Wait, and return those of `workers` that have sent a message or exited."""
    by_fd = {worker.channel.fileno(): worker for worker in workers}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poll.poll(100)]


def _how(status: int) -> str:
    """Describe how a process ended, from its wait status (wait(2))."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _warn_of_connections(plan: Plan) -> None:
    """Warn of inherited connections: two workers that write to one connection corrupt it."""
    own = {inherited.sock.fileno() for inherited in plan.sockets}
    peers = []
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        if fd > 2 and fd not in own and (peer := _connected_to(fd)):
            peers.append(peer)
    if peers:
        log.say(
            log.WARNING,
            "the application opened connections while it was imported "
            f"({', '.join(dict.fromkeys(peers))}). All workers would share and corrupt them: open "
            "them at the first request, close them at the end of the import, or have each worker "
            "import the application (SDACTIVATE_PRELOAD=no)",
        )


def _connected_to(fd: int) -> str:
    """Return the peer of descriptor `fd`; "" if it is not connected or the peer has no address.

    A socket pair has none (socketpair(2)); event loops keep one for themselves.
    """
    try:
        sock = socket.socket(fileno=os.dup(fd))
    except OSError:
        return ""
    with sock:
        try:
            address = sock.getpeername()
        except OSError:
            return ""
    if isinstance(address, tuple):
        return f"{address[0]} port {address[1]}" if len(address) > 1 else str(address[0])
    return log.escape(os.fsdecode(address))


def _warn_of_threads() -> None:
    """Warn of threads that the application has started: a forked worker doesn't have them."""
    import threading

    threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    if threads:
        log.say(
            log.WARNING,
            f"the application started threads while it was imported ({', '.join(threads)}). "
            "Forked workers do not have them: start them at the first request, or have each "
            "worker import the application (SDACTIVATE_PRELOAD=no)",
        )
