"""What --allow-peer costs: the gate's check of one accepted connection, by rule.

CPU time of the process, so that what the machine does meanwhile hardly counts. The peer is another
process in a control group of its own, as systemd keeps each unit's. Root only: it makes that group.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdactivate.runtime.peers import units
from sdactivate.runtime.peers.gate import Gate
from sdactivate.systemd import cgroup

UNIT = "sdactivate-bench.service"
_JOIN = """
import socket, sys
open(sys.argv[2] + "/cgroup.procs", "w").write("0")
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print("there", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def peer(directory: Path) -> Iterator[int]:
    """The descriptor of a connection from a process that is in UNIT's control group."""
    root = cgroup.root()
    top = Path(root, "sdactivatebench.slice")
    (top / UNIT).mkdir(parents=True)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "gate.sock"))
            listener.listen(1)
            argv = [sys.executable, "-c", _JOIN, listener.getsockname(), str(top / UNIT)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen(argv, **pipes) as process:  # type: ignore[call-overload]
                process.stdout.readline()
                connection, _ = listener.accept()
                with connection:
                    yield connection.fileno()
                process.communicate(b"")
    finally:
        (top / UNIT).rmdir()
        top.rmdir()


def gates() -> dict[str, Gate]:
    """A gate for each way of checking that this kernel has."""
    found = {"no rule": Gate([]), "user:": Gate(["user:root"]), "group:": Gate(["group:root"])}
    unit = Gate([f"unit:{UNIT}"])
    if isinstance(unit._checks[0], units.ByCgroupId):
        found["unit:, by the kernel"] = unit
    by_proc = Gate([f"unit:{UNIT}"])
    by_proc._checks = (units.ByProc([UNIT]),)
    found["unit:, by /proc"] = by_proc
    return found


def microseconds(gate: Gate, fd: int, calls: int) -> float:
    """CPU time of one call."""
    began = time.process_time()
    for _ in range(calls):
        gate.admits(fd)
    return (time.process_time() - began) / calls * 1e6


def rounds(directory: Path, count: int, calls: int) -> dict[str, Any]:
    """Measure each gate `count` times in turn."""
    if os.geteuid() != 0:
        raise SystemExit("the gate is measured as root: it makes a control group for the peer")
    found: dict[str, list[float]] = {}
    with peer(directory) as fd:
        by_name = gates()
        for name, gate in by_name.items():
            if not gate.admits(fd):
                raise SystemExit(f"{name}: the peer is refused, so nothing would be measured")
        for _ in range(count):
            for name, gate in by_name.items():
                found.setdefault(name, []).append(microseconds(gate, fd, calls))
    return {
        "unit": "microseconds of CPU for each accepted connection",
        "rows": {
            name: {
                "median": round(statistics.median(values), 2),
                "min": round(min(values), 2),
                "max": round(max(values), 2),
            }
            for name, values in found.items()
        },
    }
