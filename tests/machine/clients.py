"""Clients that keep asking a site of a machine while something happens to it."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.machine.machine import Machine

LOAD = Path(__file__).with_name("load.py")


@contextlib.contextmanager
def asking(
    machine: Machine, *addresses: tuple[str, str], clients: int = 4, pause: float = 0.01
) -> Iterator[dict[str, Any]]:
    """Keep every address busy; at the end the figures are in what was yielded.

    addresses: load.py's PROTOCOL and ADDRESS; the key of the figures is both, with a space.
    clients: for each address. pause: seconds, at most, after a request.
    """
    machine.write("/srv/load.py", LOAD.read_text())
    found: dict[str, Any] = {}
    running = {
        f"{protocol} {address}": machine.popen(
            *(machine.python, "/srv/load.py", protocol, address, str(clients), "300", str(pause)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for protocol, address in addresses
    }
    try:
        yield found
    finally:
        for name, process in running.items():
            out, _ = process.communicate(timeout=90)
            found[name] = json.loads(out)
