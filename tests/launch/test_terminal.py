"""Root's terminal, keyring, environment and signals: nothing of it reaches the command."""

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdactivate.launch import syscalls
from tests.launch.conftest import LAUNCH, PATIENCE, Launch, needs_root, wait_until
from tests.processes import has_ended

pytestmark = needs_root

# Tries what a hostile application would, writes what came of it to a file, and waits for ^C.
HOSTILE = """\
import fcntl, json, os, signal, sys, termios, time
def attempt(do):
    try:
        return str(do())
    except OSError as error:
        return error.strerror
def push(fd):
    return fcntl.ioctl(fd, termios.TIOCSTI, b"!")
def retake(fd):
    if os.fork() == 0:
        os.setsid()
        found = attempt(lambda: fcntl.ioctl(fd, termios.TIOCSCTTY, 0))
        os.write(out, found.encode())
        os._exit(0)
    os.wait()
    return os.read(back, 1000).decode()
back, out = os.pipe()
found = {
    "tty": attempt(lambda: os.open("/dev/tty", os.O_RDWR)),
    "push": [attempt(lambda: push(fd)) for fd in range(3)],
    "retake": [attempt(lambda: retake(fd)) for fd in range(3)],
    "read": [attempt(lambda: os.read(fd, 1)) for fd in range(3)],
    "session": [os.getpid(), os.getpgid(0), os.getsid(0), os.getppid()],
    "stdin": os.readlink("/proc/self/fd/0"),
}
class Told(Exception): pass
def told(number, frame):
    raise Told(number)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, told)
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(found, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
try:
    time.sleep(100)
except Told as error:
    with open(sys.argv[1] + ".told", "w") as file:
        file.write(signal.Signals(error.args[0]).name)
"""
REFUSED = ("Operation not permitted", "Inappropriate ioctl for device", "Input/output error")


class Terminal:
    """A pseudoterminal, and a process for which it is the controlling terminal."""

    def __init__(self, command: list[str]) -> None:
        self.shown = b""
        self.pid, self._master = pty.fork()
        if not self.pid:
            os.execv(command[0], command)

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def drain(self) -> None:
        while select.select([self._master], [], [], 0)[0]:
            try:
                self.shown += os.read(self._master, 4096)
            except OSError:  # the other end is closed: EIO, pty(7)
                return

    def gone(self) -> bool:
        self.drain()
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> int:
        """Wait for the end of the process; returns its exit status, as a shell has it."""
        wait_until(self.gone, "the end of the process at the terminal")
        status = os.waitpid(self.pid, 0)[1]
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Callable[[list[str]], Terminal]]:
    started: list[Terminal] = []

    def start(command: list[str]) -> Terminal:
        started.append(Terminal(command))
        return started[-1]

    yield start
    for each in started:
        each.close()


At = Callable[[list[str]], Terminal]


@pytest.fixture
def result(directory: Path) -> Path:
    open_to_all = directory / "results"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    return open_to_all / "found"


def command(directory: Path, result: Path, *options: str) -> list[str]:
    words = [*LAUNCH, "--listen", f"{directory}/s", "--run-as", "games", *options]
    return [*words, "--", "/usr/bin/python3", "-I", "-c", HOSTILE, str(result)]


def as_leader(words: list[str]) -> list[str]:
    """The launcher itself is what the terminal was opened for, as by `ssh -t HOST COMMAND`."""
    return words


def as_job(words: list[str]) -> list[str]:
    """An interactive shell gives each command a process group of its own."""
    return ["/bin/bash", "--norc", "-ic", f"{shlex.join(words)}; exit $?"]


def in_a_script(words: list[str]) -> list[str]:
    """The command is in the process group of the script."""
    return ["/bin/sh", "-c", f"{shlex.join(words)}; exit $?"]


STOPPED = (0, 130, -signal.SIGINT)  # the shell itself is told, too
WAYS = pytest.mark.parametrize("way", [as_leader, as_job, in_a_script])
Way = Callable[[list[str]], list[str]]


