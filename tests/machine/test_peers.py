"""--allow-peer in the full sandbox: nginx is served, php-fpm as the same user isn't."""

import os
from collections.abc import Callable

import pytest

from sdactivate.peer_rules import KERNEL_KNOWS_UNITS, kernel_version
from tests.machine import php
from tests.machine.machine import Machine

APP = ("--app", "mysite.wsgi:application", "--chdir", "/srv/mysite", "--python", Machine.python)
_KERNEL_KNOWS = kernel_version(os.uname().release) >= KERNEL_KNOWS_UNITS


Install = Callable[..., None]


@pytest.fixture
def site(machine: Machine) -> Install:
    """Install the example site with a rule for its peers; gives the journal of its service."""

    def install(rule: str, *options: str) -> None:
        for unit in ("mysite.socket", "mysite.service"):  # one unknown unit would stop none
            machine.run("systemctl", "stop", unit, check=False)
        machine.run("rm", "-rf", "/etc/systemd/system/mysite.service.d")
        for kind, more in (
            ("socket", ("--group", "www-data")),
            ("service", (*APP, "--allow-peer", rule, *options)),
        ):
            text = machine.run(
                *machine.sdactivate, "gen", "mysite", "--kind", kind, "--no-comments", *more
            ).stdout
            machine.write(f"/etc/systemd/system/mysite.{kind}", text)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "mysite.socket")
        restart_front(machine)

    return install


def restart_front(machine: Machine) -> None:
    """However often it was started: the limit (StartLimitBurst=) is no part of what is tried."""
    machine.run("sh", "-ec", "systemctl reset-failed; systemctl restart nginx.service")


def front(machine: Machine) -> str:
    """The status of a request through nginx."""
    argv = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://localhost/environ")
    return machine.run(*argv).stdout


@php.needs_php
def test_the_front_is_served_and_php_as_the_same_user_is_not(
    machine: Machine, site: Install
) -> None:
    site("unit:nginx.service")
    php.start(machine)
    machine.run("systemctl", "reload", "nginx.service")
    for _ in range(3):
        assert front(machine) == "200"
        assert php.connect(machine) == "closed"
        restart_front(machine)
    assert front(machine) == "200"
    said = machine.journal("mysite.service")
    assert said.count("refused a connection from") == 1  # a minute
    assert f"unit {php.UNIT}" in said


@php.needs_php
def test_without_a_rule_php_bypasses_the_front(machine: Machine, site: Install) -> None:
    """What the rule is for; and the page is a real test of it."""
    site("unit:nginx.service")
    php.start(machine)
    machine.write(
        "/etc/systemd/system/mysite.service.d/open.conf",
        "[Service]\nEnvironment=SDACTIVATE_ALLOW_PEER=\n",
    )
    machine.run("systemctl", "daemon-reload")
    restart_front(machine)
    assert php.connect(machine).startswith("answered: Status: 200")


@pytest.mark.skipif(not _KERNEL_KNOWS, reason="this kernel doesn't tell units: ProtectProc= goes")
def test_a_rule_for_units_costs_no_sandbox(machine: Machine, site: Install) -> None:
    site("unit:nginx.service")
    score = machine.run("systemd-analyze", "security", "mysite.service").stdout
    assert "Overall exposure level for mysite.service: 0.2 " in score


@pytest.mark.parametrize("rule", ["user:www-data", "group:www-data"])
def test_users_and_groups_are_told_in_the_sandbox_that_gen_relaxes(
    machine: Machine, site: Install, rule: str
) -> None:
    site(rule)
    assert front(machine) == "200"
    asks = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/mysite.sock'); "
    argv = (machine.python, "-c", asks + "print(s.recv(1))")
    assert machine.run(*argv).stdout == "b''\n"  # root, who is neither


def test_a_check_that_the_sandbox_defeats_fails_at_the_start(
    machine: Machine, site: Install
) -> None:
    site("user:www-data")
    machine.write(
        "/etc/systemd/system/mysite.service.d/closed.conf", "[Service]\nPrivateUsers=yes\n"
    )
    machine.run("systemctl", "daemon-reload")
    assert machine.run("systemctl", "start", "mysite.service", check=False).returncode
    assert "Set PrivateUsers=no in the service unit" in machine.journal("mysite.service")
