"""granian behind systemd-socket-proxyd, by the units and commands that docs/servers.md has."""

import re

from tests.machine.machine import CHECKOUT, Machine

PAGE = CHECKOUT / "docs" / "servers.md"
PRIVATE = "/run/mysite-granian/http.sock"


def units() -> dict[str, str]:
    """Return the page's unit files by path."""
    found = re.findall(r"(?ms)^```ini\n# (/etc/systemd/system/\S+)\n(.*?)^```", PAGE.read_text())
    return dict(found)


def commands() -> str:
    """Return the commands that come before them."""
    (section,) = re.findall(r"(?ms)^## granian behind a proxy\n(.*?)^```ini", PAGE.read_text())
    return "\n".join(re.findall(r"(?m)^    (.+)", section))


def deploy(machine: Machine) -> None:
    """Put all of it into the machine, with nginx in front; nothing is started but the socket."""
    machine.run("sh", "-ec", commands())
    for path, text in units().items():
        machine.write(path, text)
    machine.run("sh", "-ec", "systemctl daemon-reload; systemctl start mysite.socket nginx")
