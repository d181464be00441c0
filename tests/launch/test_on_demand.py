"""The activator: started at the first connection, and again after it has left."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.launch.conftest import LAUNCH, PATIENCE, wait_until
from tests.processes import has_ended, state

SERVER = """\
import os, signal, socket, sys, time
assert os.environ["LISTEN_PID"] == str(os.getpid())
kind, log = sys.argv[1], open(sys.argv[2], "a", buffering=1)
listening = socket.socket(fileno=3)
def told(number, frame):
    print(signal.Signals(number).name, file=log)
    if number in (signal.SIGTERM, signal.SIGINT):
        sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, told)
print("started", file=log)
if kind == "crash":
    sys.exit(3)
if kind == "deaf":
    sys.exit(0)
while True:
    connection, _ = listening.accept()
    connection.sendall(b"%d" % os.getpid())
    connection.close()
    if kind == "once":
        time.sleep(1.1)
        sys.exit(0)
"""


class Activator:
    """A running `sdactivate launch --on-demand`."""

    def __init__(
        self,
        directory: Path,
        kind: str,
        *options: str,
        wrapper: Sequence[str] = (),
        talk: str = "",
    ) -> None:
        self.path, self.log = directory / "s", directory / "log"
        self.log.touch(mode=0o666)
        self.log.chmod(0o666)
        account = ["--run-as", "games"] if os.geteuid() == 0 else []
        self.talk = Path(talk or directory / "talk")
        command = [*wrapper, *LAUNCH, "--on-demand", "--listen", str(self.path), *account]
        command += [*options, "--", "/usr/bin/python3", "-I", "-c", SERVER, kind, str(self.log)]
        with self.talk.open("w") as file:
            self.process = subprocess.Popen(command, stderr=file)
        wait_until(lambda: self.handles(signal.SIGTERM), "the activator")

    def handles(self, number: signal.Signals) -> bool:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(line.split()[1] for line in status.splitlines() if "SigCgt" in line)
        return bool(int(caught, 16) >> (number - 1) & 1)

    def ask(self) -> int:
        """Connect; returns the process number of who answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(self.path))
            return int(client.recv(100))

    def children(self) -> list[int]:
        pid = self.process.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def told(self) -> list[str]:
        return self.log.read_text().split()


Activators = Callable[..., Activator]


@pytest.fixture
def activator(directory: Path) -> Iterator[Activators]:
    started: list[Activator] = []

    def start(kind: str, *options: str, **further: Any) -> Activator:
        started.append(Activator(directory, kind, *options, **further))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_nothing_runs_until_somebody_connects_and_then_one_serves_all(
    activator: Activators,
) -> None:
    site = activator("serve")
    assert site.children() == []
    pid = site.ask()
    assert [site.ask() for _ in range(5)] == [pid] * 5
    assert site.children() == [pid]
    assert os.getpgid(pid) == pid  # what is typed at the terminal comes from the activator only


def test_it_starts_again_after_leaving(activator: Activators) -> None:
    site = activator("once")
    first, second, third = site.ask(), site.ask(), site.ask()
    assert len({first, second, third}) == 3
    assert site.told() == ["started"] * 3


def test_the_activator_is_not_root_and_sleeps(activator: Activators) -> None:
    site = activator("serve")
    status = Path(f"/proc/{site.process.pid}/status")
    if os.geteuid() == 0:
        wait_until(lambda: "\nUid:\t5\t5\t5\t5\n" in status.read_text(), "root to be given up")
    wait_until(lambda: state(site.process.pid) == "S", "sleep")
    before = switches(status)
    for _ in range(200):
        os.sched_yield()
    assert switches(status) - before <= 1


def switches(status: Path) -> int:
    fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
    return int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])


@pytest.mark.parametrize("kind", ["crash", "deaf"])
def test_a_loop_of_failures_backs_off(activator: Activators, kind: str) -> None:
    site = activator(kind)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(site.path))
        wait_until(lambda: "waiting 2 s before" in site.talk.read_text(), "the second pause")
    assert site.told() == ["started"] * 2
    site.process.terminate()  # it leaves in the middle of a pause
    assert site.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on_and_waited_for(activator: Activators, number: signal.Signals) -> None:
    site = activator("serve")
    pid = site.ask()
    site.process.send_signal(number)
    assert site.process.wait(PATIENCE) == 0
    assert site.told() == ["started", signal.Signals(number).name]
    assert has_ended(pid)


