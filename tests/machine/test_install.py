"""install on a running system: started, proven, or taken back whatever goes wrong."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.machine.machine import ENVIRON, Machine

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
    done = machine.run("sdactivate", "uninstall", "mysite")
    assert "mysite is removed; its data stays in /var/lib/mysite\n" in done.stderr
    gone = done.stdout.split()
    assert sorted(path.rpartition("/")[2] for path in gone) == [
        "mysite-clearsessions.service",
        "mysite-clearsessions.timer",
        "mysite.service",
        "mysite.sock",
        "mysite.socket",
    ]
    assert machine.run("find", "/run", "-maxdepth", "1", "-name", "mysite*").stdout == ""


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


def test_a_changed_comment_restarts_nothing(machine: Machine) -> None:
    machine.run(*INSTALL)
    shown = ("systemctl", "show", "-P", "InvocationID", "mysite.socket", "mysite.service")
    before = machine.run(*shown).stdout
    for unit in ("mysite.socket", "mysite.service"):
        path = f"{UNITS}/{unit}"
        machine.write(path, machine.read(path) + "# of another version\n")
    machine.run(*INSTALL, "--force")
    assert "another version" not in machine.read(f"{UNITS}/mysite.socket")
    assert machine.run(*shown).stdout == before


def test_a_template_is_installed_and_goes_with_its_instances(machine: Machine) -> None:
    table = "".join(
        f'{key} = "{value}"\n'
        for key, value in {
            "kind": "template",
            "app": "mysite.wsgi:application",
            "chdir": "/srv/mysite",
            "group": "www-data",
        }.items()
    )
    machine.write("/etc/sites.toml", f"[sites.mysite]\n{table}")
    done = machine.run("sdactivate", "install", "mysite", "--from", "/etc/sites.toml")
    assert "systemctl enable --now mysite@INSTANCE.socket" in done.stderr
    machine.run("systemctl", "enable", "--now", "mysite@one.socket")
    fetch = ("curl", "-sS", "--max-time", "30", "--unix-socket", "/run/mysite-one.sock")
    machine.run(*fetch, "http://mysite.test/static/none", user="www-data")
    said = machine.run("sdactivate", "explain", "mysite@.service", check=False).stderr
    assert "name an instance of it" in said
    machine.run("sdactivate", "uninstall", "mysite")
    assert machine.run("find", UNITS, "-name", "mysite*").stdout == ""
    active = machine.run("systemctl", "is-active", "mysite@one.socket", check=False)
    assert active.stdout == "inactive\n"
    assert machine.run("find", "/run", "-maxdepth", "1", "-name", "mysite-one.sock").stdout == ""


def test_only_root_installs_and_is_told_so_at_once(machine: Machine) -> None:
    for command in (INSTALL, ("sdactivate", "uninstall", "mysite")):
        refused = machine.run(*command, user="alice", check=False)
        assert refused.returncode == 1
        assert "only root can write" in refused.stderr
    assert "+SocketGroup=www-data" in machine.run(*INSTALL, "--dry-run", user="alice").stdout


@pytest.mark.parametrize(
    ("options", "said", "why"),
    [
        (["--app", "mysite.nothing:application"], "start the service once", "no module"),
        (["--listen", "/run/systemd"], "enable and start", "Address already in use"),
        (["--credential", "key=/no/such/file"], "start the service once", "status=243"),
    ],
)
def test_what_cannot_run_is_taken_back(
    options: list[str], said: str, why: str, machine: Machine
) -> None:
    failed = machine.run(*INSTALL, *options, check=False)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert f"sdactivate install: {said}" in failed.stderr
    assert why in failed.stderr
    assert "all changes were undone" in failed.stderr
    assert units(machine) == []
    assert records(machine) == ""
    assert "mysite" not in machine.run("systemctl", "--failed", "--plain").stdout


@pytest.mark.parametrize("option", ["--group", "--user", "--run-as", "--join"])
def test_an_account_that_is_missing_stops_it_before_anything_is_done(
    option: str, machine: Machine
) -> None:
    failed = machine.run(*INSTALL, option, "no-such-name", check=False)
    assert failed.returncode == 1
    assert failed.stdout == ""
    database = "user" if option in ("--user", "--run-as") else "group"
    assert f"{option} no-such-name: this host has no such {database}" in failed.stderr
    assert (
        f"Nothing was changed. Correct the name, or create the account first: `{database}add"
        in (failed.stderr)
    )
    assert "undone" not in failed.stderr
    assert units(machine) == []


def test_a_failed_services_last_words_steer_no_terminal(machine: Machine) -> None:
    """They are the application's: a hostile one would have root's terminal."""
    machine.run("mkdir", "-p", "/srv/hostile")
    said = r"print('\x1b]0;owned\x07 \u202eesrever', flush=True); __import__('os')._exit(1)"
    machine.write("/srv/hostile/hostile.py", said)
    machine.run(*INSTALL)
    done = machine.run(*INSTALL[:-3], "hostile:application", "--chdir", "/srv/hostile", check=False)
    assert done.returncode == 1
    assert r"\x1b]0;owned\x07 \u202eesrever" in done.stderr
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr


def test_a_failed_change_leaves_what_ran_before(machine: Machine) -> None:
    machine.run(*INSTALL)
    before = machine.read(f"{UNITS}/mysite.service"), machine.read(f"{UNITS}/mysite.socket")
    for options, said in (
        (["--app", "mysite.nothing:application"], "there is no module 'mysite.nothing'"),
        (["--listen", "/run/systemd"], "`systemctl restart -- mysite.socket` failed"),
    ):
        failed = machine.run(*INSTALL, *options, check=False)
        assert failed.returncode == 1
        assert said in failed.stderr
        now = machine.read(f"{UNITS}/mysite.service"), machine.read(f"{UNITS}/mysite.socket")
        assert now == before
        assert fetch(machine) == 0
        assert machine.run("systemctl", "is-enabled", "mysite.socket").stdout == "enabled\n"


def test_a_start_limit_does_not_stand_in_the_way(machine: Machine) -> None:
    """Of the socket, which counts each install: from systemd 255 on beyond a daemon-reload."""
    limit = "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n"
    machine.write(f"{UNITS}/mysite.socket.d/limit.conf", limit)
    try:
        machine.run(*INSTALL)
        machine.run(*INSTALL, "--mode", "0666")
        failed = machine.run(*INSTALL, "--listen", "/run/systemd", check=False)
        assert failed.stderr.endswith("; all changes were undone\n")
        assert machine.run("stat", "-c", "%a", "/run/mysite.sock").stdout == "666\n"
        assert fetch(machine) == 0
    finally:
        machine.run("rm", "-r", f"{UNITS}/mysite.socket.d")


def test_a_failed_change_starts_nothing_that_did_not_run(machine: Machine) -> None:
    machine.run(*INSTALL)
    machine.run("systemctl", "stop", "mysite.service")
    failed = machine.run(*INSTALL, "--app", "mysite.nothing:application", check=False)
    assert "there is no module 'mysite.nothing'" in failed.stderr
    active = ("systemctl", "is-active", "mysite.service", "mysite.socket")
    assert machine.run(*active, check=False).stdout.split() == ["inactive", "active"]


def test_no_other_socket_is_taken_over(machine: Machine) -> None:
    machine.run(*INSTALL)
    other = (*INSTALL[:2], "other", *INSTALL[3:], "--listen", "/run/mysite.sock")
    failed = machine.run(*other, check=False)
    assert failed.returncode == 1
    assert "--listen /run/mysite.sock: mysite.socket listens there" in failed.stderr
    assert fetch(machine) == 0
    assert machine.run(*INSTALL).returncode == 0  # its own it may


def test_what_was_removed_by_hand_is_stopped_all_the_same(machine: Machine) -> None:
    machine.run(*INSTALL)
    machine.run("rm", f"{UNITS}/mysite.socket", f"{UNITS}/mysite.service")
    machine.run("systemctl", "daemon-reload")
    machine.run("sdactivate", "uninstall", "mysite")
    active = ("systemctl", "is-active", "mysite.socket", "mysite.service")
    assert machine.run(*active, check=False).stdout.split() == ["inactive", "inactive"]
    assert machine.run("find", UNITS, "-name", "mysite*").stdout == ""


# Where the disk is full: what is mounted there, what fills it, at which step that shows.
FULL = {
    "verify": ("/tmp", "size=4k", "true", "let systemd check"),  # one of two units fits
    "record": (
        "/var/lib/sdactivate",
        "size=4k",
        "head -c 4096 /dev/zero >/var/lib/sdactivate/full",
        "write /",
    ),
    "write": (UNITS, "size=4k", "true", "write /"),
    "accounts": ("/etc", "size=64m", "cp -a /run/etc/. /etc", "make accounts"),
    "enable": (UNITS, "nr_inodes=4", "true", "enable and start"),
    "try": ("/var/lib/private", "nr_inodes=1", "true", "start the service once"),
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk(what: str, machine: Machine) -> None:
    path, size, fill, step = FULL[what]
    before = "mkdir -p /run/etc /etc/sysusers.d /var/lib/private; cp -a /etc/. /run/etc"
    machine.run("sh", "-ec", f"{before}; mkdir -p {path}")
    # A service gets a /tmp of its own: what is mounted on this one is not to be unmounted below it.
    machine.run("mount", "-t", "tmpfs", "-o", f"mode=755,{size}", "tmpfs", path)
    mounts = [path]
    try:
        machine.run("sh", "-ec", fill)
        if what == "accounts":  # the files of install have room, those of the accounts have not
            for folder in ("/etc/systemd/system", "/etc/sysusers.d"):
                machine.run("mount", "-t", "tmpfs", "tmpfs", folder)
                mounts.append(folder)
            machine.run("sh", "-c", "cat /dev/zero >/etc/full; true", check=False)
        listing = ("find", path, "-not", "-type", "d")
        left = machine.run(*listing).stdout
        member = ("--group", "newfront", "--member", "www-data") if what == "accounts" else ()
        failed = machine.run(*INSTALL, *member, check=False)
        assert failed.returncode == 1
        assert f"sdactivate install: {step}" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert what in ("try", "accounts") or "No space left" in failed.stderr
        assert machine.run(*listing).stdout == left
        assert units(machine) == []
    finally:
        for mounted in reversed(mounts):
            machine.run("umount", mounted)
        machine.run("systemctl", "daemon-reload")


def test_a_full_disk_where_the_code_is_costs_no_more_than_a_slow_start(machine: Machine) -> None:
    copy = "mount -t tmpfs -o size=4m tmpfs /srv/full; cp -r /srv/mysite/. /srv/full"
    clear = "find /srv/full -name '*.pyc' -delete; cat /dev/zero >/srv/full/full || true"
    machine.run("sh", "-ec", f"mkdir -p /srv/full; {copy}; {clear}")
    try:
        done = machine.run(*INSTALL, "--chdir", "/srv/full")
        assert "cold starts will be slower" in done.stderr
        assert fetch(machine) == 0
    finally:
        machine.run("systemctl", "stop", "mysite.socket", "mysite.service")
        machine.run("umount", "/srv/full")


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
        "/run/user/4201/mysite.sock",
    ]


# Each command that install gives; together with the files it writes, that is all it does.
COMMANDS = (
    "systemd-analyze verify",
    "systemd-sysusers /",
    "systemd-tmpfiles --create",
    "systemctl daemon-reload",
    "systemctl enable --now",
    "systemctl start",
)
OTHER_PLACE = ("--listen", "/run/mysite/mysite.sock", "--group", "newfront", "--member", "www-data")
# Stands in front of a command: acts when its turn has come, and is the command otherwise.
SHIM = """#!/bin/sh
case "${0##*/} $*" in
"$WHEN"*) [ -e /run/shim/done ] || { touch /run/shim/done; eval "$THEN"; } ;;
esac
exec "/usr/bin/${0##*/}" "$@"
"""


def interrupted(machine: Machine, when: str, then: str) -> subprocess.CompletedProcess[str]:
    """Install, with something happening just before a command."""
    for name in {command.split()[0] for command in COMMANDS}:
        machine.write(f"/run/shim/{name}", SHIM, mode=0o755)
    machine.run("rm", "-f", "/run/shim/done")
    path = f"/run/shim:{ENVIRON['PATH']}"
    done = machine.run(
        *(*INSTALL, *OTHER_PLACE), check=False, env={"PATH": path, "WHEN": when, "THEN": then}
    )
    machine.run("test", "-e", "/run/shim/done")
    return done


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_that_fails_is_named_and_all_is_taken_back(
    command: str, machine: Machine
) -> None:
    failed = interrupted(machine, command, "echo 'out of order' >&2; exit 1")
    assert failed.returncode == 1
    assert f"`{command}" in failed.stderr
    assert "failed: out of order" in failed.stderr
    assert failed.stderr.endswith("; all changes were undone\n")
    assert failed.stdout == ""
    assert units(machine) == []
    assert records(machine) == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_before_each_command(command: str, machine: Machine) -> None:
    killed = interrupted(machine, command, "kill -KILL $PPID")
    assert killed.returncode == -signal.SIGKILL
    check_whole(machine)
    if COMMANDS.index(command) % 2:  # otherwise the fixture's uninstall has to clean up
        done = machine.run(*INSTALL, *OTHER_PLACE)
        assert re.search("yes +:newfront", done.stdout)


def check_whole(machine: Machine) -> None:
    """Whatever is there is whole, and known to the record."""
    names = [name for name in units(machine) if not name.startswith(".")]
    if names:
        files = json.loads(machine.read("/var/lib/sdactivate/mysite.json"))["files"]
        assert {f"{UNITS}/{name}" for name in names} <= set(files)
    for name in names:
        assert machine.read(f"{UNITS}/{name}").endswith("\n")


STEPS = ["write /", "compile", "enable and start", "start the service once", "test who can connect"]


@pytest.mark.parametrize(
    ("step", "number"),
    [*((step, signal.SIGKILL) for step in STEPS), (STEPS[2], signal.SIGTERM)],
)
def test_killed_at_a_step(step: str, number: signal.Signals, machine: Machine) -> None:
    with machine.popen(*INSTALL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
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
    check_whole(machine)
    if step != "compile":  # otherwise the fixture's uninstall cleans up after the kill alone
        machine.run(*INSTALL)
        assert fetch(machine) == 0


def test_manage_py_check_runs_in_the_sandbox(machine: Machine) -> None:
    path = "/srv/mysite/guestbook/models.py"
    before = machine.run("cat", path).stdout
    check = """
