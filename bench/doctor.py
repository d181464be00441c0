"""What the doctor costs on a machine with hundreds of sites, and what it finds there.

The machine is the tests' own (tests/machine): a real systemd, with socket and service units and
nginx's configuration as `sdactivate gen` writes them. Every socket listens; some services run, and
some have failed. One `sdactivate doctor` looks at all of them. Root only.

CPU seconds are those of the doctor and of the commands that it runs (journalctl, systemctl), and
beside them those of systemd and journald, which answer it. Of several rounds the least counts: what
the machine does meanwhile only adds to it.
"""

import base64
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.idle import wheel
from bench.process import Failed
from tests.machine.machine import Machine, install

ACTIVE, FAILED = 40, 20
"""How many services run, and how many have failed."""

CONFIG = "/etc/sdactivate-bench.toml"
HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\\n"]
"""
# Runs inside: one doctor over all sites, and what it cost
ONCE = """
import json, os, resource, subprocess, sys, time

def ticks(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

main = ("systemctl", "show", "--value", "--property=MainPID", "systemd-journald")
journald = subprocess.check_output(main, text=True).strip()
before = ticks(1), ticks(journald)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
began = time.monotonic()
sites = [f"site-{number}" for number in range(int(sys.argv[1]))]
argv = [sys.executable, "-m", "sdactivate", "doctor", "--format", "json", *sites]
done = subprocess.run(argv, capture_output=True, text=True)
took = time.monotonic() - began
now = resource.getrusage(resource.RUSAGE_CHILDREN)
if not done.stdout:
    sys.exit(f"nothing was examined: {done.stderr}")
print(json.dumps({
    "s": took,
    "cpu_s": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
    "systemd_cpu_s": ticks(1) - before[0],
    "journald_cpu_s": ticks(journald) - before[1],
    "peak_mib": now.ru_maxrss / 1024,
    "said": done.stderr[-2000:],
    "found": sorted((it["rule"], it["subject"]) for it in json.loads(done.stdout)),
}))
"""


def table(count: int) -> str:
    """A file of `count` sites; of the first ones the application is there, of the next it isn't."""
    sites = (
        f'[sites.site-{number}]\nchdir = "/srv/hello"\nserver-name = "site-{number}.example.org"\n'
        + ('app = "missing:application"\n' if is_failing(number) else "")
        for number in range(count)
    )
    defaults = '[defaults]\ngroup = "www-data"\napp = "hello:application"\n'
    return defaults + f'python = "{Machine.python}"\n' + "".join(sites)


def is_failing(number: int) -> bool:
    """Whether the site of that number is one whose service has failed."""
    return ACTIVE <= number < ACTIVE + FAILED


def furnish(machine: Machine, count: int) -> None:
    """Give a machine `count` sites behind nginx, some active, some failed."""
    machine.write("/srv/hello/hello.py", HELLO)
    machine.write(CONFIG, table(count))
    gen = f"sdactivate gen --from {CONFIG} --force --out"
    failing = " ".join(f"site-{it}.service" for it in range(count) if is_failing(it))
    active = " ".join(f"site-{it}.service" for it in range(min(count, ACTIVE)))
    machine.run(
        "sh",
        "-ec",
        f"""
        {gen} /etc/systemd/system --kind socket >/dev/null
        {gen} /etc/systemd/system --kind service >/dev/null
        {gen} /etc/nginx/conf.d --kind nginx >/dev/null
        rm -f /etc/nginx/conf.d/mysite.conf
        {machine.python} -m compileall -q /srv/hello
        for unit in {failing}; do
            mkdir -p /etc/systemd/system/$unit.d
            printf '[Service]\\nRestart=no\\n' >/etc/systemd/system/$unit.d/no-restart.conf
        done
        systemctl daemon-reload
        systemctl start $(seq --format site-%.0f.socket 0 {count - 1})
        systemctl start nginx {active}
        systemctl start {failing} 2>/dev/null || true
        """,
        timeout=600,
    )


def measured(machine: Machine, python_path: str, count: int) -> dict[str, Any]:
    """One run of the doctor at `python_path` ("" for the one installed) over `count` sites."""
    env = {"PYTHONPATH": python_path} if python_path else {}
    done = machine.run(machine.python, "-c", ONCE, str(count), env=env, timeout=600)
    result: dict[str, Any] = json.loads(done.stdout)
    if result.pop("said"):
        raise Failed(f"the doctor could not examine all: {done.stdout}")
    return result


def bring(machine: Machine, built: Path, directory: str) -> None:
    """Unpack a wheel inside a machine."""
    text = base64.b64encode(built.read_bytes()).decode()
    unpack = f"""
import base64, compileall, io, sys, zipfile
zipfile.ZipFile(io.BytesIO(base64.b64decode(sys.stdin.read()))).extractall({directory!r})
compileall.compile_dir({directory!r}, quiet=1)
"""
    machine.run(machine.python, "-c", unpack, input=text)


def rounds(number: int, count: int, before: Path | None = None) -> dict[str, Any]:
    """Measure `number` times, in turns with the doctor of another checkout, `before`."""
    if os.geteuid():
        raise Failed("only root can boot a machine")
    if count < ACTIVE + FAILED:
        raise Failed(f"at least {ACTIVE + FAILED} sites are needed")
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        machine = stack.enter_context(Machine(install(wheel(place), Path("/"))))
        paths = {"now": ""}
        if before:
            other = stack.enter_context(tempfile.TemporaryDirectory())
            bring(machine, wheel(other, before), "/srv/before")
            paths["before"] = "/srv/before"
        furnish(machine, count)
        rows = list(_rows(machine, paths, number, count))
        systemd = machine.run("systemctl", "--version").stdout.partition("\n")[0]
    found = {json.dumps(row.pop("found")) for row in rows}
    return {
        "sites": count,
        "active": ACTIVE,
        "failed": FAILED,
        "systemd": systemd,
        "rounds": number,
        "same_findings": len(found) == 1,
        "findings": len(json.loads(found.pop())),
        "rows": rows,
    }


def _rows(
    machine: Machine, paths: dict[str, str], number: int, count: int
) -> Iterator[dict[str, Any]]:
    for turn in range(number):
        for which, path in paths.items():
            yield {"doctor": which, "round": turn + 1, **measured(machine, path, count)}
