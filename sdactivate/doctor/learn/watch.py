"""Watch processes with strace(1) and record failed calls. The unit is not changed.

strace detaches when it is told to, when it is killed, or when this process is killed: the kernel
then signals strace. The processes continue unchanged.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from sdactivate.doctor.learn.calls import Call, Mark, parse
from sdactivate.doctor.learn.causes import TELLING
from sdactivate.errors import Error

_UNTOLD = (
    *("read", "write", "readv", "writev", "pread64", "pwrite64", "recvfrom", "recvmsg"),
    *("recvmmsg", "futex", "epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_ctl", "poll"),
    *("ppoll", "select", "pselect6", "accept", "accept4", "close", "lseek", "fstat", "nanosleep"),
    *("clock_nanosleep", "rt_sigaction", "rt_sigprocmask", "rt_sigtimedwait", "rt_sigsuspend"),
    *("wait4", "waitid", "restart_syscall", "sched_yield", "ioctl", "getpeername", "getsockname"),
    *("getsockopt", "setsockopt", "shutdown", "exit", "exit_group", "munmap", "madvise", "pause"),
)
"""Calls that no sandbox refuses. Printing them would only take time."""

HOOK = "/run/sdactivate-learn-"
"""The prefix of the path of the directory that holds hook.py."""

_MOST = 20000
"""How many kinds of refusals are kept; further ones are only counted."""
_MOST_LETTERS = 8 << 20
"""How many characters are kept in total: a traced program controls the length of its paths."""
_LONGEST = 8 << 10
"""The longest line of strace's that is read, in bytes: its limit for strings excludes paths."""
_LONGEST_ARGUMENTS = 1000  # characters that are kept
_ATTACHED_WITHIN = 20  # seconds
_NEAR = 20  # a thread's last failed calls, among which an exception's is looked for
_SINCE = (5, 2)  # strace knows status=


@dataclass
class Seen:
    """One kind of failed call: its first instance, and what is known about all of them."""

    call: Call
    process: str
    count: int = 0
    raised: str = ""
    """The exception that Python raised for it; "" if none is known."""
    lines: tuple[str, ...] = ()
    """FILE:LINE:FUNCTION, the innermost first."""
    has_reached_site: bool = False
    """Whether an exception has reached the site's own code, so that no library has handled it."""
    wanted: str = ""
    """HOST:PORT that the thread looked up just before."""


@dataclass
class _Thread:
    """The state of a thread while its lines are read."""

    recent: "deque[Seen]" = field(default_factory=lambda: deque(maxlen=_NEAR))
    looked_up: str = ""


