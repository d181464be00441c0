"""What a process is to serve, whether it serves by itself or with workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sdactivate.runtime.origin import Origin
    from sdactivate.runtime.serving import Serving
    from sdactivate.settings import Settings
    from sdactivate.systemd.listen_fds import InheritedSocket


class Plan(NamedTuple):
    """A server to be made, its sockets, and how it was all started.

    load: imports the application if that has not been done; raises Error where it can't be.
    make: makes the server of one process, given the function that wakes its steward, and
    another application than the one that was loaded if there is to be one.
    """

    load: Callable[[], None]
    make: Callable[..., Serving]
    sockets: Sequence[InheritedSocket]
    settings: Settings
    origin: Origin
