"""Sites that nobody asks for: what a thousand cost, the first answer, and what leaving loses.

`sites`: the machine is the tests' own (tests/machine): a real systemd, with the sites' socket and
service units as `sdactivate gen` writes them, each site under a user of its own. Root only.

`leaving`: a process that leaves after 50 ms without a request, and a client that pauses for 50 to
75 ms, so that it comes while the process is leaving. The activator starts it when a client waits.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.activator import Activator
from bench.load import Bench
from bench.process import ROOT, Failed
from bench.servers import Case
from tests.machine.machine import Machine, install

# Seconds without a request after which a site's process leaves
IDLE_S = 2
LEAVE_MS = 50
# Runs inside: writes the units of the sites, from those of the one called NAME
COPY = """
import pathlib, sys
name, count = sys.argv[1], int(sys.argv[2])
units = pathlib.Path("/etc/systemd/system")
for kind in ("socket", "service"):
    text = (units / f"{name}.{kind}").read_text()
    for number in range(count):
        (units / f"site{number}.{kind}").write_text(text.replace(name, f"site{number}"))
    (units / f"{name}.{kind}").unlink()
"""


def wheel(directory: str, checkout: Path = ROOT) -> Path:
    """The wheel of a checkout, this one if no other is named: what the machine gets."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory]
    subprocess.run([*build, str(checkout)], check=True, stdout=subprocess.DEVNULL)
    (built,) = Path(directory).glob("*.whl")
    return built


def memory_kib(machine: Machine) -> int:
    """PSS of the machine's PID 1."""
    for line in machine.read("/proc/1/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise Failed("/proc/1/smaps_rollup has no Pss")


def timed(machine: Machine, script: str) -> float:
    """Seconds that a shell command takes inside."""
    began = time.monotonic()
    machine.run("sh", "-ec", script, timeout=600)
    return time.monotonic() - began


def processes(machine: Machine) -> int:
    """How many processes of sites there are."""
    found = machine.run("pgrep", "--count", "--full", "sdactivate serve", check=False)
    return int(found.stdout or 0)


def first_answer(machine: Machine, site: int) -> float:
    """Seconds from curl's connect to the first byte of the answer."""
    answer = machine.run(
        *("curl", "-sS", "--fail", "--output", "/dev/null", "--write-out", "%{time_starttransfer}"),
        *("--unix-socket", f"/run/site{site}.sock", "http://localhost/admin/login/"),
    )
    return float(answer.stdout)


def leaving(bench: Bench, times: int) -> dict[str, Any]:
    """Let the server leave `times` times while clients connect."""
    case = Case("sdactivate", "scgi", "trivial")
    activator = Activator(bench, case, SDACTIVATE_IDLE_TIMEOUT=f"{LEAVE_MS}ms")
    try:
        with bench.generate("scgi", c="1", t="36000", w=str(LEAVE_MS), j=str(LEAVE_MS / 2)) as load:
            try:
                while activator.started <= times:
                    if activator.ended(60) and activator.asked(60):
                        activator.spawn()
            finally:
                load.terminate()
                assert load.stdout
                report: dict[str, Any] = json.loads(load.stdout.read())
    finally:
        activator.close()
    return {"times": times, **report}


def sites(count: int) -> dict[str, Any]:
    """Boot a machine, give it `count` sites, and ask ten of them."""
    if os.geteuid():
        raise Failed("only root can boot a machine")
    with (
        tempfile.TemporaryDirectory() as directory,
        Machine(install(wheel(directory), Path("/"))) as machine,
    ):
        gen = f"sdactivate gen NAME --app mysite.wsgi:application --chdir /srv/mysite --python \
{machine.python} --idle-timeout {IDLE_S}s --group www-data --out /etc/systemd/system --kind"
        machine.run("sh", "-ec", f"{gen} socket; {gen} service")
        machine.run(machine.python, "-c", COPY, "NAME", str(count))
        sockets = f"$(seq --format site%.0f.socket 0 {count - 1})"
        before = memory_kib(machine)
        reload_s = timed(machine, "systemctl daemon-reload")
        start_s = timed(machine, f"systemctl start {sockets}")
        after = memory_kib(machine)
        running = processes(machine)
        chosen = range(0, count, max(1, count // 10))
        waits = [first_answer(machine, site) for site in chosen]
        awake = processes(machine)
        began = time.monotonic()
        machine.wait(lambda: not processes(machine), "every site asleep again", timeout=60)
        failed = machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout.split("\n")
        return {
            "sites": count,
            "systemd": machine.run("systemctl", "--version").stdout.partition("\n")[0],
            "pid1_kib_per_site": (after - before) / count,
            "daemon_reload_s": reload_s,
            "start_sockets_s": start_s,
            "processes_asleep": running,
            "first_answer_ms": [wait * 1000 for wait in waits],
            "processes_awake": awake,
            "asleep_again_s": time.monotonic() - began,
            "failed_units": [line.split()[0] for line in failed if line.startswith("site")],
            "first_answer_median_ms": statistics.median(waits) * 1000,
        }
