"""Import libraries that a distribution's package brings along in a directory of its own.

Debian has no flup, and an httptools whose parser is not strict (packaging/debian). Its package of
sdactivate puts both into `sdactivate/_bundled`. What pip installs has no such directory.
"""

import os
import sys
from importlib import import_module
from typing import Any

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_bundled")


def prefer() -> None:
    """Let imports find the libraries of `DIRECTORY` before any others of their names."""
    if DIRECTORY not in sys.path and os.path.isdir(DIRECTORY):
        sys.path.insert(0, DIRECTORY)


def load(name: str) -> Any:
    """Return the module `name`: the bundled one, or the environment's where none is bundled.

    Raises ImportError where there is neither.
    """
    prefer()
    return import_module(name)
