"""What generating costs: many sites in a file, systemd's own generator, and one `gen` as typed.

`files`: `gen --from` for ten thousand sites, each round into a directory of its own, on this disk:
the first run, one in which nothing has changed, and one in which one site has. (What rounds have
written is removed in the end: ext4 is slow to give out inodes that were freed a moment ago.)

`reload`: a `systemctl daemon-reload` of the tests' own machine (tests/machine) with a thousand
sites in /etc/sdactivate and with none, in turn. Root only.

`start`: one `gen NAME` and `python -c "import jinja2"`, which it can't do without, in turn.
"""

import compileall
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.idle import timed, wheel
from bench.process import ROOT, Failed
from tests.machine.machine import Machine, install

CONFIG = "/etc/sdactivate/many.toml"


def table(count: int, changed: bool = False) -> str:
    """A file of `count` sites, with a socket and a service each; the last may have `changed`."""
    sites = (
        f'[sites.site-{number}]\napp = "mysite.wsgi:application"\nchdir = "/srv/site-{number}"\n'
        for number in range(count)
    )
    defaults = f'[defaults]\ngroup = "root"\npython = "{sys.executable}"\nthreads = 4\n'
    return defaults + "".join(sites) + ("threads = 8\n" if changed else "")


def measured(argv: list[str]) -> dict[str, Any]:
    """Run a command; the seconds it took, those of CPU, and the lines it printed."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen(argv, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failed(f"{' '.join(argv)} ended with {process.returncode}")
        out.seek(0)
        return {"s": took, "cpu_s": used.ru_utime + used.ru_stime, "lines": len(out.readlines())}


def files(directory: Path, count: int) -> list[dict[str, Any]]:
    """Write `count` sites, again, and again with one that has changed."""
    source, out = directory / "sites.toml", directory / "out"
    gen = [sys.executable, "-m", "sdactivate", "gen", "--from", str(source), "--out", str(out)]
    found = []
    for run, changed in (("first", False), ("nothing changed", False), ("one changed", True)):
        source.write_text(table(count, changed))
        found.append({"run": run, **measured(gen)})
    return found


def reload(machine: Machine, count: int) -> dict[str, float]:
    """Reload without sites and with `count` of them."""
    machine.run("rm", "-rf", CONFIG)
    machine.run("systemctl", "daemon-reload")  # those of the last round are to be forgotten first
    empty = timed(machine, "systemctl daemon-reload")
    machine.write(CONFIG, table(count).replace(sys.executable, machine.python))
    full = timed(machine, "systemctl daemon-reload")
    known = machine.run("systemctl", "list-unit-files", "--no-legend", "site-*.socket").stdout
    if len(known.splitlines()) != count:
        raise Failed(f"{len(known.splitlines())} sockets of {count} sites are known")
    return {"without_s": empty, "with_s": full}


def start() -> dict[str, float]:
    """Milliseconds of `gen NAME`, and of the one import that takes most of them.

    Both find compiled modules, as pip leaves them.
    """
    gen = [sys.executable, "-m", "sdactivate", "gen", "mysite", "--group", "root"]
    bare = [sys.executable, "-c", "import jinja2"]
    return {"gen_ms": measured(gen)["s"] * 1000, "jinja2_ms": measured(bare)["s"] * 1000}


def rounds(number: int, many: int, count: int) -> dict[str, Any]:
    """Measure all of it `number` times."""
    if os.geteuid():
        raise Failed("only root can boot a machine")
    compileall.compile_dir(ROOT / "sdactivate", quiet=1)
    result: dict[str, Any] = {"rounds": number, "many": many, "sites": count}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        places = [Path(directory, str(turn)) for turn in range(number)]
        for place in places:
            place.mkdir()
        result["file_system"] = subprocess.check_output(
            ["stat", "--file-system", "--format=%T", directory], text=True
        ).strip()
        result["files"] = [row for place in places for row in files(place, many)]
        result["start"] = [start() for _ in range(number * 10)]
        with Machine(install(wheel(directory), Path("/"))) as machine:
            machine.run("sdactivate", "generator", "--install")
            result["systemd"] = machine.run("systemctl", "--version").stdout.partition("\n")[0]
            result["reload"] = [reload(machine, count) for _ in range(number)]
    return result
