"""A serving process on sockets that it has inherited, as a service manager would start it."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tests.conftest import CHECKOUT
from tests.effort import SANITIZED

Started = TypeVar("Started", bound="Service")
PATIENCE = 60.0  # seconds: a guard against hanging, not an expectation
# The service manager's side of sd_listen_fds(3): descriptors from 3 on, and the right PID.
EXEC = """
import fcntl, os, resource, sys
nofile, count = int(sys.argv[1]), int(sys.argv[2])
given = [int(word) for word in sys.argv[3 : 3 + count]]
fds = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in given]
for fd in given:
    os.set_inheritable(fd, False)  # its number may be beyond the limit below
for place, fd in enumerate(fds, 3):
    os.dup2(fd, place)
if nofile:
    resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.executable, [sys.executable, *sys.argv[3 + count :]])
"""


def listener(directory: Path, family: str = "unix", name: str = "socket") -> socket.socket:
    """A socket that listens, as the socket unit's would."""
    if family == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(directory / name))
    elif family == "tcp":
        sock = socket.socket(socket.AF_INET)
        sock.bind(("127.0.0.1", 0))
    elif family == "tcp6":
        sock = socket.socket(socket.AF_INET6)
        sock.bind(("::1", 0))
    else:
        sock = socket.socket(socket.AF_VSOCK)
        sock.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
    sock.listen(4096)
    return sock


class Service:
    """`sdactivate serve APPLICATION` in a process of its own.

    application: "module:attribute", importable from the checkout or from `directory`.
    settings: those of sdactivate.settings. listeners: its sockets, by default one on a unix path;
    names: what each is called. nofile: the limit of descriptors, soft and hard, 0: as it is.
    supervised: whether anybody listens to what it has to tell (sd_notify(3)).
    stderr: its standard error, None: the log.
    """

    def __init__(
        self,
        directory: Path,
        application: str,
        listeners: Sequence[socket.socket] = (),
        names: Sequence[str] = (),
        nofile: int = 0,
        supervised: bool = True,
        stderr: int | None = None,
        **settings: object,
    ) -> None:
        self.listeners = list(listeners) or [listener(directory)]
        self._log = directory / "log"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / "notify"))
        self._heard: deque[str] = deque()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        numbers = [sock.fileno() for sock in self.listeners]
        words = [nofile, len(numbers), *numbers, "-m", "sdactivate", "serve", application]
        environ = {
            **{name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"},
            "PYTHONPATH": f"{CHECKOUT}:{directory}",
            **({"NOTIFY_SOCKET": str(directory / "notify")} if supervised else {}),
            **{f"SDACTIVATE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        if names:
            environ["LISTEN_FDNAMES"] = ":".join(names)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", EXEC, *map(str, words)],
                pass_fds=numbers,
                env=environ,
                stderr=log if stderr is None else stderr,
            )

    def ready(self: Started) -> Started:
        """Wait until the process says that it serves."""
        self.told("READY=1")
        return self

    def told(self, wanted: str) -> None:
        """Wait for one assignment of sd_notify(3)."""
        self.told_by(lambda line: line == wanted, wanted)

    def told_by(self, is_it: Callable[[str], bool], wanted: str) -> str:
        """Wait for the assignment that `is_it`, and return it; what came until then is past."""
        until = time.monotonic() + PATIENCE
        while True:
            while self._heard:
                lines = self._heard.popleft().splitlines()
                if any(map(is_it, lines)):
                    return next(filter(is_it, lines))
            alive = self.runs() and time.monotonic() < until
            assert alive, f"never heard {wanted}; the log: {self.log}"
            time.sleep(0.01)

    def runs(self) -> bool:
        """Whether there is anybody to be heard."""
        return self.process.poll() is None

    def _listen(self) -> None:
        """Take all messages: where nobody does, the sender is held up with all its threads."""
        while message := self._notify.recv(4096):
            self._heard.append(message.decode())

    def connect(self, which: int = 0, timeout: float = PATIENCE) -> socket.socket:
        """A connection to one of its sockets."""
        listening = self.listeners[which]
        peer = socket.socket(listening.family)
        peer.settimeout(timeout)
        address = listening.getsockname()
        if listening.family == socket.AF_VSOCK:
            address = (1, address[1])  # VMADDR_CID_LOCAL
        peer.connect(address)
        return peer

    @contextlib.contextmanager
    def crowd(self, count: int) -> Iterator[list[socket.socket]]:
        """So many connections, closed at the end of the block."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self.connect()) for _ in range(count)]

    @property
    def log(self) -> str:
        """What the process has written to standard error."""
        return self._log.read_text(errors="replace")

    def logged(self, pattern: str, times: int = 1) -> None:
        """Wait until `pattern` stands in the log so many times."""
        eventually(lambda: len(re.findall(pattern, self.log)) >= times, f"{pattern!r}\n{self.log}")

    @property
    def descriptors(self) -> int:
        """How many descriptors the process has."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def resident(self) -> int:
        """Bytes of memory that the process has to itself (proc(5), smaps_rollup).

        0 under sanitizers, which keep what is freed.
        """
        if SANITIZED:
            return 0
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(int(kib) << 10 for kib in re.findall(r"(?m)^Private_\w+: *(\d+) kB", rollup))

    def forget_peak(self) -> int:
        """Let `peak` begin anew; bytes of memory that the process has now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.peak

    @property
    def peak(self) -> int:
        """The most bytes of memory that the process has had at a time (proc(5), status).

        0 under sanitizers, which keep what is freed.
        """
        if SANITIZED:
            return 0
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    @property
    def threads(self) -> int:
        """How many threads the process has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    @property
    def cpu_seconds(self) -> float:
        """What the process has run so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def soft_limit(self) -> int:
        """How many descriptors it may have."""
        return resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)[0]

    def stop(self) -> int:
        """Tell the process to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._notify.shutdown(socket.SHUT_RD)  # an end for who listens
        self._listener.join()
        self._notify.close()
        for sock in self.listeners:
            sock.close()


@contextlib.contextmanager
def serving(directory: Path, application: str, **options: object) -> Iterator[Service]:
    """A Service that is ready, for as long as the block runs."""
    service = Service(directory, application, **options)  # type: ignore[arg-type]
    try:
        yield service.ready()
    finally:
        service.close()


def of(server: str) -> dict[str, str]:
    """The settings of a server by its name; "pure": the native one without its compiled twin."""
    return {"server": "native", "accel": "0"} if server == "pure" else {"server": server}


def eventually(condition: object, what: str) -> None:
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