def look(result: Path, at: Terminal) -> dict[str, Any]:
    def there() -> bool:
        at.drain()
        return result.exists()

    wait_until(there, f"the command; it said {at.shown!r}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def is_harmless(found: dict[str, Any]) -> None:
    assert found["tty"] == "No such device or address"
    assert found["stdin"] == "/dev/null"
    assert set(found["push"]) <= set(REFUSED)
    assert set(found["retake"]) <= set(REFUSED)
    # /dev/null is at its end, and the others can't be read
    assert found["read"] == ["b''", "Bad file descriptor", "Bad file descriptor"]


@WAYS
def test_the_command_can_neither_type_nor_read_and_ctrl_c_stops_it(
    terminal: At, directory: Path, result: Path, way: Way
) -> None:
    at = terminal(way(command(directory, result)))
    is_harmless(look(result, at))
    at.type(b"\x03")
    assert at.end() in STOPPED
    assert Path(f"{result}.told").read_text() == "SIGINT"


@WAYS
def test_on_demand_nothing_of_the_terminal_is_passed_on_and_ctrl_c_stops_it(
    terminal: At, directory: Path, result: Path, way: Way
) -> None:
    at = terminal(way(command(directory, result, "--on-demand")))
    wait_until((directory / "s").exists, "the socket")
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    wait_until(
        lambda: (
            not subprocess.run(
                [sys.executable, "-c", knock, f"{directory}/s"], capture_output=True
            ).returncode
        ),
        "a connection",
    )
    found = look(result, at)
    is_harmless(found)
    pid, group, session, parent = found["session"]
    assert pid == group == session != parent
    at.type(b"\x03")
    assert at.end() in STOPPED
    assert Path(f"{result}.told").read_text() == "SIGINT"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_what_stays_at_the_terminal_has_no_rights_and_passes_signals_on(
    terminal: At, directory: Path, result: Path, number: signal.Signals
) -> None:
    at = terminal(command(directory, result))
    look(result, at)
    status = Path(f"/proc/{at.pid}/status").read_text()
    assert "\nUid:\t5\t5\t5\t5\n" in status
    assert re.search(r"\nCapPrm:\t0+\n", status)
    assert "\nNoNewPrivs:\t1\n" in status
    sockets = [os.readlink(fd) for fd in Path(f"/proc/{at.pid}/fd").iterdir()]
    assert not [name for name in sockets if name.startswith("socket:")]
    os.kill(at.pid, number)
    assert at.end() == 0
    assert Path(f"{result}.told").read_text() == number.name


def test_it_ends_as_the_command_ends_and_not_without_it(
    terminal: At, directory: Path, result: Path
) -> None:
    launched = [*LAUNCH, "--listen", f"{directory}/s", "--run-as", "games", "--"]
    assert terminal([*launched, "/bin/sh", "-c", "exit 7"]).end() == 7
    assert terminal([*launched, "/bin/sh", "-c", "kill -KILL $$"]).end() == -signal.SIGKILL
    at = terminal(command(directory, result))
    (pid, *_) = look(result, at)["session"]
    os.kill(at.pid, signal.SIGKILL)
    wait_until(lambda: has_ended(pid), "the command's end")


# Its own session keyring, and what comes of reading another one: KEYCTL_READ of keyctl(2)
READ = """\
import json, os, runpy, sys
kernel = runpy.run_path(sys.argv[1])
try:
    found = kernel["_keyctl"]("KEYCTL_READ", 11, int(sys.argv[2]))
except OSError as error:
    found = os.strerror(error.errno)
print(json.dumps([kernel["session_keyring"](), found]))
"""


def test_the_session_keyring_is_another_one(directory: Path) -> None:
    try:
        syscalls.session_keyring()
    except OSError:
        pytest.skip("keyctl(2) is closed here")
    source = directory / "syscalls.py"
    source.write_text(Path(syscalls.__file__).read_text())
    # root's: this process is in it until the exec, and would be after it
    outer = (
        "import os, sys; from sdactivate.launch import syscalls\n"
        "outside = str(syscalls.join_session_keyring()); print(outside, flush=True)\n"
        "os.execv(sys.executable, [*sys.argv[1:], outside])"
    )
    words = [*LAUNCH, "--listen", f"{directory}/s", "--run-as", "games"]
    words += ["--", "/usr/bin/python3", "-I", "-c", READ, str(source)]
    done = subprocess.run(
        [sys.executable, "-c", outer, *words], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    outside, found = done.stdout.splitlines()
    inside, read = json.loads(found)
    assert inside != int(outside)
    assert read == "Permission denied"


SHOW = ("/usr/bin/python3", "-I", "-c", "import json, os; print(json.dumps(dict(os.environ)))")
SECRETS = {"AWS_SECRET_ACCESS_KEY": "x", "DATABASE_URL": "y", "SSH_AUTH_SOCK": "/root/agent"}
HARMLESS = {"PATH": "/usr/bin:/bin", "LC_TIME": "C", "SDACTIVATE_THREADS": "3", "TZ": "UTC"}
NEW = {"USER", "LOGNAME", "HOME", "SHELL", "LISTEN_PID", "LISTEN_FDS", "LC_CTYPE"}


def shown(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    variables: dict[str, str] = json.loads(done.stdout)
    return variables


def test_roots_environment_stays_roots(launch: Launch, directory: Path) -> None:
    words = ("--listen", f"{directory}/s", "--run-as", "games")
    env = {**SECRETS, **HARMLESS}
    done = launch(*words, "--", *SHOW, env=env)
    found = shown(done)
    assert {name: found[name] for name in found if name not in NEW} == HARMLESS
    assert "environment: AWS_SECRET_ACCESS_KEY, DATABASE_URL. --env NAME" in done.stderr
    assert "SSH_AUTH_SOCK" not in done.stderr  # no site misses it
    done = launch(*words, "--env", "DATABASE_URL", "--", *SHOW, env=env)
    assert shown(done)["DATABASE_URL"] == "y"
    assert "DATABASE_URL" not in done.stderr
    kept = launch(*words, "--keep-env", "--", *SHOW, env=env)
    assert {name: shown(kept)[name] for name in env} == env
    least = shown(launch(*words, "--clear-env", "--", *SHOW, env=env))
    assert set(least) - NEW == {"PATH"}
    assert "environment" not in kept.stderr
    assert launch(*words, "--keep-env", "--clear-env", "--", *SHOW).returncode == 2
    done = launch(*words, "--env", "NOWHERE", "--", *SHOW)
    assert done.returncode == 2
    assert "--env NOWHERE: the launcher has no variable NOWHERE" in done.stderr


def test_what_blocks_or_opens_is_not_inherited(launch: Launch, directory: Path) -> None:
    """A blocked TERM, an ignored CHLD, and a umask that lets everyone write."""
    look = "grep -E 'SigBlk|SigIgn|Umask' /proc/self/status"
    outer = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "os.umask(int(sys.argv[1], 8)); os.execv(sys.executable, sys.argv[2:])"
    )
    for number, given, umask in ((0, "000", 0o022), (1, "027", 0o027)):
        words = (*LAUNCH, "--listen", f"{directory}/{number}", "--run-as", "games")
        outer_ = [sys.executable, "-c", outer, given, *words, "--", "/bin/sh", "-c", look]
        found = dict(
            line.split(":\t") for line in subprocess.check_output(outer_, text=True).splitlines()
        )
        assert int(found["Umask"], 8) == umask
        assert int(found["SigBlk"], 16) == 0
        ignored = int(found["SigIgn"], 16)
        assert not ignored >> (signal.SIGCHLD - 1) & 1
        assert ignored >> (signal.SIGHUP - 1) & 1, "nohup(1) is meant"
