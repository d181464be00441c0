"""Find the virtual environments of a site by the modules that they have (PEP 405)."""

import glob
import os
from collections.abc import Iterable


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
