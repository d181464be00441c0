"""What a process is to serve: the application, its sockets, its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sdactivate.runtime.reexec import Invocation
    from sdactivate.servers.api import Server
    from sdactivate.settings import Settings
    from sdactivate.systemd.listen_fds import InheritedSocket
    from sdactivate.systemd.notify import Supervisor


class Plan(NamedTuple):
    """A server to be made, its sockets, how it was all started, and who is told of it.

    load: imports the application if that has not been done; raises Error where it can't be.
    make: makes the server of one process, given the function that wakes its loop, and
    another application than the one that was loaded if there is to be one.
    sockets: all that were passed; metrics: those of them on which the figures are read.
    """

    load: Callable[[], None]
    make: Callable[..., Server]
    sockets: Sequence[InheritedSocket]
    settings: Settings
    invocation: Invocation
    supervisor: Supervisor
    metrics: Sequence[InheritedSocket] = ()
