"""The doctor stands on common ground only."""

import subprocess
import sys

_IMPORT = """
import importlib, pkgutil, sys
import sdactivate.doctor
for module in pkgutil.walk_packages(sdactivate.doctor.__path__, "sdactivate.doctor."):
    importlib.import_module(module.name)
wings = ("sdactivate.generate", "sdactivate.runtime", "sdactivate.servers", "jinja2", "flup")
print(*(name for name in sys.modules if name.startswith(wings)))
"""


def test_it_imports_neither_of_the_other_wings() -> None:
    argv = [sys.executable, "-c", _IMPORT]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "\n"
