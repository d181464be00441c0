"""Every server that can be generated, on the same socket: the Django site behind nginx."""

import re
import subprocess
from pathlib import Path

import pytest

from sdactivate import external_servers
from sdactivate.backends import BACKENDS
from tests.machine.machine import EXTRAS, CommandFailed, Installation, Machine, asked_for, install

UNITS = "/etc/systemd/system"
SOCKET = "/run/mysite.sock"
# The front's protocols, where a server speaks several
CASES = [
    ("native", "auto"),
    ("flup", "scgi"),
    ("flup", "fastcgi"),
    ("waitress", "auto"),
    *(
        (name, protocol)
        for name in external_servers.SERVERS
        for protocol in BACKENDS[name].protocols
    ),
]


@pytest.fixture(scope="module")
def installation(fitting_wheel: Path) -> Installation:
    """With all the servers, which no other test needs."""
    return install(fitting_wheel, asked_for(), (*EXTRAS, "servers"))


@pytest.fixture(scope="module")
def front(machine: Machine) -> Machine:
    """A machine with the site's socket unit, its database, and nginx."""
    app = "--app mysite.wsgi:application --chdir /srv/mysite --run-as alice"
    commands = f"""
        sdactivate gen mysite --kind socket --group www-data >{UNITS}/mysite.socket
        sdactivate gen mysite --kind service {app} >{UNITS}/mysite.service
        sdactivate gen mysite --kind timer-service --by-hand migrate {app} --out {UNITS}
        rm -f /etc/nginx/conf.d/*
        systemctl daemon-reload
        systemctl start mysite-migrate.service
        systemctl start mysite.socket nginx.service
    """
    machine.run("sh", "-ec", commands)
    return machine


def _interface(server: str) -> str:
    return "wsgi" if "wsgi" in BACKENDS[server].interfaces else "asgi"


def deploy(machine: Machine, server: str, protocol: str) -> None:
    """Give the socket to another server; the socket itself is not touched."""
    interface = _interface(server)
    said = f"--server {server} --protocol {protocol}"
    commands = f"""
        systemctl stop mysite.service
        systemctl reset-failed mysite.service || true
        sdactivate gen mysite --kind service {said} --app mysite.{interface}:application \\
            --chdir /srv/mysite --run-as alice >{UNITS}/mysite.service
        sdactivate gen mysite --kind nginx {said} --server-name mysite.test \\
            >/etc/nginx/conf.d/mysite.conf
        systemctl daemon-reload
        # Five starts in ten seconds, then no more: from systemd 255 on a reload keeps the count.
        systemctl reset-failed nginx.service
        systemctl restart nginx.service
    """
    machine.run("sh", "-ec", commands)


def get(machine: Machine, path: str = "/") -> str:
    fetch = ("curl", "-sS", "--fail", "--max-time", "60", "-H", "Host: mysite.test")
    return machine.run(*fetch, f"http://127.0.0.1{path}").stdout


def inode(machine: Machine) -> str:
    return machine.run("stat", "-c", "%i %U:%G %a", SOCKET).stdout


def main_pid(machine: Machine) -> str:
    return machine.run("systemctl", "show", "-P", "MainPID", "mysite.service").stdout.strip()


@pytest.mark.parametrize(("server", "protocol"), CASES, ids=map("-".join, CASES))
def test_the_site_is_served_on_the_socket_that_stays(
    front: Machine, server: str, protocol: str
) -> None:
    before = inode(front)
    assert before.endswith(" root:www-data 660\n")
    deploy(front, server, protocol)
    assert "<form" in get(front)
    first = main_pid(front)
    assert front.run("systemctl", "is-active", "mysite.service").stdout == "active\n"
    front.run("systemctl", "restart", "mysite.service")
    assert "<form" in get(front)
    assert main_pid(front) != first
    front.run("systemctl", "stop", "mysite.service")
    state = front.run("systemctl", "show", "-P", "Result", "mysite.service").stdout
    assert state == "success\n"
    assert inode(front) == before
    assert "<form" in get(front)  # and the next request starts it again


