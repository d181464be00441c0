"""A server's processes: started on one core, measured, stopped.

CPU time is read from each process' own CPU clock (clock_getcpuclockid(3)): nanoseconds of user and
system time of all its threads, those that have ended too. Memory is PSS, the proportional set
size: a page that n processes share counts 1/n in each (proc_pid_smaps(5)).
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE, LOAD_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
MIB = 1 << 20

Address = Path | int
"""Where a server listens: the path of a unix socket, or a port of this host (127.0.0.1)."""


class Failed(Exception):
    """A server that did not start, or did not answer; the text says what it wrote."""


def environment(**more: str) -> dict[str, str]:
    """The environment of a server: nothing but what it needs, and `more`."""
    base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/", "PYTHONPATH": str(ROOT)}
    return base | more


def listen(address: Address) -> socket.socket:
    """A listening socket at `address`, as systemd would hold it."""
    if isinstance(address, int):
        return socket.create_server(("127.0.0.1", address), backlog=4096)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(address))
    listener.listen(4096)
    return listener


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def spawn(
    argv: list[str],
    log: Path,
    listener: socket.socket | None = None,
    cores: Collection[int] = (SERVER_CORE,),
    **env: str,
) -> int:
    """Start `argv` in a session of its own and return its PID; `log` takes what it writes.

    With `listener` it inherits that socket as systemd passes one: descriptor 3, LISTEN_FDS and
    LISTEN_PID. The process itself sets these and then becomes `argv`, so no wrapper stays.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.sched_setaffinity(0, cores)
        os.chdir(ROOT)
        for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
            name = os.devnull if number == 0 else log
            opened = os.open(name, flags | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(opened, number)
        if listener:
            env |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)
        os.execve(argv[0], argv, environment(**env))
    finally:
        os._exit(127)


def tree(pid: int) -> list[int]:
    """`pid` and all that descend from it, as they are now."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_ns(pid: int) -> int:
    """CPU time of one process, all its threads, in nanoseconds; 0 when it is gone."""
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)  # MAKE_PROCESS_CPUCLOCK, CPUCLOCK_SCHED
    except OSError:
        return 0


def tree_cpu_ns(pid: int) -> int:
    return sum(map(cpu_ns, tree(pid)))


def pss_mib(pid: int) -> float:
    """Memory of the process tree in MiB."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total / MIB


def ended(pid: int, seconds: float) -> bool:
    """Whether our child `pid` ends within `seconds`."""
    until = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.002)


def stop(pid: int, seconds: float = 5.0) -> None:
    """TERM, and KILL for what is left of its session after `seconds`."""
    family = tree(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    ended(pid, seconds)
    for each in family:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(each) == pid:
                os.kill(each, signal.SIGKILL)
    ended(pid, seconds)


def python(*argv: str) -> list[str]:
    """The command line of this interpreter."""
    return [sys.executable, *argv]


def script(name: str) -> str:
    """The path of a program installed beside this interpreter."""
    return str(Path(sys.executable).parent / name)
