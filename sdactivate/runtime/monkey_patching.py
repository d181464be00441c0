"""Notice that an application has replaced the standard library's threads (gevent, eventlet).

gevent.monkey.patch_all() and eventlet.monkey_patch() put green threads in the place of threads,
and locks, sockets and waits that suit them. A server of threads that is given those stands still at
the first thing that it waits for. That can't be made to work from here; it can be said.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import socket
import sys
import threading
import time
from types import BuiltinFunctionType, ModuleType
from typing import Any

from sdactivate.errors import Error

_MODULES: tuple[ModuleType, ...] = (_thread, os, select, signal, socket, threading, time)
# As they were when this module was imported, as a rule before the application
_ORIGINALS: dict[ModuleType, dict[str, Any]] = {module: dict(vars(module)) for module in _MODULES}


class Patched(Error):
    """`serve`: the application has replaced the standard library's threads: gevent, eventlet."""


def check(name: str) -> None:
    """Raise Patched if the application called `name` has replaced the threads; undo that first.

    What it has replaced before this module was imported is noticed, but stays.
    """
    if isinstance(_thread.start_new_thread, BuiltinFunctionType) and hasattr(select, "epoll"):
        return
    for module, originals in _ORIGINALS.items():
        vars(module).update(originals)
    by = next((known for known in ("gevent", "eventlet") if known in sys.modules), "something")
    raise Patched(
        f"importing {name} has replaced Python's threads ({by}'s monkey patch): this server runs "
        f"real threads. Remove the patch; or serve with a server that {by} knows, such as "
        "gunicorn with its gevent worker"
    )