@pytest.mark.parametrize("server", BACKENDS)
def test_a_request_under_way_survives_a_restart(front: Machine, server: str) -> None:
    """Or the table says that it does not: the document's column "stop"."""
    deploy(front, server, "auto")
    assert "<form" in get(front)
    slow = (
        "curl",
        "-s",
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
        "-H",
        "Host: mysite.test",
    )
    asking = front.popen(*slow, "http://127.0.0.1/slow?ms=2000", stdout=subprocess.PIPE)
    front.wait(lambda: _connected(front), "the request under way")
    front.run("systemctl", "restart", "mysite.service")
    code, _ = asking.communicate(timeout=60)
    host = external_servers.SERVERS.get(server)
    assert code == ("502" if host and not host.finishes else "200")


def _connected(machine: Machine) -> bool:
    """Whether there is an accepted connection to the socket: state 03 (SS_CONNECTED)."""
    lines = map(str.split, machine.read("/proc/net/unix").splitlines())
    return any(line[5] == "03" and line[7:] == [SOCKET] for line in lines)


RELOADED = [("native", "auto"), ("flup", "scgi"), ("waitress", "auto"), ("gunicorn", "http")]


@pytest.mark.parametrize(("server", "protocol"), RELOADED, ids=map("-".join, RELOADED))
def test_a_reload_brings_new_code_in(front: Machine, server: str, protocol: str) -> None:
    deploy(front, server, protocol)
    assert "<form" in get(front)
    before = inode(front)
    view = "/srv/mysite/mysite/urls.py"
    original = front.read(view)
    marker = f"from_{server}"
    added = (
        "\nfrom django.http import HttpResponse\n"
        f"urlpatterns.insert(0, path('{marker}', lambda request: HttpResponse('new code')))\n"
    )
    try:
        front.write(view, original + added)
        front.reload("mysite.service")
        front.wait(lambda: _answers(front, f"/{marker}"), "the new code")
    finally:
        front.write(view, original)
    assert front.run("systemctl", "is-active", "mysite.service").stdout == "active\n"
    assert inode(front) == before


def _answers(machine: Machine, path: str) -> bool:
    try:
        return get(machine, path) == "new code"
    except CommandFailed:
        return False


NO_RELOAD = sorted(host.name for host in external_servers.SERVERS.values() if not host.reload)


@pytest.mark.parametrize("server", NO_RELOAD)
def test_a_server_without_a_sound_reload_has_none(front: Machine, server: str) -> None:
    deploy(front, server, "auto")
    done = front.run("systemctl", "show", "-P", "CanReload", "mysite.service")
    assert done.stdout == "no\n"


@pytest.mark.parametrize("server", BACKENDS)
def test_the_units_command_can_be_tried_by_hand(front: Machine, server: str) -> None:
    """`sdactivate serve --server NAME` on a socket of systemd-socket-activate's."""
    front.run("systemctl", "stop", "mysite.service")
    interface = _interface(server)
    protocol = "http" if server != "flup" else "auto"
    by_hand = f"""
        cd /srv/mysite
        export STATE_DIRECTORY=/tmp HOME=/tmp
        exec setpriv --reuid=alice --regid=alice --clear-groups systemd-socket-activate \\
            -E STATE_DIRECTORY -E PATH -l 127.0.0.1:8123 {front.sdactivate[0]} serve \\
            --server {server} --protocol {protocol} mysite.{interface}:application
    """
    process = front.popen("sh", "-ec", by_hand)
    try:
        front.wait(lambda: _status(front), f"an answer of {server}")
    finally:
        process.terminate()
        process.wait(60)


def _status(machine: Machine) -> bool:
    fetch = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20")
    found = machine.run(*fetch, "http://127.0.0.1:8123/status?code=202", check=False).stdout
    return bool(re.fullmatch("[2-5]0[0-9]", found))


def test_one_that_is_not_installed_says_how_to_install_it(front: Machine) -> None:
    """An environment of its own, which sees this package and has no uWSGI beside it."""
    front.run("/usr/bin/python3", "-m", "venv", "--without-pip", "/opt/bare")
    packages = front.run("sh", "-c", "echo /opt/sdactivate/lib/python3*/site-packages").stdout
    done = front.run(
        *("/opt/bare/bin/python", "-m", "sdactivate", "serve", "--server", "uwsgi"),
        "mysite.wsgi:application",
        env={"PYTHONPATH": packages.strip()},
        check=False,
    )
    assert done.returncode == 1
    assert "uwsgi is not installed for /opt/bare/bin/python" in done.stderr
    assert "`/opt/bare/bin/python -m pip install uWSGI`" in done.stderr
