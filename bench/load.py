"""A case running, and the two ways to put load on it: straight on its socket, and through nginx."""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import process
from bench.apps import BODY
from bench.process import Failed
from bench.servers import SERVERS, SOCKET, Case
from bench.wire import PROTOCOLS, asked

SOURCE = Path(__file__).with_name("load.c")
READY_S = 30


class Bench:
    """A place for sockets and logs, and the load generator, compiled."""

    def __init__(self, directory: Path, generator: Path | None = None) -> None:
        self.directory = directory
        self.generator = generator or directory / "load"
        if generator is None:
            subprocess.run(["cc", "-O2", "-o", self.generator, SOURCE], check=True)
        self.port = process.free_port()

    def beside(self, name: str) -> "Bench":
        """A place of its own for one of several servers at a time."""
        directory = self.directory / name
        directory.mkdir(mode=0o755, exist_ok=True)
        return Bench(directory, self.generator)

    @property
    def socket(self) -> Path:
        return self.directory / "server.sock"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def request(self, protocol: str, app: str = "") -> Path:
        """The file with a request in `protocol` to the application `app`."""
        path = self.directory / f"{app}-{protocol}.request"
        if not path.exists():
            path.write_bytes(PROTOCOLS[protocol].request(*asked(app)))
        return path

    def generate(self, protocol: str, **options: str) -> subprocess.Popen[str]:
        """Start the load generator; `options` are its own: n, t, c; s and r, if not the usual."""
        argv = ["taskset", "-c", str(process.LOAD_CORE), str(self.generator)]
        argv += ["-s", str(self.socket), "-r", str(self.request(protocol))]
        argv += ["-p", PROTOCOLS[protocol].end, "-b", BODY.decode()]
        argv += [word for name, value in options.items() for word in (f"-{name}", value)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def load(self, protocol: str, **options: str) -> dict[str, Any]:
        """Run the load generator to its end and return its report."""
        with self.generate(protocol, **options) as running:
            assert running.stdout
            report = running.stdout.read()
        if running.returncode:
            raise Failed(f"the load generator ended with {running.returncode}")
        result: dict[str, Any] = json.loads(report)
        return result


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A Bench in a directory of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        os.chmod(directory, 0o755)
        yield Bench(Path(directory))


class Running:
    """The server of a case, answering; `env` is added to its environment."""

    def __init__(self, bench: Bench, case: Case, **env: str) -> None:
        self.bench = bench
        self.case = case
        row = SERVERS[case.server]
        argv = row.argv(case)
        self.address: process.Address = bench.port if row.tcp else bench.socket
        bench.socket.unlink(missing_ok=True)
        bench.log.unlink(missing_ok=True)
        listener = None if SOCKET in argv else process.listen(self.address)
        words = [str(self.address) if word == SOCKET else word for word in argv]
        self.pid = process.spawn(words, bench.log, listener, (process.SERVER_CORE,), **env)
        if listener:
            listener.close()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Return when a request has been answered; Failed when none is, or the server ends."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            if process.ended(self.pid, 0):
                raise Failed(f"it ended at once: {self.said()}")
            if isinstance(self.address, int) or self.address.exists():
                report = self.load(n="1", c="1", t="1")
                if report["requests"]:
                    return
            time.sleep(0.02)
        raise Failed(f"no answer within {READY_S} s: {self.said()}")

    def said(self) -> str:
        """The last lines of what the server wrote."""
        with contextlib.suppress(OSError):
            return " | ".join(self.bench.log.read_text(errors="replace").splitlines()[-4:])
        return ""

    def stop(self) -> None:
        process.stop(self.pid)

    def load(self, **options: str) -> dict[str, Any]:
        """Load with what is asked of the application; what the load generator says of it."""
        request = self.bench.request(self.case.protocol, self.case.app)
        return self.bench.load(self.case.protocol, s=str(self.address), r=str(request), **options)

    def memory(self) -> float:
        return process.pss_mib(self.pid)

    def direct(self, seconds: float, connections: int = 8) -> dict[str, Any]:
        """Load on the socket itself, after a warm-up; what one request cost."""
        self.load(t=str(seconds / 4), c=str(connections))
        return self.measured(lambda: self.load(t=str(seconds), c=str(connections)))

    def measured(self, load: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        before = process.tree_cpu_ns(self.pid)
        report: dict[str, Any] = load()
        spent = process.tree_cpu_ns(self.pid) - before
        if not report["requests"]:
            raise Failed(f"no request was answered: {report['failures']}; {self.said()}")
        return report | {
            "cpu_us": spent / report["requests"] / 1000,
            "requests_per_s": report["requests"] / report["seconds"],
        }


@contextlib.contextmanager
def running(bench: Bench, case: Case) -> Iterator[Running]:
    """The server of `case`, answering, for as long as the block runs."""
    server = Running(bench, case)
    try:
        yield server
    finally:
        server.stop()