def test_other_signals_are_passed_on(activator: Activators) -> None:
    site = activator("serve")
    pid = site.ask()
    site.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "SIGUSR1" in site.told(), "the signal")
    assert site.ask() == pid


def test_a_hangup_restarts_without_a_pause(activator: Activators) -> None:
    site = activator("serve")
    first = site.ask()
    site.process.send_signal(signal.SIGHUP)
    wait_until(lambda: site.children() == [], "the command to leave")
    assert site.ask() != first
    assert site.told() == ["started", "SIGTERM", "started"]
    assert "before the next start" not in site.talk.read_text()


class Held:
    """strace, that holds each child up before it has handlers of its own."""

    def __init__(self, directory: Path) -> None:
        self._trace = directory / "trace"
        self._trace.touch()

    def up(self, how: str) -> list[str]:
        command = ["strace", "-D", "-f", "-qq", "-o", str(self._trace), "-e", "trace=setsid"]
        return [*command, "-e", f"inject=setsid:{how}:when=1"]

    def wait(self, words: str, count: int = 1) -> None:
        wait_until(lambda: self._trace.read_text().count(words) == count, words)


@pytest.fixture
def held(directory: Path) -> Held:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    return Held(directory)


def test_a_hangup_while_the_command_is_being_started(activator: Activators, held: Held) -> None:
    site = activator("serve", wrapper=held.up("signal=STOP"))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(site.path))
        for count in (1, 2):  # the second one serves
            held.wait("stopped by", count)
            (child,) = site.children()
            if count == 1:
                site.process.send_signal(signal.SIGHUP)
                wait_until(partial(pending, child, signal.SIGTERM), "TERM")
            os.kill(child, signal.SIGCONT)
        assert [int(client.recv(100))] == site.children() == [child]
    assert "exited by signal SIGTERM" in site.talk.read_text()
    assert site.told() == ["started"]


def test_an_activator_killed_while_it_starts_the_command_leaves_none(
    activator: Activators, held: Held
) -> None:
    # not stopped: the kernel hangs up on a stopped process group that nobody minds any more
    site = activator("serve", wrapper=held.up("delay_enter=2000000"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(site.path))
        held.wait("setsid")
        (child,) = site.children()
        site.process.kill()
        site.process.wait()
        wait_until(lambda: is_gone(child), "the child's end")


def is_gone(pid: int) -> bool:
    try:
        return state(pid) == "Z"
    except FileNotFoundError:
        return True


def pending(pid: int, number: signal.Signals) -> bool:
    """Whether the signal has been sent to the process, and not arrived yet."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    return bool(int(fields["ShdPnd"], 16) >> (number - 1) & 1)


def test_a_hangup_ends_a_pause(activator: Activators) -> None:
    site = activator("crash")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(site.path))
        wait_until(lambda: "waiting 2 s before" in site.talk.read_text(), "the second pause")
        site.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: site.talk.read_text().count("waiting 1 s before") == 2, "a first one again"
        )


def test_a_log_that_is_full_stops_nobody(activator: Activators) -> None:
    site = activator("once", talk="/dev/full")
    assert site.ask() != site.ask()
    assert site.process.poll() is None


def test_a_process_that_cant_be_had_is_waited_for(activator: Activators) -> None:
    site = activator("serve", "--limit", "nproc=0")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(site.path))
        wait_until(lambda: "waiting 2 s before" in site.talk.read_text(), "the second pause")
    assert "can't start a process (Resource temporarily unav" in site.talk.read_text()
    site.process.terminate()
    assert site.process.wait(PATIENCE) == 0


def test_a_stop_while_nothing_runs(activator: Activators) -> None:
    site = activator("serve")
    site.process.terminate()
    assert site.process.wait(PATIENCE) == 0
    assert site.told() == []


def test_a_killed_activator_takes_its_command_with_it(activator: Activators) -> None:
    site = activator("serve")
    pid = site.ask()
    site.process.kill()
    site.process.wait()
    wait_until(lambda: is_gone(pid), "the command")
    assert site.told() == ["started", "SIGTERM"]


def test_a_connection_made_while_the_command_leaves_is_not_lost(activator: Activators) -> None:
    """Killed again and again with connections waiting: each is answered by somebody."""
    site = activator("once")
    clients = []
    for _ in range(4):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        client.connect(str(site.path))
        clients.append(client)
    answers = [int(client.recv(100)) for client in clients]
    for client in clients:
        client.close()
    assert len(set(answers)) == 4
