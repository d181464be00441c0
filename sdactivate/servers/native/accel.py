"""Choose the hot path of the native server: compiled (`_accel`), or pure Python.

The compiled twin is used if the installation could build it. `SDACTIVATE_ACCEL=0` in the
environment turns it off. On an interpreter that runs without the global lock it is not imported,
since that would enable the lock again.
"""

from __future__ import annotations

import os
import sys
from typing import Any

VARIABLE = "SDACTIVATE_ACCEL"

INTERFACE = 3
"""The expected `_accel.INTERFACE`. In a checkout the compiled one may be older than its source."""


def _chosen() -> tuple[Any, str]:
    """Return the compiled module, or None and why it is not used."""
    if os.environ.get(VARIABLE) == "0":
        return None, f"{VARIABLE}=0"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None, "this interpreter runs without the global lock"
    try:
        from sdactivate.servers.native import _accel
    except ImportError:
        return None, "not compiled when sdactivate was installed"
    if _accel.INTERFACE != INTERFACE:
        return None, "compiled from another version of its source: install sdactivate again"
    return _accel, ""


module, why_not = _chosen()
"""The compiled module, or None and why it is not used."""

in_use = "pure Python" if module is None else "compiled"
"""The form in use, for messages."""
