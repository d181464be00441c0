"""What it was measured on: the machine, the interpreter, the versions."""

import os
import platform
import shutil
import subprocess
import sys
import time
from typing import Any

from bench.process import LOAD_CORE, ROOT, SERVER_CORE
from bench.servers import SERVERS, version


def output(*argv: str) -> str:
    """What a command prints first, or "" where it is not installed."""
    if not shutil.which(argv[0]):
        return ""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The commit of this checkout, and "-dirty" where more than the results has changed since."""
    changed = output(
        *("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
    )
    return output("git", "rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def describe() -> dict[str, Any]:
    """The machine and the versions, for the head of a results file."""
    import django

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "cores_used": {"server": SERVER_CORE, "load": LOAD_CORE},
        "kernel": platform.release(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": f"{platform.python_version()} ({sys.base_prefix})",
        "nginx": output("nginx", "-v").partition("/")[2],
        "versions": {"Django": django.__version__}
        | {row.package: version(name) or "not installed" for name, row in SERVERS.items()},
    }
