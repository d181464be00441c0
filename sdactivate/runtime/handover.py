"""Start a successor and hand the sockets over to it: what the two processes say to each other.

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

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdactivate.runtime.main_loop import is_readable
from sdactivate.runtime.peers import peercred
from sdactivate.systemd import pass_fds

if TYPE_CHECKING:
    from sdactivate.runtime.reexec import Invocation
    from sdactivate.systemd.listen_fds import InheritedSocket

CHANNEL = "_SDACTIVATE_CHANNEL"
READY = b"ready\n"
MAIN = "main"
# Seconds, ample, for an interpreter without modules to fork and leave
_RELAY_S = 30.0


class Successor:
    """A successor that has been started and is not ready yet.

    channel: its end of the conversation, to be watched. said: why it is not ready.
    """

    def __init__(self, invocation: Invocation, sockets: Sequence[InheritedSocket]) -> None:
        """Start one. Raises OSError where no process is to be had."""
        self.channel, theirs = socket.socketpair()
        fds = [inherited.sock.fileno() for inherited in sockets]
        environ = {**invocation.environ, CHANNEL: str(pass_fds.targets(len(fds)).stop)}
        try:
            with theirs:
                relay = pass_fds.spawn_orphan(
                    invocation.argv,
                    environ,
                    invocation.directory,
                    fds,
                    [inherited.name for inherited in sockets],
                    theirs.fileno(),
                )
            self.pid, self.said = self._meet(relay)
        except OSError as error:
            self.channel.close()
            raise OSError(f"no successor could be started: {error}") from error
        self.channel.setblocking(False)

    def _meet(self, relay: int) -> tuple[int, str]:
        """Return the number of the process that the relay has started, and what else was said."""
        said = ""
        self.channel.settimeout(_RELAY_S)
        try:
            while not (found := re.search(r"^(\d+)\n", said, re.MULTILINE)):
                if not (data := self.channel.recv(4096)):
                    raise OSError(said.strip() or "the relay has ended without a word")
                said += data.decode("utf-8", "replace")
        except TimeoutError:
            os.kill(relay, signal.SIGKILL)
            raise
        finally:
            with contextlib.suppress(ChildProcessError):  # reaped, where SIGCHLD is ignored
                os.waitpid(relay, 0)
        return int(found[1]), said.replace(found[0], "", 1)

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
        pid, _, _ = peercred.credentials(channel)  # who made the pair of sockets
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
        return self.process < 0 or is_readable(self.process)

    def kill(self) -> None:
        """End it: it does not leave."""
        try:
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        except OSError:
            pass  # it has left
