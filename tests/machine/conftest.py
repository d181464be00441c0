"""Fixtures that boot a real systemd. Root only; the system is the one that the tests run on.

MACHINE_ROOT=trixie script/test tests/machine: that Debian release instead, made once by mmdebstrap
with all packages of script/setup; MACHINE_ROOT=DIR: the root file system in DIR.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine.machine import Installation, Machine, asked_for, install

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.machine)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="only root can boot a machine"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failed test shows what the machine logged."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.failed and isinstance(machine, Machine):
        try:
            log = machine.journal()
        except Exception as error:  # the first failure is the one to show
            log = f"cannot be had: {error}"
        report.sections.append(("journal of the machine", log[-20000:]))
    return report


@pytest.fixture(scope="session")
def fitting_wheel(request: pytest.FixtureRequest) -> Path:
    """The wheel for the Python of machines: with the compiled hot path if it is this one."""
    python = (asked_for() / "usr/bin/python3").resolve().name
    is_same = python == "python{}.{}".format(*sys.version_info) and asked_for() == Path("/")
    found: Path = request.getfixturevalue("wheel" if is_same else "pure_wheel")
    return found


@pytest.fixture(scope="session")
def installation(fitting_wheel: Path) -> Installation:
    """The wheel and the example site, installed for machines."""
    return install(fitting_wheel, asked_for())


@pytest.fixture(scope="module")
def machine(installation: Installation) -> Iterator[Machine]:
    """A fresh machine for this module: see machine.Machine."""
    with Machine(installation) as booted:
        yield booted


# The README's commands, and those that a Django site needs once.
DEPLOY = """
sdactivate gen mysite --group www-data > /etc/systemd/system/mysite.socket
sdactivate gen mysite --kind service --app mysite.wsgi:application --chdir /srv/mysite \\
    > /etc/systemd/system/mysite.service
systemctl enable --now mysite.socket

manage() {
    systemd-run --wait --pipe --quiet --working-directory=/srv/mysite \\
        --property=DynamicUser=yes --property=User=mysite --property=StateDirectory=mysite \\
        --setenv=DJANGO_SUPERUSER_PASSWORD="correct horse" \\
        /opt/sdactivate/bin/python manage.py "$@"
}
manage migrate --verbosity=0
manage createsuperuser --noinput --username=root --email=root@mysite.test
systemctl start nginx
"""


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    """The machine with the example site deployed and nginx in front; no request made yet.

    The admin's user is root, with the password "correct horse".
    """
    machine.run("sh", "-ec", DEPLOY)
    return machine
