"""Import the libraries that a distribution's package bundles in a directory of its own.

Debian does not package flup, and its httptools has a parser that is not strict (packaging/debian).
The Debian package of sdactivate has both in `sdactivate/_bundled`. An installation by pip has no
such directory.
"""

import os
import sys
from importlib import import_module
from typing import Any

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_bundled")


def prefer() -> None:
    """Make imports find the libraries in `DIRECTORY` before others of the same name."""
    if DIRECTORY not in sys.path and os.path.isdir(DIRECTORY):
        sys.path.insert(0, DIRECTORY)


def load(name: str) -> Any:
    """Return the module `name`: the bundled one, else the environment's.

    Raises ImportError if there is neither.
    """
    prefer()
    return import_module(name)
