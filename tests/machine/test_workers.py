"""Background workers: Celery and RQ with Redis by its unix socket, and a loop of manage.py."""

import json
import re

import pytest

from tests.machine.machine import Machine

SOCKET = "/run/redis/redis.sock"
REDIS = (
    *("systemd-run", "--unit=tests-redis", "-p", "User=redis", "-p", "RuntimeDirectory=redis"),
    *("redis-server", "--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "770"),
)
JOBS = f"""\
import time
from celery import Celery
from redis import Redis

VERSION = "{{version}}"
URL = "redis+socket://{SOCKET}"
app = Celery("jobs", broker=URL, backend=URL, broker_connection_retry_on_startup=True)
redis = Redis(unix_socket_path="{SOCKET}", decode_responses=True)
plain = Redis(unix_socket_path="{SOCKET}")

def work(name):
    redis.rpush("begun", name)
    redis.blpop(f"go-{{{{name}}}}", 300)
    redis.rpush("done", f"{{{{name}}}} {{{{VERSION}}}}")

task = app.task(work)
"""
LOOP = """\
import os, signal, time
from pathlib import Path
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("name")

    def handle(self, name, **options):
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ends", True))
        while not hasattr(self, "ends"):
            Path(os.environ["STATE_DIRECTORY"], f"beat-{name}").write_text(os.environ["PACE"])
            time.sleep(0.1)
"""
SITES = """\
[sites.mysite]
app = "mysite.wsgi:application"
chdir = "/srv/mysite"
group = "www-data"
join = ["redis"]
env = ["PYTHONDONTWRITEBYTECODE=1"]  # two versions within one second

[sites.mysite.worker]
rq = "rq worker --url unix://{socket}"

[sites.mysite.worker.celery]
command = "celery -A jobs worker --concurrency 1 --hostname '{{instance}}@%h'"
network = "local"
memory-max = "1G"
env = ["OWN=celery"]

[sites.mysite.worker.loop]
command = "python manage.py beat {{instance}}"
count = {count}
env = ["PACE={pace}"]
stop-timeout = "20s"
"""
ENQUEUE = {
    "celery": "jobs.task.delay('{0}')",
    "rq": "import rq; rq.Queue(connection=jobs.plain).enqueue(jobs.work, '{0}')",
}


def install(machine: Machine, count: int = 2, pace: str = "slow", check: bool = True) -> str:
    machine.write("/etc/sites.toml", SITES.format(socket=SOCKET, count=count, pace=pace))
    command = ("sdactivate", "install", "mysite", "--from", "/etc/sites.toml")
    return machine.run(*command, check=check, timeout=180).stderr


def active(machine: Machine) -> list[str]:
    """The background workers that run."""
    command = ("systemctl", "list-units", "--plain", "--no-legend", "--state=active", "mysite-*")
    return [line.split()[0] for line in machine.run(*command).stdout.splitlines()]


ALL = [f"mysite-{one}.service" for one in ("celery@1", "loop@1", "loop@2", "rq@1")]


@pytest.fixture(scope="module")
def site(machine: Machine) -> Machine:
    if machine.run("sh", "-c", "command -v redis-server", check=False).returncode:
        pytest.skip("needs redis-server")
    machine.run(*REDIS)
    machine.write("/srv/mysite/jobs.py", JOBS.format(version="one"))
    for directory in ("management", "management/commands"):
        machine.write(f"/srv/mysite/guestbook/{directory}/__init__.py", "")
    machine.write("/srv/mysite/guestbook/management/commands/beat.py", LOOP)
    said = install(machine)
    assert "enable and start the background workers mysite-rq@1.service" in said
    return machine


def test_they_run_enabled_as_the_site_in_its_sandbox(site: Machine) -> None:
    assert active(site) == ALL
    for unit in ALL:
        assert site.run("systemctl", "is-enabled", unit).stdout == "enabled\n"
    celery = {name: site.show(ALL[0], name) for name in ("User", "MemoryMax", "Environment")}
    assert celery["User"] == "mysite"
    assert celery["MemoryMax"] == str(1 << 30)
    assert "OWN=celery" in celery["Environment"]
    allowed = site.show(ALL[0], "IPAddressAllow").split()
    assert sorted(allowed) == ["127.0.0.0/8", "::1/128"]
    assert site.show(ALL[3], "PrivateNetwork") == "yes"
    for unit in ALL:
        said = site.run("systemd-analyze", "security", "--no-pager", unit).stdout
        exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
        assert exposure
        assert float(exposure[1]) <= 1.2
    beats = "/var/lib/mysite/beat-1", "/var/lib/mysite/beat-2"
    site.wait(lambda: site.run("cat", *beats, check=False).stdout == "slow" * 2, "two loops")


@pytest.mark.parametrize("how", ENQUEUE)
def test_a_task_under_way_at_a_restart_finishes_with_its_own_code(how: str, site: Machine) -> None:
    """The site's own reload and restart leave it alone; its unit's restart waits for it."""

    def redis(*words: str) -> str:
        return site.run("redis-cli", "-s", SOCKET, *words).stdout.strip()

    def enqueue(name: str) -> None:
        code = f"import jobs; {ENQUEUE[how].format(name)}"
        site.run("sdactivate", "run", "mysite", "--", "python", "-c", code)
        site.wait(lambda: redis("lrange", "begun", "-1", "-1") == name, f"{name} to begin")

    unit = f"mysite-{how}@1.service"
    site.write("/srv/mysite/jobs.py", JOBS.format(version="one"))
    site.run("systemctl", "restart", unit)
    enqueue(f"{how}-first")
    site.write("/srv/mysite/jobs.py", JOBS.format(version="two"))
    pid = site.show(unit, "MainPID")
    site.reload("mysite.service")
    site.run("systemctl", "restart", "mysite.service")
    assert (site.show(unit, "MainPID"), site.show(unit, "ActiveState")) == (pid, "active")
    site.run("systemctl", "restart", "--no-block", unit)
    site.wait(lambda: site.show(unit, "ActiveState") == "deactivating", "its stop")
    assert redis("lrange", "done", "0", "-1").count(how) == 0
    redis("rpush", f"go-{how}-first", "1")
    site.wait(lambda: site.show(unit, "MainPID") not in (pid, "0"), "the next one")
    redis("rpush", f"go-{how}-second", "1")
    enqueue(f"{how}-second")
    site.wait(lambda: "second two" in redis("lrange", "done", "-1", "-1"), "the second task")
    done = [line for line in redis("lrange", "done", "0", "-1").splitlines() if how in line]
    assert done == [f"{how}-first one", f"{how}-second two"]


def test_they_stop_and_start_with_the_site_and_come_back_when_killed(site: Machine) -> None:
    site.run("systemctl", "stop", "mysite.socket", "mysite.service")
    site.wait(lambda: active(site) == [], "all to have stopped")
    site.run("systemctl", "start", "mysite.socket")
    site.wait(lambda: active(site) == ALL, "all to run again")
    pid = site.show("mysite-loop@2.service", "MainPID")
    site.run("kill", "-KILL", pid)
    site.wait(
        lambda: site.show("mysite-loop@2.service", "MainPID") not in (pid, "0"), "it to come back"
    )


def test_a_second_install_changes_what_has_changed_and_can_be_undone(site: Machine) -> None:
    beats = "/var/lib/mysite/beat-1", "/var/lib/mysite/beat-2"
    site.write("/root/more", "#!/bin/sh\n", mode=0o755)  # root can run it, the sandbox hides it
    failed = site.run(
        *("sdactivate", "install", "mysite", "--from", "/etc/sites.toml"),
        *("--worker", "more=/root/more"),
        check=False,
        timeout=180,
    )
    assert "install: enable and start the background workers" in failed.stderr
    assert failed.stderr.endswith("all changes were undone\n")
    site.wait(lambda: active(site) == ALL, "all to run as before")
    assert site.run("find", "/etc/systemd/system", "-name", "*more*").stdout == ""
    pid = site.show("mysite-rq@1.service", "MainPID")
    install(site, count=1, pace="fast")
    site.wait(lambda: active(site) == [one for one in ALL if "@2" not in one], "one loop")
    site.wait(lambda: site.run("cat", beats[0]).stdout == "fast", "the new pace")
    assert site.run("find", "/etc/systemd/system", "-name", "*@2*").stdout == ""
    assert site.show("mysite-rq@1.service", "MainPID") == pid


def test_explain_and_uninstall_know_them(site: Machine) -> None:
    said = json.loads(site.run("sdactivate", "explain", "mysite", "--format", "json").stdout)
    assert {one["unit"] for one in said} >= {"mysite.service", "mysite.socket", *ALL[:2]}
    assert [line for one in said for line in one["lines"] if not line["why"]] == []
    site.run("sdactivate", "uninstall", "mysite", timeout=180)
    assert site.run("find", "/etc/systemd/system", "-name", "mysite*").stdout == ""
    assert active(site) == []
    assert site.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
