"""Run daphne on the inherited socket without its own listening socket.

daphne inherits a socket through Twisted's endpoint `systemd:`. Twisted then treats a unix socket as
its own. It makes the file readable and writable for everyone, which fails for a user that does not
own it, and is worse for one that does. It calls listen() again, with a backlog of 50. When it
stops, it deletes the file and shuts the socket down, also for systemd, whose copy then refuses
every connection. The class below replaces Twisted's: it only accepts from the socket and leaves it
unchanged. Everything else is daphne's own, including its command line.
"""

from __future__ import annotations

from typing import Any

from daphne.cli import CommandLineInterface
from twisted.internet import tcp, unix


class InheritedPort(unix.Port):  # type: ignore[misc]
    """A unix socket that is already listening, and whose file belongs to another process."""

    _shouldShutdown = False  # Twisted's name for it; its TCP port does the same

    def startListening(self) -> None:
        """Start to accept, without bind(), chmod() or another listen()."""
        self.factory.doStart()
        self.socket = self._preexistingSocket
        self.fileno = self.socket.fileno
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        """Close this process's descriptor; the file stays."""
        tcp.Port.connectionLost(self, reason)


def main() -> None:
    """Run daphne with the arguments of this process."""
    unix.Port = InheritedPort
    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()
