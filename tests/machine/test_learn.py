"""doctor --learn: an application that is refused things, what is said of each, and the change.

Real parts: Redis, git, a process pool, clients of PostgreSQL and of SMTP. The larger ones
(matplotlib, numba, psutil, FFmpeg, node) are in test_learn_applications.py, by hand.
"""

import json
import re
import subprocess
from typing import Any

import pytest

from tests.machine.machine import Machine

SITE = """\
[sites.shop]
app = "shop:application"
chdir = "/srv/shop"
group = "www-data"
"""
APPLICATION = """\
import os, pathlib

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/upload":
        pathlib.Path("/srv/uploads/x").write_text("x")
    if path == "/memory":
        open("/proc/meminfo").close()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""
# Each is a program of the site's; what it needs, by the directive and the option.
PROGRAMS = {
    "upload": ("import shop; shop.application({'PATH_INFO': '/upload'}, lambda *_: None)",),
    "pool": (
        "import multiprocessing as m",
        "m.set_start_method('forkserver', force=True)",
        "m.Pool(1).close()",
    ),
    "redis": ("import redis", "redis.Redis(unix_socket_path='/run/redis/redis.sock').ping()"),
    "postgresql": ("import psycopg", "psycopg.connect('host=localhost connect_timeout=3')"),
    "smtp": ("import smtplib", "smtplib.SMTP('localhost', 25)"),
    "git": (
        "import os, subprocess",
        "d = os.environ['STATE_DIRECTORY'] + '/repository'",
        "subprocess.run(['git', 'init', '-q', d], check=True)",
        "subprocess.run(['git', '-C', d, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit',"
        " '-qm', 'x', '--allow-empty'], check=True)",
    ),
    "fine": (
        "import os, pathlib, tempfile",
        "tempfile.TemporaryFile().close()",
        "[pathlib.Path(d, 'x').exists() for d in ('/etc', '/nowhere', '/home/me', '/dev/x')]",
        "pathlib.Path(os.environ['STATE_DIRECTORY'], 'x').write_text('x')",
    ),
}
NEEDS = {
    "upload": [("ProtectSystem", "--writable /srv/uploads", "/srv/shop/shop.py:6 in application")],
    "pool": [("SystemCallFilter", "--allow-syscall listen", "/srv/shop/pool.py:3 in <module>")],
    "redis": [(None, "--join redis", "/srv/shop/redis_.py:2 in <module>")],
    "postgresql": [
        ("RestrictAddressFamilies", "--network local", "/srv/shop/postgresql.py:2 in <module>")
    ],
    "smtp": [("RestrictAddressFamilies", "--network local", "/srv/shop/smtp.py:2 in <module>")],
    "git": [],
    "fine": [],
}


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Machine:
    machine.write("/srv/shop/shop.py", APPLICATION)
    for name, lines in PROGRAMS.items():
        machine.write(file_of(name), "\n".join([*lines, ""]))
    machine.write("/etc/sdactivate/sites.toml", SITE)
    machine.run("install", "-d", "-m", "1777", "/srv/uploads")
    redis = ("--port", "0", "--unixsocket", "/run/redis/redis.sock", "--unixsocketperm", "770")
    machine.run("install", "-d", "-o", "redis", "-g", "redis", "/run/redis")
    machine.run("systemd-run", "-p", "User=redis", "redis-server", *redis, "--save", "")
    machine.run("sdactivate", "install", "shop", "--from", "/etc/sdactivate/sites.toml")
    machine.wait(lambda: machine.succeeds("test", "-S", "/run/redis/redis.sock"), "Redis")
    return machine


def file_of(name: str) -> str:
    # A program called redis.py would import itself
    return f"/srv/shop/{name}{'_' if name in ('redis',) else ''}.py"


def learn(shop: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    return shop.run("sdactivate", "doctor", "shop", "--learn", *words, check=False)


def needed(said: str) -> list[dict[str, Any]]:
    return [it for it in json.loads(said)["refusals"] if it["needed"] and it["option"]]


@pytest.mark.parametrize("name", NEEDS)
def test_what_a_program_needs(name: str, shop: Machine) -> None:
    done = learn(shop, "--while", f"python {file_of(name)}", "--format", "json")
    found = needed(done.stdout)
    assert [(it["directive"], it["option"], it["line"]) for it in found] == NEEDS[name], done.stderr
    assert done.returncode == (1 if NEEDS[name] else 0)
    assert all(it["exposure"] for it in found)
    assert not shop.run("sh", "-c", "ls -d /run/sdactivate-learn-* 2>&1", check=False).stdout.count(
        "sitecustomize"
    )


def test_the_change_is_shown_and_written_and_enough(shop: Machine) -> None:
    command = ("--while", f"python {file_of('upload')}", "--apply")
    done = learn(shop, *command)  # nobody is there to ask
    assert '+writable = ["/srv/uploads"]' not in done.stderr
    assert shop.read("/etc/sdactivate/sites.toml") == SITE
    done = learn(shop, *command, "--yes")
    assert '+writable = ["/srv/uploads"]' in done.stderr
    assert "exposure 0.2 -> 0.2" in done.stdout
    then = re.search(r"to apply it, run: (sdactivate install .*)", done.stderr)
    assert then
    shop.run("sh", "-ec", then[1])
    assert learn(shop, "--while", f"python {file_of('upload')}").returncode == 0
    assert shop.succeeds("test", "-e", "/srv/uploads/x")


def test_without_a_file_of_sites_a_drop_in_is_written(shop: Machine) -> None:
    shop.run("mv", "/etc/sdactivate/sites.toml", "/root/sites.toml")
    done = learn(shop, "--while", f"python {file_of('pool')}", "--apply", "--yes")
    shop.run("mv", "/root/sites.toml", "/etc/sdactivate/sites.toml")
    path = "/etc/systemd/system/shop.service.d/zz-sdactivate-doctor.conf"
    assert "SystemCallFilter=listen" in shop.read(path), done.stderr
    assert learn(shop, "--while", f"python {file_of('pool')}").returncode == 0
    shop.run("rm", path)
    shop.run("systemctl", "daemon-reload")


def ask(shop: Machine, path: str) -> str:
    fetch = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket")
    return shop.run(*fetch, "/run/shop.sock", f"http://shop.test{path}").stdout


def main_pid(shop: Machine) -> str:
    assert ask(shop, "/") == "200"
    return shop.show("shop.service", "MainPID")


def is_traced(shop: Machine, pid: str) -> bool:
    return "TracerPid:\t0\n" not in shop.read(f"/proc/{pid}/status")


@pytest.mark.parametrize("signal", ["INT", "TERM", "KILL"])
def test_the_running_site_is_watched_and_let_go(signal: str, shop: Machine) -> None:
    pid = main_pid(shop)
    asked = ("sdactivate", "doctor", "shop", "--learn", "500")
    refused = shop.run(*asked, check=False)
    assert refused.returncode == 1
    assert "requests take several times as long" in refused.stderr
    assert not is_traced(shop, pid)
    watching = shop.popen(*asked, "--yes", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    shop.wait(lambda: is_traced(shop, pid), "strace")
    assert ask(shop, "/memory") == "500"
    assert ask(shop, "/") == "200"
    doctor = shop.run("pgrep", "-f", "doctor shop --learn 500").stdout.split()[0]
    shop.run("kill", f"-{signal}", doctor)
    said = watching.communicate(timeout=60)[0]
    shop.wait(lambda: not is_traced(shop, pid), "strace to let go")
    assert ask(shop, "/") == "200"
    assert main_pid(shop) == pid
    assert not shop.succeeds("pgrep", "strace")
    if signal != "KILL":
        assert "ProcSubset= does not allow the site to read /proc/meminfo" in said
        assert "/srv/shop/shop.py:8 in application, where FileNotFoundError was raised" in said
        assert "anyone who can reach the site can make requests" in " ".join(said.split())


def test_what_requests_provoked_is_not_granted_by_yes(shop: Machine) -> None:
    pid = main_pid(shop)
    words = ("sdactivate", "doctor", "shop", "--learn", "500", "--apply", "--yes")
    watching = shop.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    shop.wait(lambda: is_traced(shop, pid), "strace")
    assert ask(shop, "/memory") == "500"
    shop.run("pkill", "-INT", "-f", "doctor shop --learn 500")
    said = watching.communicate(timeout=60)[0]
    assert "--yes does not allow what clients' requests may have triggered" in said
    assert "proc" not in shop.read("/etc/sdactivate/sites.toml")


def test_the_command_s_user_is_the_site_s(shop: Machine) -> None:
    done = learn(shop, "--while", "sh -c 'id -un; id -u; exit 3'")
    assert done.stderr.splitlines()[0] == "shop"
    assert int(done.stderr.splitlines()[1]) >= 61184
    assert "exited with code 3" in done.stderr


def test_without_strace_its_package_is_named(shop: Machine) -> None:
    shop.run("mv", "/usr/bin/strace", "/usr/bin/strace.away")
    try:
        done = learn(shop, "--while", "true")
    finally:
        shop.run("mv", "/usr/bin/strace.away", "/usr/bin/strace")
    assert done.returncode == 1
    assert "apt-get install strace" in done.stderr
    units = shop.run("systemctl", "list-units", "shop-run-*", "--plain", "--no-legend").stdout
    assert units == ""
