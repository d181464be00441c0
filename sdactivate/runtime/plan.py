"""The plan of a serving process: the application, its sockets, its settings."""

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
    """The server to create, its sockets, how the process was started, and whom to notify.

    load: imports the application unless that is done; raises Error if it fails. make: creates the
    server of one process, from the function that wakes its loop and, optionally, an application to
    use instead of the loaded one. sockets: all inherited sockets; metrics: those of them that serve
    the metrics.
    """

    load: Callable[[], None]
    make: Callable[..., Server]
    sockets: Sequence[InheritedSocket]
    settings: Settings
    invocation: Invocation
    supervisor: Supervisor
    metrics: Sequence[InheritedSocket] = ()
