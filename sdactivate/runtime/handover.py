"""Hand the sockets over to a successor: new code without a pause.

The serving process replaces itself; there is no permanent master.

1. It starts a fresh interpreter with the command line, the environment and the directory it was
   started with itself, and the listening sockets as descriptors 3, 4, …. It serves on meanwhile.
2. The successor imports the application, begins to accept as well, and says so on a channel. If
   the channel ends instead, nothing has changed.
3. The old process tells systemd MAINPID= and READY=1 in one message (sd_notify(3); with
   NotifyAccess=main it is taken from the main process, which is still the old one), closes the
   channel, finishes what it has accepted, and leaves.
4. The end of the channel tells the successor that it is the main process now, and may speak.

The fresh interpreter is started by way of a relay, an interpreter without modules that forks
and leaves, so that the successor is a child of PID 1, as systemd expects of a main process.
Nothing is forked here: this process has threads, and a fork of it might inherit a lock.

The directory is the one that $PWD names, if it is the one we are in: where a release is a
symbolic link, the successor finds the new one. The command is looked up again in the same way.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

from sdactivate.runtime.activation import SOURCES, InheritedSocket

CHANNEL = "_SDACTIVATE_CHANNEL"
READY = b"ready\n"

# However the sockets came to this process, they go on announced; and whoever waits to hear that
# the service is ready has heard it. The environment outranks what the command line says of both.
_SETTLED = {"SDACTIVATE_FD": "", "SDACTIVATE_NOTIFY_FD": "0"}

# Runs in an interpreter of its own, with descriptors as they were here, from argv: the channel,
# the listening sockets, and behind "--" the command.
_RELAY = """\
import os, sys
if os.fork():
    os._exit(0)
end = sys.argv.index("--")
fds = [int(fd) for fd in sys.argv[1:end]]
# first out of the way of one another, then to their places
high = [os.dup2(os.dup(fd), 200 + i) for i, fd in enumerate(fds)]
os.closerange(3, 200)
sockets = high[1:]
for i, fd in enumerate(sockets):
    os.dup2(fd, 3 + i)
channel = os.dup2(high[0], 3 + len(sockets))
os.closerange(channel + 1, 200 + len(fds))
pid = str(os.getpid())
os.environ["LISTEN_PID"] = pid
os.environ["LISTEN_FDS"] = str(len(sockets))
os.environ["_SDACTIVATE_CHANNEL"] = str(channel)
if "WATCHDOG_PID" in os.environ:
    os.environ["WATCHDOG_PID"] = pid
os.write(channel, (pid + "\\n").encode())
try:
    os.execvp(sys.argv[end + 1], sys.argv[end + 1:])
except OSError as error:
    os.write(channel, f"{sys.argv[end + 1]}: {error.strerror}\\n".encode())
    os._exit(1)
"""


class Origin(NamedTuple):
    """How this process was started, to be taken down before anything changes it."""

    argv: list[str]
    environ: dict[str, str]
    directory: str

    @classmethod
    def now(cls) -> Origin:
        environ = _first_environ()
        for name in (CHANNEL, *(name for source in SOURCES for name in source.variables)):
            environ.pop(name, None)
        return cls(list(sys.orig_argv), environ, _logical_directory(environ))


def _first_environ() -> dict[str, str]:
    """The environment that exec gave this process: os.environ may have been changed since."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def _logical_directory(environ: dict[str, str]) -> str:
    """The working directory by the name it was asked for, symbolic links and all."""
    named = environ.get("PWD", "")
    try:
        if named.startswith("/") and os.path.samefile(named, "."):
            return named
    except OSError:
        pass
    return os.getcwd()


class Successor:
    """A successor that has been started and is not ready yet.

    channel: its end of the conversation, to be watched. pid: None until it has said it.
    """

    def __init__(self, origin: Origin, sockets: Sequence[InheritedSocket]) -> None:
        """Start one. Raises OSError where no process is to be had."""
        import subprocess

        self.channel, theirs = socket.socketpair()
        self.pid: int | None = None
        self.said = ""
        fds = [theirs.fileno(), *(inherited.sock.fileno() for inherited in sockets)]
        names = ":".join(inherited.name for inherited in sockets)
        relay = [origin.argv[0], "-I", "-S", "-c", _RELAY, *map(str, fds), "--", *origin.argv]
        try:
            # The relay leaves at once; what it starts says everything else on the channel
            subprocess.run(  # noqa: S603
                relay,
                cwd=origin.directory,
                env={**origin.environ, **_SETTLED, "LISTEN_FDNAMES": names},
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            self.channel.close()
            raise OSError(f"no successor could be started: {error}") from error
        finally:
            theirs.close()
        self.channel.setblocking(False)

    def hear(self) -> bool | None:
        """Take what it says: True: it is ready; False: it has gone; None: neither yet."""
        try:
            data = self.channel.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            return False
        if not data:
            return False
        text = self.said + data.decode("utf-8", "replace")
        if self.pid is None:
            number, end, text = text.partition("\n")
            if not end or not number.isdigit():
                self.said = number
                return None
            self.pid = int(number)
        self.said = text
        return True if READY.decode() in text else None

    def close(self) -> None:
        """End the conversation: if it was ready, it is the main process from now on."""
        self.channel.close()

    def kill(self) -> None:
        """Give it up."""
        if self.pid is not None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.channel.close()


def predecessor() -> socket.socket | None:
    """Return the channel to the process that this one is to succeed, None if there is none."""
    number = os.environ.pop(CHANNEL, "")
    if not number.isdigit():
        return None
    channel = socket.socket(fileno=int(number))
    channel.set_inheritable(False)
    return channel


def exec_again(origin: Origin, sockets: Sequence[InheritedSocket]) -> None:
    """Become a fresh interpreter with the same command line and sockets; never returns.

    For supervisors that know a service by its PID and nothing of MAINPID=: there is a pause of
    one start, in which connections wait in the backlog.
    """
    fds = [inherited.sock.fileno() for inherited in sockets]
    parked = [os.dup(fd) for fd in fds]
    while any(fd < 3 + len(fds) for fd in parked):
        parked = [os.dup(fd) for fd in parked]
    for place, fd in enumerate(parked, 3):
        os.dup2(fd, place, inheritable=True)
    environ = {
        **origin.environ,
        **_SETTLED,
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(fds)),
        "LISTEN_FDNAMES": ":".join(inherited.name for inherited in sockets),
    }
    sys.stdout.flush()
    os.chdir(origin.directory)
    os.execvpe(origin.argv[0], origin.argv, environ)  # noqa: S606
