"""The units of docs/servers.md for granian: they serve, and nobody else comes in."""

import re
from pathlib import Path

import pytest

from tests.machine import proxied
from tests.machine.machine import EXTRAS, Installation, Machine, asked_for, install

SERVICES = ("mysite.service", "mysite-granian.service")
NEW = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"new code"]
"""


@pytest.fixture(scope="module")
def installation(fitting_wheel: Path) -> Installation:
    """With granian, as test_servers.py."""
    return install(fitting_wheel, asked_for(), (*EXTRAS, "servers"))


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    """The machine with the documented units; no request made yet."""
    proxied.deploy(machine)
    return machine


def status(machine: Machine) -> str:
    return machine.curl("/status?code=202", "-o", "/dev/null", "-w", "%{http_code}")


def test_it_is_served_by_granian_and_again_after_a_restart(site: Machine) -> None:
    assert status(site) == "202"
    before = {unit: site.show(unit, "MainPID") for unit in SERVICES}
    assert "granian" in site.read(f"/proc/{before['mysite-granian.service']}/cmdline")
    site.run("systemctl", "restart", "mysite-granian.service")
    assert status(site) == "202"
    after = {unit: site.show(unit, "MainPID") for unit in SERVICES}
    assert not {*before.values()} & {*after.values()}


def test_only_the_proxy_reaches_the_private_socket(site: Machine) -> None:
    assert status(site) == "202"
    ask = ("curl", "-s", "-o", "/dev/null", "--unix-socket")
    assert (
        site.run(*ask, "/run/mysite.sock", "http://x/", user="www-data", check=False).returncode
        == 0
    )
    for user in ("www-data", "nobody", "alice"):
        done = site.run(*ask, proxied.PRIVATE, "http://x/", user=user, check=False)
        assert done.returncode == 7
    users = {site.run("ps", "-o", "user=", "-p", site.show(u, "MainPID")).stdout for u in SERVICES}
    assert len(users) == 2
    assert "root\n" not in users


def test_both_are_closed(site: Machine) -> None:
    for unit in SERVICES:
        said = site.run("systemd-analyze", "security", "--no-pager", unit).stdout
        (exposure,) = re.findall(r"exposure level for \S+: ([0-9.]+)", said)
        assert float(exposure) < 2


def test_a_reload_brings_new_code_in_and_leaves_the_proxy(site: Machine) -> None:
    """The last one: the site is another afterwards."""
    assert status(site) == "202"
    before = {unit: site.show(unit, "MainPID") for unit in SERVICES}
    site.write("/srv/mysite/mysite/wsgi.py", NEW)
    site.reload("mysite-granian.service")
    ask = ("curl", "-s", "http://localhost/")
    site.wait(lambda: site.run(*ask).stdout == "new code", "the new code")
    assert {unit: site.show(unit, "MainPID") for unit in SERVICES} == before
