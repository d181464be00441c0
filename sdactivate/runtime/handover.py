"""Start a successor and hand the sockets over to it: the protocol between the two processes.

The serving process replaces itself; there is no permanent master process.

1. It starts a fresh interpreter with its own original command line, environment and directory, and
   the listening sockets as descriptors 3, 4, …. Meanwhile it goes on serving.
2. The successor imports the application, begins to accept as well, and reports that on a channel.
   If the channel is closed instead, nothing has changed.
3. The old process sends systemd MAINPID= and READY=1 in one message (sd_notify(3); with
   NotifyAccess=main systemd accepts it from the main process, which is still the old one). On the
   channel it tells the successor that it is now the main process and may notify systemd. If the
   channel is closed or the old process exits before that, the successor has been abandoned, and
   exits.
4. The old process finishes its accepted requests and exits. If the service is stopped meanwhile,
   the main process waits for that, because systemd kills all other processes when it exits.

The fresh interpreter is started through a relay, an interpreter without modules that forks and
exits, so that the successor is a child of PID 1, as systemd expects of a main process. This process
does not fork itself: it has threads, and the child could inherit a locked lock.
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
# Seconds for an interpreter without modules to fork and exit, with a large margin
_RELAY_S = 30.0


class Successor:
    """A successor that has been started and is not ready yet.

    channel: the socket to it, to be watched. said: why it is not ready.
    """

    def __init__(self, invocation: Invocation, sockets: Sequence[InheritedSocket]) -> None:
        """Start one. Raises OSError if no process can be started."""
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
            raise OSError(f"can't start a successor: {error}") from error
        self.channel.setblocking(False)

    def _meet(self, relay: int) -> tuple[int, str]:
        """Return the PID of the process that the relay has started, and the rest of its output."""
        said = ""
        self.channel.settimeout(_RELAY_S)
        try:
            while not (found := re.search(r"^(\d+)\n", said, re.MULTILINE)):
                if not (data := self.channel.recv(4096)):
                    raise OSError(said.strip() or "the relay exited without an answer")
                said += data.decode("utf-8", "replace")
        except TimeoutError:
            os.kill(relay, signal.SIGKILL)
            raise
        finally:
            with contextlib.suppress(ChildProcessError):  # already reaped, since SIGCHLD is ignored
                os.waitpid(relay, 0)
        return int(found[1]), said.replace(found[0], "", 1)

    def hear(self) -> bool | None:
        """Read its message. True: it is ready; False: it has exited; None: neither yet."""
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
        """Tell it that it is now the main process, of a service that started at `since`."""
        try:
            self.channel.sendall(f"{MAIN} {since}\n".encode())
        except OSError:
            pass  # it has just died, which the supervisor notices, too
        self.channel.close()

    def kill(self) -> None:
        """Abandon it."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.channel.close()


class Predecessor:
    """The old process, which this one is to replace.

    channel: the socket to it. since: when the service started, in seconds since the epoch.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.since = time.time()
        pid, _, _ = peercred.credentials(channel)  # the process that made the socket pair
        # A pidfd tells reliably that the process has exited. A forked child may keep the channel
        # open, and the PID may be reused
        try:
            self.process = os.pidfd_open(pid)
        except OSError:
            self.process = -1

    @classmethod
    def find(cls) -> Predecessor | None:
        """Return the process that has started this one for a reload; None if there is none."""
        number = os.environ.pop(CHANNEL, "")
        if not number.isdigit():
            return None
        channel = socket.socket(fileno=int(number))
        channel.set_inheritable(False)
        return cls(channel)

    def say(self, words: bytes) -> None:
        """Tell it READY, or the reason why not."""
        try:
            self.channel.sendall(words)
        except OSError:
            pass  # it has exited, which hear() reports, too

    def hear(self) -> bool:
        """Read its message; return whether this is the main process now, or else was abandoned."""
        try:
            word, _, since = self.channel.recv(4096).decode().partition(" ")
            if word == MAIN:
                self.since = float(since)
                return True
        except (OSError, ValueError):
            pass
        return False

    def close(self) -> None:
        """Stop watching it."""
        if self.process >= 0:
            os.close(self.process)
        self.channel.close()

    @property
    def is_gone(self) -> bool:
        """Whether it has finished and exited."""
        return self.process < 0 or is_readable(self.process)

    def kill(self) -> None:
        """Kill it, since it does not exit."""
        try:
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        except OSError:
            pass  # it has exited
