"""install on a running system: started, proven, or taken back whatever goes wrong."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.machine.machine import Machine

UNITS = "/etc/systemd/system"
INSTALL = (
    *("sdactivate", "install", "mysite", "--group", "www-data"),
    *("--app", "mysite.wsgi:application", "--chdir", "/srv/mysite"),
)


def units(machine: Machine) -> list[str]:
    return machine.run("sh", "-c", f"ls -A {UNITS} | grep mysite || true").stdout.split()


def records(machine: Machine) -> str:
    return machine.run("sh", "-c", "ls -A /var/lib/sdactivate 2>/dev/null || true").stdout


def fetch(machine: Machine, user: str = "www-data") -> int:
    command = ("curl", "-sS", "-o", "/dev/null", "--max-time", "30")
    address = ("--unix-socket", "/run/mysite.sock", "http://mysite.test/static/none")
    return machine.run(*command, *address, user=user, check=False).returncode


@pytest.fixture(autouse=True)
def nothing_left(machine: Machine) -> Iterator[None]:
    yield
    machine.run("sdactivate", "uninstall", "mysite", "--force", check=False)
    assert units(machine) == []
    assert records(machine) == ""
    # systemd leaves the file of a stopped socket; nothing listens behind it.
    assert fetch(machine) != 0


def test_installed_started_and_proven(machine: Machine) -> None:
    done = machine.run(*INSTALL, "--command", "clearsessions")
    assert re.search("yes +:www-data", done.stdout)
    assert re.search("no +nobody", done.stdout)
    assert machine.run("systemctl", "is-enabled", "mysite.socket").stdout == "enabled\n"
    assert machine.run("systemctl", "is-active", "mysite.service").stdout == "active\n"
    assert "mysite-clearsessions.timer" in machine.run("systemctl", "list-timers").stdout
    assert fetch(machine) == 0
    gone = machine.run("sdactivate", "uninstall", "mysite").stdout.split()
    assert sorted(path.rpartition("/")[2] for path in gone) == [
        "mysite-clearsessions.service",
        "mysite-clearsessions.timer",
        "mysite.service",
        "mysite.socket",
    ]


def test_a_changed_socket_is_made_anew_and_a_changed_service_restarted(machine: Machine) -> None:
    machine.run(*INSTALL)
    pid = ("systemctl", "show", "-P", "MainPID", "mysite.service")
    inode = ("stat", "-c", "%i", "/run/mysite.sock")
    first = machine.run(*pid).stdout, machine.run(*inode).stdout
    again = machine.run(*INSTALL, "--threads", "3")
    second = machine.run(*pid).stdout, machine.run(*inode).stdout
    assert "no connection is lost" in again.stderr
    assert second[0] not in ("0\n", first[0])
    assert second[1] == first[1]
    changed = machine.run(*INSTALL, "--threads", "3", "--mode", "0600")
    assert "restart mysite.socket" in changed.stderr
    assert machine.run("stat", "-c", "%a", "/run/mysite.sock").stdout == "600\n"
    assert re.search("no +:www-data", changed.stdout)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--app", "mysite.nothing:application"], "start the service once"),
        (["--group", "no-such-group"], "enable and start"),
        (["--credential", "key=/no/such/file"], "start the service once"),
    ],
)
def test_what_cannot_run_is_taken_back(options: list[str], said: str, machine: Machine) -> None:
    failed = machine.run(*INSTALL, *options, check=False)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert f"sdactivate install: {said}" in failed.stderr
    assert "what had been done was undone" in failed.stderr
    assert units(machine) == []
    assert records(machine) == ""


def test_a_failed_change_leaves_what_ran_before(machine: Machine) -> None:
    machine.run(*INSTALL)
    before = machine.read(f"{UNITS}/mysite.service"), machine.read(f"{UNITS}/mysite.socket")
    for options in (["--app", "mysite.nothing:application"], ["--group", "no-such-group"]):
        assert machine.run(*INSTALL, *options, check=False).returncode == 1
        now = machine.read(f"{UNITS}/mysite.service"), machine.read(f"{UNITS}/mysite.socket")
        assert now == before
        assert fetch(machine) == 0
        assert machine.run("systemctl", "is-enabled", "mysite.socket").stdout == "enabled\n"


@pytest.mark.parametrize("path", ["/etc/systemd/system", "/var/lib/sdactivate"])
def test_a_full_disk(path: str, machine: Machine) -> None:
    machine.run("mkdir", "-p", path)
    machine.run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", path)
    try:
        if "lib" in path:
            machine.run("sh", "-c", f"head -c 4096 /dev/zero >{path}/full")
        failed = machine.run(*INSTALL, check=False)
        assert failed.returncode == 1
        assert "No space left" in failed.stderr
        assert "Traceback" not in failed.stderr
        left = machine.run("ls", "-A", path).stdout.split()
        assert left == (["full"] if "lib" in path else [])
    finally:
        machine.run("umount", path)
        machine.run("systemctl", "daemon-reload")


def test_in_a_users_own_manager(machine: Machine) -> None:
    machine.run("sh", "-ec", "mkdir -p /home/alice; chown alice: /home/alice")
    machine.run("systemctl", "start", "user@4201.service")
    env = {"XDG_RUNTIME_DIR": "/run/user/4201", "HOME": "/home/alice"}
    group = INSTALL.index("--group")
    install = (*INSTALL[:group], *INSTALL[group + 2 :], "--user-manager")
    machine.run(*install, user="alice", env=env)
    fetch = ("curl", "-sS", "--max-time", "30", "--unix-socket", "/run/user/4201/mysite.sock")
    machine.run(*fetch, "http://mysite.test/static/none", user="alice", env=env)
    state = ("systemctl", "--user", "is-enabled", "mysite.socket")
    assert machine.run(*state, user="alice", env=env).stdout == "enabled\n"
    pid = machine.run(
        *("systemctl", "--user", "show", "-P", "MainPID", "mysite.service"), user="alice", env=env
    ).stdout.strip()
    assert machine.run("stat", "-c", "%U", f"/proc/{pid}").stdout == "alice\n"
    removed = ("sdactivate", "uninstall", "mysite", "--user-manager")
    gone = machine.run(*removed, user="alice", env=env).stdout.split()
    assert sorted(gone) == [
        "/home/alice/.config/systemd/user/mysite.service",
        "/home/alice/.config/systemd/user/mysite.socket",
    ]


STEPS = ["write /", "compile", "enable and start", "start the service once", "prove"]


@pytest.mark.parametrize(
    ("step", "number"),
    [*((step, signal.SIGKILL) for step in STEPS), (STEPS[2], signal.SIGTERM)],
)
def test_killed_at_a_step(step: str, number: signal.Signals, machine: Machine) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with machine.popen(*INSTALL, **pipes) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"sdactivate: {step}"):
                break
        machine.run("pkill", f"-{number.value}", "-f", "bin/sdactivate install", check=False)
        process.communicate(timeout=60)
    assert line.startswith(f"sdactivate: {step}")
    if number == signal.SIGTERM and process.returncode:
        assert units(machine) == []
        assert records(machine) == ""
        return
    # Whatever is there is whole, and known to the record.
    names = [name for name in units(machine) if not name.startswith(".")]
    if names:
        files = json.loads(machine.read("/var/lib/sdactivate/mysite.json"))["files"]
        assert {f"{UNITS}/{name}" for name in names} <= set(files)
    for name in names:
        assert machine.read(f"{UNITS}/{name}").endswith("\n")
    if step != "compile":  # otherwise the fixture's uninstall cleans up after the kill alone
        machine.run(*INSTALL)
        assert fetch(machine) == 0
