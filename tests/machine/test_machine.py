"""The machine itself: what the other tests here take for granted."""

import subprocess

import pytest

from tests.machine.machine import CommandFailed, Installation, Machine


def test_systemd_is_the_first_process(machine: Machine) -> None:
    assert machine.read("/proc/1/comm") == "systemd\n"
    assert machine.run("systemctl", "is-system-running").stdout == "running\n"


def test_the_wheel_is_installed_and_not_the_checkout(machine: Machine) -> None:
    script = "import sdactivate; print(sdactivate.__file__)"
    where = machine.run(machine.python, "-c", script).stdout
    assert where.startswith("/opt/sdactivate/lib/")
    machine.run("test", "-x", "/usr/local/bin/sdactivate")


def test_commands_run_as_the_user_that_is_asked_for(machine: Machine) -> None:
    assert machine.run("id", "-un", user="www-data").stdout == "www-data\n"
    assert machine.run("id", "-Gn", user="bob").stdout == "bob web\n"
    assert machine.run("id", "-Gn", user="nobody").stdout == "nogroup\n"


def test_a_failure_shows_what_was_printed(machine: Machine) -> None:
    with pytest.raises(CommandFailed, match="too bad"):
        machine.run("sh", "-c", "echo too bad >&2; exit 3")
    assert machine.run("false", check=False).returncode == 1


def test_a_command_that_hangs_is_killed_with_its_children(machine: Machine) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        machine.run("sh", "-c", "sleep 1234 & sleep 1234", timeout=1)
    machine.wait(
        lambda: machine.run("pgrep", "-x", "sleep", check=False).returncode == 1, "no sleep is left"
    )


def test_writes_reads_and_forgets(machine: Machine, installation: Installation) -> None:
    machine.write("/srv/new/file", "text % \n", mode=0o640)
    assert machine.read("/srv/new/file") == "text % \n"
    assert machine.run("stat", "-c", "%a", "/srv/new/file").stdout == "640\n"
    with Machine(installation) as other:
        assert other.run("test", "-e", "/srv/new", check=False).returncode == 1


def test_has_a_network_of_its_own(machine: Machine) -> None:
    interfaces = machine.run("ip", "-o", "link").stdout.splitlines()
    assert [line.split()[1] for line in interfaces] == ["lo:"]
    assert "UP" in interfaces[0]


def test_cannot_change_the_kernel_under_it(machine: Machine) -> None:
    before = machine.read("/proc/sys/kernel/pid_max")
    assert machine.run("sysctl", "-w", "kernel.pid_max=4194303", check=False).returncode != 0
    assert machine.read("/proc/sys/kernel/pid_max") == before
    machine.run("sysctl", "-w", "net.core.somaxconn=4000")


def test_a_service_with_a_dynamic_user_can_use_the_installation(machine: Machine) -> None:
    command = ["systemd-run", "--wait", "--pipe", "--property=DynamicUser=yes"]
    command += ["--property=ProtectHome=yes", "--property=PrivateDevices=yes"]
    command += ["--property=StateDirectory=mysite", "--property=WorkingDirectory=/srv/mysite"]
    shown = machine.run(*command, machine.python, "manage.py", "check").stdout
    assert shown.startswith("System check identified no issues")


def test_nginx_runs_as_www_data_and_serves_static_files(machine: Machine) -> None:
    machine.run("systemctl", "start", "nginx")
    assert (
        "body {"
        in machine.run("curl", "-sSf", "http://localhost/static/guestbook/style.css").stdout
    )
    assert machine.run("pgrep", "-u", "www-data", "-x", "nginx").stdout