import os
from django.core import checks
@checks.register
def check(**_):
    kind = checks.Error if os.path.exists("/etc/fails") else checks.Warning
    return [kind(f"uid {'root' if os.getuid() == 0 else 'not root'}", id="own.X1")]
"""
    try:
        machine.write(path, before + check)
        said = machine.run(*INSTALL).stderr
        assert "?: (own.X1) uid not root" in said
        machine.run("sdactivate", "uninstall", "mysite")
        machine.write("/etc/fails", "")
        done = machine.run(*INSTALL, check=False)
        assert done.returncode == 1
        assert "(own.X1) uid not root" in done.stderr
        assert "all changes were undone" in done.stderr
        assert units(machine) == []
    finally:
        machine.write(path, before)
        machine.run("rm", "-f", "/etc/fails")


def test_status_tells_how_it_is_doing(machine: Machine) -> None:
    machine.run(*INSTALL, "--command", "clearsessions", "--memory-max", "512M")
    assert fetch(machine) == 0
    machine.run("sdactivate", "reload", "mysite")
    told = ("sdactivate", "status", "mysite")

    def found() -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(machine.run(*told, "--format", "json").stdout)
        return shown

    assert fetch(machine) == 0
    machine.wait(lambda: found()["requests"] == 1, "one request since the reload")
    site = found()
    assert site["state"] == "active"
    assert site["release"] == "/srv/mysite"
    assert site["linked"] is None
    assert (site["workers"], site["failed"], site["failed_last_hour"]) == (1, 0, 0)
    assert site["measured"] == 1
    assert site["since"] < site["reloaded"]
    assert site["backlog_limit"] == 4096
    assert site["memory_limit"] == 512 << 20
    # This machine may have no controller of memory
    assert site["memory"] is None or 0 < site["memory"] < site["memory_limit"]
    (timer,) = site["timers"]
    assert timer["unit"] == "mysite-clearsessions.timer"
    assert timer["next"]
    assert site["background"] == []
    text = machine.run(*told).stdout
    assert "duration    p50 " in text
    assert "timer       mysite-clearsessions.timer: last " in text
    head, line = machine.run("sdactivate", "status").stdout.splitlines()
    assert head.split()[:3] == ["NAME", "STATE", "SINCE"]
    assert line.split()[:2] == ["mysite", "active"]
    # Who may not look into the processes learns what systemd tells anyone
    other = json.loads(machine.run(*told, "--format", "json", user="nobody").stdout)
    assert other["requests"] is None
    assert other["state"] == "active"
    missing = machine.run("sdactivate", "status", "nowhere", check=False)
    assert missing.returncode == 1
    assert "systemd has no nowhere.service (not-found)" in missing.stderr
