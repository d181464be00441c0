"""Real supervisors run the real site behind a real nginx: start, serve, restart, stop, log."""

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.supervisors.conftest import House, Load, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="supervisors change users as root")


class Supervisor(NamedTuple):
    """How one of them is spoken to; {d} is its directory, {s} the service's."""

    kind: str
    daemon: str
    start: str
    stop: str
    restart: str
    hangup: str
    log: str


TABLE = (
    Supervisor(
        "daemontools",
        "svscan {d}",
        "svc -u {s}",
        "svc -d {s}",
        "svc -t {s}",
        "svc -h {s}",
        "{s}/log/main/current",
    ),
    Supervisor(
        "runit",
        "runsvdir {d}",
        "sv up {s}",
        "sv down {s}",
        "sv term {s}",
        "sv hup {s}",
        "{s}/log/main/current",
    ),
    Supervisor(
        "s6",
        "s6-svscan {d}",
        "s6-svc -u {s}",
        "s6-svc -d {s}",
        "s6-svc -t {s}",
        "s6-svc -h {s}",
        "{s}/log/main/current",
    ),
    Supervisor(
        "supervisord",
        "supervisord -n -c {d}/supervisord.conf",
        "supervisorctl -c {d}/supervisord.conf start mysite",
        "supervisorctl -c {d}/supervisord.conf stop mysite",
        "supervisorctl -c {d}/supervisord.conf restart mysite",
        "supervisorctl -c {d}/supervisord.conf signal HUP mysite",
        "{d}/mysite.log",
    ),
)


class Running:
    """A supervisor at work on the generated files."""

    def __init__(self, supervisor: Supervisor, house: House, *options: str) -> None:
        self.house, self._supervisor = house, supervisor
        self.directory = house.home / supervisor.kind
        self.directory.mkdir()
        files = house.generate(supervisor.kind, self.directory, *options)
        if supervisor.kind == "supervisord":
            self._configure_supervisord(files[0])
        self._daemon = subprocess.Popen(
            self._words(supervisor.daemon), env=house.environ, start_new_session=True
        )

    def _configure_supervisord(self, program: Path) -> None:
        text = program.read_text().replace("/var/log/supervisor/", f"{self.directory}/")
        program.write_text(text)
        (self.directory / "supervisord.conf").write_text(
            f"[unix_http_server]\nfile={self.directory}/ctl\n"
            f"[supervisord]\nlogfile={self.directory}/supervisord.log\n"
            f"pidfile={self.directory}/pid\nchildlogdir={self.directory}\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            f"[supervisorctl]\nserverurl=unix://{self.directory}/ctl\n"
            f"[include]\nfiles={program}\n"
        )

    def _words(self, text: str) -> list[str]:
        return text.format(d=self.directory, s=self.directory / "mysite").split()

    def tell(self, what: str) -> None:
        words = self._words(getattr(self._supervisor, what))
        subprocess.run(words, check=True, timeout=60, capture_output=True, env=self.house.environ)

    @property
    def log(self) -> str:
        path = Path(self._words(self._supervisor.log)[0])
        return path.read_text(errors="replace") if path.exists() else ""

    def end(self) -> None:
        try:
            self.tell("stop")
            wait_until(lambda: not self.house.processes(), "the site to stop")
        finally:
            # supervise and its like don't die with their scanner: they are in its session
            self._daemon.send_signal(signal.SIGTERM)
            members = self._session()
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._daemon.wait()
            self.house.socket.unlink(missing_ok=True)
            shutil.rmtree(self.directory, ignore_errors=True)

    def _session(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.getsid(int(entry.name)) == self._daemon.pid:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found


@pytest.fixture(params=TABLE, ids=lambda row: row.kind)
def supervisor(request: pytest.FixtureRequest) -> Supervisor:
    row: Supervisor = request.param
    if not shutil.which(row.daemon.split()[0]):
        pytest.skip(f"{row.kind} is not installed")
    return row


Run = Callable[..., Running]


@pytest.fixture
def run(supervisor: Supervisor, house: House) -> Iterator[Run]:
    started: list[Running] = []

    def start(*options: str) -> Running:
        started.append(Running(supervisor, house, *options))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_start_serve_restart_stop_log(run: Run, house: House, supervisor: Supervisor) -> None:
    site = run()
    wait_until(house.serves, "a page")
    (pid,) = house.processes()
    found = house.socket.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o660)
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapPrm:\t0000000000000000" in status
    assert site.house.get("/admin/login/")[0] == 200

    with Load(house) as load:
        load.wait_for(5)
        site.tell("hangup")
        wait_until(lambda: "exiting: reloading" in site.log, "a reload")
        load.wait_for(10)
    assert set(load.statuses) == {200}
    assert house.processes() == [pid]

    site.tell("restart")
    wait_until(lambda: house.processes() not in ([pid], []) and house.serves(), "a restart")
    os.kill(house.processes()[0], signal.SIGKILL)  # it crashes, and is started again
    killed = house.processes()
    wait_until(lambda: house.processes() not in (killed, []) and house.serves(), "another start")

    site.tell("stop")
    wait_until(lambda: not house.processes(), "a stop")
    assert house.get()[0] == 502
    site.tell("start")
    wait_until(house.serves, "a page after the stop")
    if supervisor.kind == "s6":
        subprocess.run(["s6-svwait", "-U", "-t", "60000", site.directory / "mysite"], check=True)


def test_on_demand_a_restart_under_load_loses_nothing(run: Run, house: House) -> None:
    site = run("--on-demand")
    wait_until(house.socket.exists, "the socket")
    wait_until(house.serves, "a page")
    assert len(house.processes()) == 2  # the activator and the site
    with Load(house) as load:
        for _ in range(3):
            before = house.processes()
            load.wait_for(10)
            site.tell("hangup")
            wait_until(partial(_one_more_than, before, house), "a new one")
            load.wait_for(10)
    assert set(load.statuses) == {200}
    assert len(load.statuses) >= 60


def _one_more_than(before: list[int], house: House) -> bool:
    return len(set(house.processes()) - set(before)) == 1


def test_its_words_are_in_the_log(run: Run, house: House) -> None:
    site = run("--on-demand")
    wait_until(house.serves, "a page")
    wait_until(lambda: "a connection is waiting: started process" in site.log, "the log")
