"""On another Python than CPython nothing is served, and a sentence says so."""

import subprocess
import sys

CODE = """
import sys
sys.implementation.name = "pypy"
from sdactivate import serve
serve("os:getcwd")
"""


def test_another_python_is_refused_in_a_sentence() -> None:
    """What PyPy lacks is not taken away here: it is told by its name alone."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"{sys.executable}: sdactivate serve needs CPython, and this is pypy" in done.stderr
    assert "Traceback" not in done.stderr
