"""Detect that an application has replaced the standard library's threads (gevent, eventlet).

gevent.monkey.patch_all() and eventlet.monkey_patch() replace threads, locks, sockets and waits by
those for green threads. With them a threaded server hangs at its first wait. That can't be fixed
here, only reported.
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
# The originals at the import of this module, which is usually before the application's
_ORIGINALS: dict[ModuleType, dict[str, Any]] = {module: dict(vars(module)) for module in _MODULES}


class Patched(Error):
    """The application has replaced the standard library's threads."""


def check(name: str) -> None:
    """Undo the patch and raise Patched if the application `name` has replaced the threads.

    A patch from before the import of this module is detected but not undone.
    """
    if isinstance(_thread.start_new_thread, BuiltinFunctionType) and hasattr(select, "epoll"):
        return
    for module, originals in _ORIGINALS.items():
        vars(module).update(originals)
    by = next((known for known in ("gevent", "eventlet") if known in sys.modules), "something")
    raise Patched(
        f"importing {name} has replaced Python's threads ({by}'s monkey patch), but this server "
        f"needs real threads. Remove the patch, or use a server that supports {by}, such as "
        "gunicorn with its gevent worker"
    )