class Watch:
    """strace, attached to processes and their descendants. A context manager.

    cwd: the working directory of the processes, as far as it is known.
    """

    def __init__(self, cwd: str = "") -> None:
        self.seen: dict[object, Seen] = {}
        self.failed = 0
        """How many of the calls that strace prints have failed."""
        self.dropped = 0
        self._letters = 0
        self._cwd = cwd
        self._threads: dict[int, _Thread] = {}
        self._raised: dict[str, Seen] = {}
        self._said: deque[str] = deque(maxlen=20)
        self._strace: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def attach(self, pids: Iterable[int]) -> None:
        """Attach to the processes `pids` and all their threads; return when it is done.

        Raises Error if strace is missing, too old, or can't attach.
        """
        pids = list(pids)
        output, ours = os.pipe()
        argv = [*_words(), "-o", f"/proc/self/fd/{ours}"]
        argv += [word for pid in pids for word in ("-p", str(pid))]
        try:
            self._strace = subprocess.Popen(  # noqa: S603 - our own words and numbers
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[ours],
                start_new_session=True,  # only this process gets ^C; it stops strace itself
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(ours)
        for read in (self._read_output(output), self._read_words(self._strace)):
            thread = threading.Thread(target=read, daemon=True)
            thread.start()
            self._readers.append(thread)
        deadline = time.monotonic() + _ATTACHED_WITHIN
        while not all(map(_is_traced, pids)):
            if self._strace.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = "; ".join(self._said) or "it printed no reason"
                raise Error(f"strace can't attach to process {pids[0]}: {said}")
            time.sleep(0.02)

    @property
    def is_on(self) -> bool:
        """Whether strace is running: it exits when the last of its processes has exited."""
        return self._strace is not None and self._strace.poll() is None

    @property
    def was_killed(self) -> bool:
        """Whether a signal has ended strace; asked before `stop`, which sends one."""
        return self._strace is not None and (self._strace.poll() or 0) < 0

    def stop(self) -> None:
        """Detach from the processes, and read the rest of strace's output."""
        if self._strace is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._strace.poll() is None:
                self._strace.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._strace.wait(10)
        for reader in self._readers:
            reader.join(10)

    def _read_output(self, descriptor: int) -> Callable[[], None]:
        def read() -> None:
            with open(descriptor, "rb") as lines:
                while line := lines.readline(_LONGEST):
                    if not line.endswith(b"\n") and len(line) == _LONGEST:
                        self.dropped += 1
                        while (line := lines.readline(_LONGEST)) and not line.endswith(b"\n"):
                            pass
                        continue
                    self._note(parse(line.decode(errors="surrogateescape"), self._cwd))

        return read

    def _read_words(self, process: "subprocess.Popen[bytes]") -> Callable[[], None]:
        def read() -> None:
            assert process.stderr
            for line in process.stderr:
                text = line.decode(errors="replace").strip()
                if not text.endswith(" attached"):
                    self._said.append(text.removeprefix("strace: "))

        return read

    def _note(self, found: Call | Mark | None) -> None:
        if found is None:
            return
        thread = self._threads.get(found.pid)
        if thread is None:
            if len(self._threads) > _MOST:
                self._threads.clear()
            thread = self._threads[found.pid] = _Thread()
        if isinstance(found, Mark):
            self._told(thread, found)
            return
        self.failed += 1
        if found.errno not in TELLING or found.process.startswith("("):
            return
        if any(path.startswith(HOOK) for path in found.paths):
            return
        key = (found.name, found.errno, found.paths, found.process, _alike(found.arguments))
        one = self.seen.get(key)
        if one is None:
            arguments = found.arguments[:_LONGEST_ARGUMENTS]
            letters = len(arguments) + sum(map(len, found.paths))
            if len(self.seen) >= _MOST or not self._has_room(letters):
                self.dropped += 1
                return
            process = _process(found)
            kept = found._replace(process=process, arguments=arguments)
            one = self.seen[key] = Seen(kept, process)
        one.count += 1
        if found.name in ("socket", "connect"):
            one.wanted = one.wanted or thread.looked_up
        thread.recent.append(one)

    def _has_room(self, letters: int) -> bool:
        """Return whether this many more characters can be kept; if so, count them."""
        if self._letters + letters > _MOST_LETTERS:
            return False
        self._letters += letters
        return True

    def _told(self, thread: _Thread, mark: Mark) -> None:
        """Store what hook.py reported with the call it is about: the thread's last that matches."""
        if mark.kind == "lookup":
            thread.looked_up = ":".join(mark.lines[:2])[:300]
        elif mark.kind == "reached":
            for number in mark.lines:
                if one := self._raised.get(number):
                    one.has_reached_site = True
        else:
            for one in reversed(thread.recent):
                if mark.errno and _NUMBERS.get(one.call.errno) != mark.errno:
                    continue
                if not one.raised:
                    one.raised = mark.kind
                    one.lines = mark.lines if self._has_room(sum(map(len, mark.lines))) else ()
                if len(self._raised) > _MOST:
                    self._raised.clear()
                self._raised[mark.number] = one
                return
            # Another exception has this number now
            self._raised.pop(mark.number, None)


_NUMBERS = {name: number for number, name in errno.errorcode.items()}

_CHANGES = re.compile(r"0x[0-9a-f]+|\b\d+(?=<)|<(?:socket|pipe|anon_inode):[^>]*>")


def _alike(arguments: str) -> str:
    """Return arguments without what differs from call to call: addresses, descriptors."""
    return _CHANGES.sub("", arguments)[:400]


def _process(call: Call) -> str:
    """Return the present name of the process: strace shows the one from before an exec."""
    try:
        with open(f"/proc/{call.pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return call.process


def _is_traced(pid: int) -> bool:
    """Return whether all threads of a process are traced, or it has ended."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    for thread in threads:
        with suppress(OSError), open(f"/proc/{pid}/task/{thread}/status") as file:
            if "\nTracerPid:\t0\n" in file.read():
                return False
    return True


def _words() -> list[str]:
    """Return strace's command line. Raises Error if strace is missing or too old."""
    strace = shutil.which("strace")
    if not strace:
        raise Error(
            "--learn needs strace, which isn't installed: apt-get install strace (Debian, Ubuntu), "
            "dnf install strace (Fedora), pacman -S strace (Arch)"
        )
    said = _output(strace, "-V")
    found = re.match(r"strace -- version (\d+)\.(\d+)", said)
    if not found or (int(found[1]), int(found[2])) < _SINCE:
        raise Error(f"{strace}: --learn needs version {'.'.join(map(str, _SINCE))} or later")
    names = ["-Y"] if _output(strace, "-Y", "-V") else []
    # The kernel sends strace SIGTERM when this process ends, even if it is killed.
    ended = [setpriv, "--pdeathsig=TERM"] if (setpriv := shutil.which("setpriv")) else []
    calls = ",".join(f"?{name}" for name in _UNTOLD)
    return [
        *(*ended, strace, "-f", "-y", *names, "-s", "200"),
        *("-e", "status=failed,unfinished,detached", "-e", f"trace=!{calls}"),
    ]


def _output(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if not done.returncode else ""
