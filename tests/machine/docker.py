"""Machines with Docker in them, an image that stands for Docker's official one, and swarms.

No registry can be reached, so the image that the Dockerfile starts from is made here, by `docker
import`: a small Debian with Python, HAProxy (a front), and what pip needs as wheels. Its dpkg says
that a compiler is installed, so that apt-get has nothing to fetch; there is none, which shows that
none is in the result. The real compiler is in tests/supervisors/test_image.py.
"""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.machine.machine import CACHE, CHECKOUT, Installation, Machine, debian, install, wheels

SUITE = "trixie"
DOCKER = ("docker.io", "docker-cli", "docker-compose", "iptables", "kmod")
BASE = "python:3.13-slim"
COMPILER = ("gcc", "libc6-dev", "pkg-config", "libsystemd-dev")
STANZA = """
Package: {0}
Status: install ok installed
Priority: optional
Section: devel
Maintainer: nobody <nobody@example.org>
Architecture: amd64
Version: 999
Description: {0}
"""
FRONT = """\
global
    stats socket /tmp/haproxy.sock
resolvers docker
    nameserver dns 127.0.0.11:53
    hold obsolete 0
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    option redispatch
    retries 3
frontend site
    bind :8080
    default_backend site
backend site
    option httpchk GET {ready}
    default-server check inter 500 fall 2 rise 1 resolvers docker init-addr none
    server-template task 6 {name}:8000
"""


def installation(wheel: Path) -> Installation:
    """Return what machines with Docker are made of."""
    said = subprocess.run(
        [CHECKOUT / "script" / "setup", "packages"], check=True, capture_output=True, text=True
    )
    return install(wheel, debian(SUITE, (*said.stdout.split(), *DOCKER)))


@contextlib.contextmanager
def docker(made: Installation) -> Iterator[Machine]:
    """A machine whose Docker runs; its images lie in memory."""
    with Machine(made) as machine:
        script = """
            for store in docker containerd; do
                mkdir -p /var/lib/$store
                mount -t tmpfs tmpfs /var/lib/$store
            done
            sysctl --quiet net.ipv4.ip_forward=1
            systemctl start containerd docker
        """
        machine.run("sh", "-ec", script)
        yield machine


def make_base(machine: Machine, made: Installation, wheel: Path, *needs: str) -> None:
    """Import the image that the site's is built from, with `needs` as wheels in it."""
    root = debian(SUITE, ("python3", "python3-venv", "haproxy"))
    found = wheels(made, wheel, *needs)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        # Hard links: files are replaced here, and never written to
        base = Path(directory, "base")
        subprocess.run(["cp", "-al", str(root), str(base)], check=True)
        status = (root / "var/lib/dpkg/status").read_text()
        more = {
            "etc/apt/sources.list": "",
            "etc/pip.conf": "[global]\nno-index = true\nfind-links = /wheels\n",
            "var/lib/dpkg/status": status + "".join(STANZA.format(name) for name in COMPILER),
        }
        for path, text in more.items():
            (base / path).unlink(missing_ok=True)
            (base / path).write_text(text)
        subprocess.run(["cp", "-al", str(found), str(base / "wheels")], check=True)
        unneeded = ("usr/share/doc", "usr/share/man", "var/cache/apt/*", "etc/apt/sources.list.d/*")
        tar = ["tar", "--create", "--file=-", *(f"--exclude=./{path}" for path in unneeded)]
        feed(machine, [*tar, "-C", str(base), "."], "docker", "import", "-", BASE)


def feed(machine: Machine, source: list[str], *argv: str) -> None:
    """Run `argv` in the machine with what the command `source` prints, out here."""
    with subprocess.Popen(source, stdout=subprocess.PIPE) as given:
        subprocess.run(
            machine.command(*argv),
            stdin=given.stdout,
            check=True,
            timeout=300,
            stdout=subprocess.DEVNULL,
        )
    assert given.returncode == 0


def build(machine: Machine, wheel: Path, name: str, *options: str, requirements: str = "") -> None:
    """Build the image `name` of what lies in /root/context, with a Dockerfile made by `options`."""
    feed(machine, ["cat", str(wheel)], "sh", "-ec", f"cat >/root/context/{wheel.name}")
    machine.write("/root/context/requirements.txt", requirements)
    text = machine.run(
        *(*machine.sdactivate, "gen", "mysite", "--kind", "dockerfile", "--base-image", BASE),
        *options,
    ).stdout
    machine.write("/root/context/Dockerfile", text)
    machine.run("docker", "build", "--quiet", "--tag", name, "/root/context", timeout=600)


def inspect(machine: Machine, *argv: str) -> list[dict[str, object]]:
    """What `docker inspect` and the like print."""
    found: list[dict[str, object]] = json.loads(machine.run("docker", *argv).stdout)
    return found


def join(first: Machine, second: Machine) -> None:
    """Connect two machines by a cable: 10.9.0.1 and 10.9.0.2."""
    ip = ["ip", "link", "add", "cable", "netns", str(first.pid), "type", "veth"]
    subprocess.run([*ip, "peer", "name", "cable", "netns", str(second.pid)], check=True)
    for number, machine in enumerate((first, second), 1):
        machine.run("ip", "address", "add", f"10.9.0.{number}/24", "dev", "cable")
        machine.run("ip", "link", "set", "cable", "up")
