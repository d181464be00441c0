"""Hand the sockets over to a successor: new code without a pause.

The serving process replaces itself; there is no permanent master.

1. It starts a fresh interpreter with the command line, the environment and the directory it was
   started with itself, and the listening sockets as descriptors 3, 4, …. It serves on meanwhile.
2. The successor imports the application, begins to accept as well, and says so on a channel. If
   the channel ends instead, nothing has changed.
3. The old process tells systemd MAINPID= and READY=1 in one message (sd_notify(3); with
   NotifyAccess=main it is taken from the main process, which is still the old one), and the
   successor, on the channel, that it is the main process now, and may speak. A successor that
   is not told so before the channel or the old process ends has been given up, and leaves.
4. The old process finishes what it has accepted, and leaves. Should the service be stopped
   meanwhile, its main process waits for that: when it ends, systemd kills all that is left.

The fresh interpreter is started by way of a relay, an interpreter without modules that forks
and leaves, so that the successor is a child of PID 1, as systemd expects of a main process.
Nothing is forked here: this process has threads, and a fork of it might inherit a lock.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdactivate.runtime.reexec import Invocation
    from sdactivate.systemd.listen_fds import InheritedSocket

CHANNEL = "_SDACTIVATE_CHANNEL"
READY = b"ready\n"
MAIN = "main"
# Seconds, ample, for an interpreter without modules to fork and leave
_RELAY_S = 30.0

# Runs in an interpreter of its own, with descriptors as they were here, from argv: the channel,
# the listening sockets, and behind "--" the command.
_RELAY = """\
import os, sys
end = sys.argv.index("--")
fds = [int(fd) for fd in sys.argv[1:end]]
pid = os.fork()
if pid:
    os.write(fds[0], b"%d\\n" % pid)
    os._exit(0)
# First out of the way of one another, then to their places
high = []
for fd in fds:
    while fd < 3 + len(fds):
        fd = os.dup(fd)
    high.append(fd)
for place, fd in enumerate(high[1:] + high[:1], 3):
    os.dup2(fd, place)
channel = 2 + len(fds)
os.closerange(channel + 1, max(high) + 1)
pid = str(os.getpid())
os.environ["LISTEN_PID"] = pid
os.environ["LISTEN_FDS"] = str(len(fds) - 1)
os.environ["_SDACTIVATE_CHANNEL"] = str(channel)
if "WATCHDOG_PID" in os.environ:
    os.environ["WATCHDOG_PID"] = pid
try:
    os.execvp(sys.argv[end + 1], sys.argv[end + 1:])
except OSError as error:
    os.write(channel, f"{sys.argv[end + 1]}: {error.strerror}\\n".encode())
    os._exit(1)
"""


class Successor:
    """A successor that has been started and is not ready yet.

    channel: its end of the conversation, to be watched. said: why it is not ready.
    """

    def __init__(self, invocation: Invocation, sockets: Sequence[InheritedSocket]) -> None:
        """Start one. Raises OSError where no process is to be had."""
        import subprocess

        self.channel, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(inherited.sock.fileno() for inherited in sockets)]
        names = ":".join(inherited.name for inherited in sockets)
        relay = [
            invocation.argv[0],
            "-I",
            "-S",
            "-c",
            _RELAY,
            *map(str, fds),
            "--",
            *invocation.argv,
        ]
        try:
            # The relay leaves at once, and leaves word of whom it has started
            subprocess.run(  # noqa: S603
                relay,
                cwd=invocation.directory,
                env={**invocation.environ, "LISTEN_FDNAMES": names},
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                check=True,
                timeout=_RELAY_S,
            )
            self.channel.setblocking(False)
            number, _, self.said = (
                self.channel.recv(4096).decode("utf-8", "replace").partition("\n")
            )
            self.pid = int(number)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.channel.close()
            raise OSError(f"no successor could be started: {error}") from error
        finally:
            theirs.close()

    def hear(self) -> bool | None:
        """Take what it says: True: it is ready; False: it has gone; None: neither yet."""
        try:
            data = self.channel.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            return False
        self.said += data.decode("utf-8", "replace")
        if not data:
            return False
        return True if READY.decode() in self.said else None

    def confirm(self, since: float) -> None:
        """Tell it that it is the main process now, of a service that has been up since then."""
        try:
            self.channel.sendall(f"{MAIN} {since}\n".encode())
        except OSError:
            pass  # it has just died: the supervisor sees that, too
        self.channel.close()

    def kill(self) -> None:
        """Give it up."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.channel.close()


class Predecessor:
    """The process that this one is to succeed.

    channel: its end of the conversation. since: when the service began, in seconds of the epoch.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.since = time.time()
        # Who made the pair of sockets (unix(7), SO_PEERCRED)
        pid, _, _ = struct.unpack(
            "3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        # Neither the end of the channel (a forked child may hold it open) nor a number that may
        # be another's by then tells as surely that a process has ended
        try:
            self.process = os.pidfd_open(pid)
        except OSError:
            self.process = -1

    @classmethod
    def find(cls) -> Predecessor | None:
        """Return the one that has started this process, None if there is none."""
        number = os.environ.pop(CHANNEL, "")
        if not number.isdigit():
            return None
        channel = socket.socket(fileno=int(number))
        channel.set_inheritable(False)
        return cls(channel)

    def say(self, words: bytes) -> None:
        """Tell it READY, or why not."""
        try:
            self.channel.sendall(words)
        except OSError:
            pass  # it has gone: hear() says so too

    def hear(self) -> bool:
        """Take what it says; whether this is the main process now. If not, it has been given up."""
        try:
            word, _, since = self.channel.recv(4096).decode().partition(" ")
            if word == MAIN:
                self.since = float(since)
                return True
        except (OSError, ValueError):
            pass
        return False

    def close(self) -> None:
        """Ask no more after it."""
        if self.process >= 0:
            os.close(self.process)
        self.channel.close()

    @property
    def is_gone(self) -> bool:
        """Whether it has finished and left."""
        return self.process < 0 or bool(select.select([self.process], [], [], 0)[0])

    def kill(self) -> None:
        """End it: it does not leave."""
        try:
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        except OSError:
            pass  # it has left
