"""A Python that other users can reach, wherever the checkout is."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent / "sdactivate"


def as_user(name: str) -> dict[str, Any]:
    """The arguments of subprocess that make it run as `name`: only root can use them."""
    account = pwd.getpwnam(name)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def reachable_python(name: str, library: Path) -> tuple[str, dict[str, str]]:
    """Return an interpreter that the user `name` can run, and the environment that takes.

    A checkout under /root is closed to others: its packages are then copied to `library`.
    """
    environ = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    if _works(sys.executable, environ, name):
        return sys.executable, environ
    shutil.copytree(next(Path(sys.prefix).glob("lib/python3*/site-packages")), library)
    shutil.copytree(PACKAGE, library / "sdactivate", dirs_exist_ok=True)
    environ["PYTHONPATH"] = str(library)
    python = os.path.realpath(sys.executable)
    assert _works(python, environ, name), f"{name} can't reach {python}"
    return python, environ


def _works(python: str, environ: dict[str, str], name: str) -> bool:
    probe = [python, "-c", "import django, sdactivate.systemd.listen_fds"]
    try:
        done = subprocess.run(probe, cwd="/", env=environ, capture_output=True, **as_user(name))
    except PermissionError:
        return False
    return done.returncode == 0
