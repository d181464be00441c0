"""A small supervisor that holds a listening socket and starts, restarts and reloads a server on it.

It does what systemd does with a socket unit and its service: restart is TERM, wait for the end,
start again, with the socket held open all the time; reload is the signal by which the server takes
new code in. It listens to sd_notify(3) and follows MAINPID= to a successor, which becomes a child
of ours as it would become one of systemd (PR_SET_CHILD_SUBREAPER).
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import time
from collections.abc import Callable

from bench import process
from bench.load import Bench
from bench.process import Failed
from bench.servers import SERVERS, Case

STOP_S = 30
READY_S = 30
_PR_SET_CHILD_SUBREAPER = 36


class Activator:
    """Holds the socket of `bench` and runs the server of `case` on it."""

    def __init__(self, bench: Bench, case: Case, **env: str) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.bench = bench
        self.case = case
        self.env = env
        self.argv = SERVERS[case.server].argv(case)
        self.started = 0
        self.killed = 0  # how often TERM was not enough
        bench.socket.unlink(missing_ok=True)
        bench.log.unlink(missing_ok=True)
        self._listener = process.listen(bench.socket)
        path = bench.directory / "notify"
        path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(path))
        self._notify.setblocking(False)
        self.main = 0
        self.start()

    def start(self) -> None:
        """Start the server; return when it has answered."""
        self.spawn()
        self._until(self.answers, "answered")

    def spawn(self) -> None:
        """Start the server."""
        self.main = process.spawn(
            self.argv,
            self.bench.log,
            self._listener,
            cores=os.sched_getaffinity(0),
            NOTIFY_SOCKET=str(self.bench.directory / "notify"),
            **self.env,
        )
        self.started += 1

    def asked(self, seconds: float) -> bool:
        """Whether a connection waits on the socket, or comes within so long."""
        return bool(select.select([self._listener], [], [], seconds)[0])

    def stop(self) -> None:
        """TERM, and KILL after half a minute; return when nothing of the server is left."""
        family = process.tree(self.main)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.main, signal.SIGTERM)
        if not self.ended(STOP_S):
            self.killed += 1
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            process.ended(pid, 1)

    def close(self) -> None:
        """Stop the server and let go of the socket."""
        self.stop()
        self._listener.close()
        self._notify.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def reload(self) -> None:
        """Let the server take new code in; return when none of its old workers is left."""
        before = self._workers()
        os.kill(self.main, signal.Signals["SIG" + SERVERS[self.case.server].reload])

        def replaced() -> bool:
            self._hear()
            if process.ended(self.main, 0):
                raise Failed("the reload has ended the server")
            now = self._workers()
            return bool(now) and not now & before and not any(map(_runs, before))

        self._until(replaced, "replaced its workers")
        self._until(self.answers, "answered")

    def ended(self, seconds: float) -> bool:
        """Whether the server ends within so long. It is heard meanwhile: it may wait for that."""
        until = time.monotonic() + seconds
        while not process.ended(self.main, 0.02):
            self._hear()
            if time.monotonic() > until:
                return False
        return True

    def answers(self) -> bool:
        """Whether a request of ours is answered."""
        self._hear()
        return bool(self.bench.load(self.case.protocol, n="1", c="1", t="5")["requests"])

    def _workers(self) -> set[int]:
        """The processes that serve: those that have no children."""
        family = process.tree(self.main)
        return {pid for pid in family if len(process.tree(pid)) == 1}

    def _hear(self) -> None:
        """Take in what the server has told its supervisor; follow it to a successor."""
        with contextlib.suppress(BlockingIOError):
            while message := self._notify.recv(65536).decode(errors="replace"):
                for line in message.splitlines():
                    if line.startswith("MAINPID="):
                        self.main = int(line.partition("=")[2])

    def _until(self, done: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + READY_S
        while not done():
            if time.monotonic() > until:
                said = self.bench.log.read_text(errors="replace").splitlines()[-1:]
                raise Failed(f"it has not {what} within {READY_S} s; its last words: {said}")
            time.sleep(0.02)


def _runs(pid: int) -> bool:
    """Whether the process is there, and is not our child that has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
