"""Run daphne on the inherited socket without its own listening socket.

daphne inherits a socket by Twisted's endpoint `systemd:`. Twisted then treats a unix socket as
its own: it makes the file readable and writable for the world, which fails for a user that does
not own it, and is worse for one that does; it calls listen() again, with a backlog of 50; and
when it stops it deletes the file and shuts the socket down, also for systemd, whose copy then
refuses every connection. The class below, which is put in the place of Twisted's, reads
from the socket and leaves it as it is. Everything else is daphne's own, its command line too.
"""

from __future__ import annotations

from typing import Any

from daphne.cli import CommandLineInterface
from twisted.internet import tcp, unix


class InheritedPort(unix.Port):  # type: ignore[misc]
    """A unix socket that listens already, and whose file is somebody else's."""

    _shouldShutdown = False  # Twisted's name for it; its TCP port does the same

    def startListening(self) -> None:
        """Begin to accept: nothing is bound, opened to others, or told to listen again."""
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
    """Be daphne, with the arguments of the process."""
    unix.Port = InheritedPort
    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()
