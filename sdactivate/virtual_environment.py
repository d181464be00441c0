"""Find the virtual environment that an application brings along (PEP 405)."""

import os


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
