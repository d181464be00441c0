"""What the tests of the fronts have found on each Debian: tests/machine/results/SUITE.json.

    FRONT_RESULTS=1 MACHINE_ROOT=trixie script/test tests/machine/test_fronts.py

keeps it (and tests/machine/test_asgi.py); docs/fronts.md and docs/asgi.md are made from it by
front_docs.py. A file has the fronts' versions, the day, and for each case what was not "ok": all
other checks of fronts.CHECKS were.
"""

import datetime
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from tests.machine.machine import Machine

RESULTS = Path(__file__).with_name("results")
TITLES = {"bookworm": "Debian 12", "trixie": "Debian 13", "sid": "Debian sid"}
"""The systems of which there are results, by their release's name."""
PACKAGES = {
    "nginx": "nginx",
    "apache": "apache2",
    "lighttpd": "lighttpd",
    "caddy": "caddy",
    "haproxy": "haproxy",
}

Version = tuple[int, ...]


def version(text: str) -> Version:
    """Return a front's own version, of its Debian package's: 1.26.3-3+deb13u11 is (1, 26, 3)."""
    upstream = text.rpartition(":")[2].partition("-")[0].partition("+")[0]
    return tuple(int(part) for part in upstream.split(".") if part.isdigit())


def installed(machine: Machine, front: str) -> str:
    """Return the version of a front's package in the machine."""
    query = ("dpkg-query", "--show", "--showformat=${Version}", PACKAGES[front])
    return machine.run(*query).stdout


def suite(machine: Machine) -> str:
    """Return the name of the machine's Debian; of testing and unstable it is sid."""
    script = '. /etc/os-release; echo "${VERSION_ID:+$VERSION_CODENAME}"'
    return machine.run("sh", "-c", script).stdout.strip() or "sid"


def read(name: str) -> dict[str, Any]:
    """Return what is kept of a system; nothing where there is nothing."""
    path = RESULTS / f"{name}.json"
    text = path.read_text() if path.exists() else ""
    return json.loads(text) if text else {}


def keep(machine: Machine, part: str, case: tuple[str, str], outcomes: dict[str, str]) -> None:
    """Keep the outcomes of a case, where FRONT_RESULTS asks for it.

    part: "fronts" (front and protocol) or "asgi" (front and server).
    """
    if not os.environ.get("FRONT_RESULTS"):
        return
    front, other = case
    name = suite(machine)
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.json", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = read(name)
        found["date"] = datetime.date.today().isoformat()
        found.setdefault("versions", {})[front] = installed(machine, front)
        differs = {check: what for check, what in sorted(outcomes.items()) if what != "ok"}
        found.setdefault(part, {})[f"{front}-{other}"] = differs
        file.truncate(0)
        file.write(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
