"""What comes from systemd itself, on a newer one than this system's: of the current Debian.

A handful of the tests of the lifecycle, and what somebody new does first: install, the sandbox, the
README from its first command to its last. MACHINE_ROOT=trixie runs all tests there.
"""

import shutil
from pathlib import Path

import pytest

from tests.machine import (
    test_django_tasks,
    test_install,
    test_lifecycle,
    test_readme,
    test_sandbox,
)
from tests.machine.machine import Installation, Machine, debian, install

pytestmark = pytest.mark.skipif(
    not shutil.which("mmdebstrap"), reason="mmdebstrap makes the other system; script/setup has it"
)

# What builds the wheels, boots, and is used by these tests
PACKAGES = (
    *("python3", "python3-venv", "python3-dev", "gcc", "libc6-dev", "pkg-config", "libsystemd-dev"),
    *("systemd", "systemd-sysv", "libnss-systemd", "dbus", "util-linux", "iproute2", "procps"),
    *("nginx", "curl", "git", "sudo"),
)


@pytest.fixture(scope="session")
def fitting_wheel(pure_wheel: Path) -> Path:
    """The wheel for any Python."""
    return pure_wheel


@pytest.fixture(scope="session")
def installation(fitting_wheel: Path) -> Installation:
    """It, over Debian 13: systemd 257, Python 3.13."""
    return install(fitting_wheel, debian("trixie", PACKAGES))


site = test_lifecycle.site
outside = test_sandbox.outside
followed = test_readme.followed


def test_it_is_newer(machine: Machine) -> None:
    assert int(machine.run("systemctl", "--version").stdout.split()[1]) >= 257


def test_a_reload_that_systemd_asks_for_itself(site: test_lifecycle.Site) -> None:
    # Type=notify-reload (systemd 253) is not what gen writes, for it can't fail; but it works
    site.deploy()
    site.get("/")
    dropin = "[Service]\nType=notify-reload\nExecReload=\n"
    site.machine.write("/etc/systemd/system/life.service.d/reload.conf", dropin)
    site.machine.run("systemctl", "daemon-reload")
    try:
        site.machine.run("systemctl", "restart", "life.service")
        site.release("second")
        site.reload()
        site.machine.wait(lambda: site.get("/release") == "second", "the new release")
        assert site.show("ActiveState") == "active"
        assert site.show("NRestarts") == "0"
    finally:
        site.machine.run("rm", "-r", "/etc/systemd/system/life.service.d")
        site.machine.run("systemctl", "daemon-reload")


test_a_reload_that_fails = test_lifecycle.test_a_reload_that_fails_changes_nothing_and_says_why
test_a_second_reload = test_lifecycle.test_a_second_reload_overtakes_the_first_and_a_stop_ends_it
test_a_stop_soon_after_a_reload = test_lifecycle.test_a_stop_soon_after_a_reload_loses_no_request
test_a_kill_in_the_middle_of_a_reload = test_lifecycle.test_a_kill_in_the_middle_of_a_reload
test_a_kill_after_a_reload = test_lifecycle.test_a_kill_of_the_process_after_a_reload_is_noticed
test_an_idle_site = test_lifecycle.test_an_idle_site_leaves_and_comes_back
test_the_watchdog = test_lifecycle.test_the_watchdog_kills_what_makes_no_progress
test_status = test_lifecycle.test_status_tells


def test_the_sandbox(outside: Machine) -> None:
    test_sandbox.test_each_option_gives_back_its_own_and_nothing_else((), {}, 0.2, outside)


def test_an_installation(machine: Machine) -> None:
    test_install.test_installed_started_and_proven(machine)
    test_install.test_a_start_limit_does_not_stand_in_the_way(machine)
    machine.run("sdactivate", "uninstall", "mysite")


test_django_6 = test_django_tasks.test_a_task_under_way_at_a_release
test_the_readmes_first_commands = test_readme.test_the_commands_it_was_made_for
test_the_readmes_site_is_up = test_readme.test_the_site_is_up_and_the_admin_user_logs_in
test_the_readme_shows = test_readme.test_what_it_shows_is_what_they_see
test_the_readmes_files = test_readme.test_nginx_serves_static_files_and_uploads
test_the_readmes_log = test_readme.test_errors_are_in_the_journal
test_the_readmes_environments = test_readme.test_the_kit_and_the_site_have_an_environment_each
test_the_example = test_readme.test_the_example_is_such_a_project
test_an_upgrade = test_readme.test_the_kit_is_upgraded
