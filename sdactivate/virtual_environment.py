"""Find the virtual environment that an application brings along (PEP 405)."""

import glob
import os
from collections.abc import Iterable


def interpreter_in(directory: str, python: str) -> str:
    """Return the interpreter of a virtual environment directly below `directory`, or "".

    "" as well if `python`, which the application runs with, belongs to such an environment.
    """
    try:
        tops = [f"{directory}/{name}" for name in sorted(os.listdir(directory))]
    except OSError:  # "" too
        return ""
    found = [
        top
        for top in tops
        if os.path.exists(f"{top}/pyvenv.cfg") and os.path.exists(f"{top}/bin/python")
    ]
    if not found or any(python.startswith(f"{top}/") for top in found):
        return ""
    return f"{found[0]}/bin/python"


def environments(roots: Iterable[str], module: str) -> list[str]:
    """Return the virtual environments in or beside `roots` that have the module `module`.

    module: a top-level module; "" for any environment.
    """
    places = {}
    for root in filter(os.path.isabs, roots):
        for place in (root, os.path.dirname(os.path.normpath(root))):
            places.update(dict.fromkeys([place, *sorted(glob.glob(f"{glob.escape(place)}/*"))]))
    found = [it for it in places if os.path.exists(f"{it}/pyvenv.cfg")]
    held = "lib/python3*/site-packages/"
    return [
        top
        for top in found
        if not module
        or glob.glob(f"{glob.escape(top)}/{held}{module}")
        or glob.glob(f"{glob.escape(top)}/{held}{module}.py")
    ]
