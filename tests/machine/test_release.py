"""Releases in a real machine: made, refused, killed at each step, rolled back."""

import json
import subprocess

import pytest

from tests.machine.machine import Machine

SOCKET = "/run/mysite.sock"
SRV = "/srv/quick"
# Quick to start, and with the words of manage.py that a release says. What `told` has in it fails.
APPLICATION = """
import os, sys
RELEASE = {name!r}
def application(environ, start_response):
    start_response("503 Told to" if "unhealthy" in open("told").read() else "200 OK", [])
    return [(os.getcwd() if environ["PATH_INFO"] == "/where" else RELEASE).encode()]
"""
MANAGE = """
import os, pathlib, sys
words, told = sys.argv[1:], pathlib.Path("told").read_text().split()
if words[0] in told:
    sys.exit("told to fail: " + words[0])
if words[0] == "diffsettings":
    print("INSTALLED_APPS = ['django.contrib.staticfiles']")
    print(f"STATIC_ROOT = {str(pathlib.Path('static').resolve())!r}")
elif words[0] == "collectstatic":
    pathlib.Path("static").mkdir(exist_ok=True)
    pathlib.Path("static/by").write_text(f"{os.getuid()}")
elif words[:2] == ["migrate", "--plan"]:
    print("quick.0001_first\\n    Add field new to thing")
    print("    Remove field age from thing" if "takes" in told else "")
elif words[0] == "migrate":
    with open(os.environ["STATE_DIRECTORY"] + "/migrated", "a") as file:
        print(os.getuid(), os.getcwd(), file=file)
    print("  Applying quick.0001_first... OK")
    if "halfway" in told:
        sys.exit("told to fail halfway")
"""

# A background worker: what it has begun it finishes, where it was started.
TASK = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
open(os.environ["STATE_DIRECTORY"] + "/begun", "w").close()
signal.sigwait({signal.SIGTERM})
with open(os.environ["STATE_DIRECTORY"] + "/finished", "a") as file:
    print(os.getcwd(), file=file)
"""


class Quick:
    """A site without Django, in directories of the machine's."""

    url = ("--unix-socket", "/run/quick.sock")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def write(self, name: str, told: str = "", app: str = "") -> None:
        self.machine.write("/root/quick/app.py", app + APPLICATION.format(name=name))
        self.machine.write("/root/quick/manage.py", MANAGE)
        self.machine.write("/root/quick/task.py", TASK)
        self.machine.write("/root/quick/told", told)

    def release(
        self, name: str, *options: str, told: str = "", app: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        self.write(name, told, app)
        argv = (*self.machine.sdactivate, "release", "quick", "/root/quick", *options)
        return self.machine.run(*argv, "--python", self.machine.python, check=check)

    def get(self, path: str = "/") -> str:
        return self.machine.run("curl", "-sSf", *self.url, f"http://localhost{path}").stdout

    def releases(self) -> dict[str, dict[str, str]]:
        argv = (*self.machine.sdactivate, "releases", "quick", "--format", "json")
        shown = json.loads(self.machine.run(*argv).stdout)["releases"]
        return {one["id"]: one for one in shown}

    def refuse(self, reason: str, *options: str, told: str = "", app: str = "") -> str:
        """A release fails for `reason`, and what was served is served on."""
        before, linked = self.get("/where"), self.machine.run("readlink", f"{SRV}/current").stdout
        known = self.releases()
        failed = self.release("refused", *options, told=told, app=app, check=False)
        assert failed.returncode == 1, failed.stderr
        assert reason in failed.stderr
        assert f"quick serves release {before.rpartition('/')[2]} as before" in failed.stderr
        assert self.get("/where") == before
        assert self.machine.run("readlink", f"{SRV}/current").stdout == linked
        assert self.releases().keys() == known.keys()
        left = self.machine.run("systemctl", "list-units", "--all", "--plain", "sdactivate-*")
        assert "0 loaded units" in left.stdout
        return failed.stderr


@pytest.fixture(scope="module")
def quick(machine: Machine) -> Quick:
    site = Quick(machine)
    first = site.release("first", "--ref", "v1")
    assert "there is no quick.service yet" in first.stderr
    install = ("install", "quick", "--group=www-data", "--app=app:application")
    place = (f"--chdir={SRV}/current", f"--python={machine.python}", "--health=/health")
    machine.run(*machine.sdactivate, *install, *place, "--worker=task=python task.py")
    assert site.get() == "first"
    begun = ("test", "-e", "/var/lib/quick/begun")
    machine.wait(lambda: not machine.run(*begun, check=False).returncode, "the worker to begin")
    return site


def test_a_release_is_root_s_and_is_served(quick: Quick) -> None:
    run = quick.machine.run
    quick.machine.write("/root/quick/data", "secret", mode=0o600)
    done = quick.release("second", "--before", "id -u >before", "--after", "cat before >&2")
    states = quick.releases()
    latest, first = states
    assert quick.get() == "second"
    assert quick.get("/where") == f"{SRV}/releases/{latest}"
    assert states[latest]["state"] == "serves"
    assert states[latest]["by"] == "root"
    assert [one["ref"] for one in states.values()] == ["", "v1"]
    for step in ("unpack /root/quick (", "migrate (", "reload quick.service ("):
        assert f"sdactivate: {step}" in done.stderr
    everything = run("find", SRV, "-printf", "%U:%G %m %y %P\n").stdout.splitlines()
    assert {line.split()[0] for line in everything} == {"0:0"}
    modes = {tuple(line.split()[1:3]) for line in everything if "releases/2" in line}
    assert modes == {("755", "d"), ("644", "f")}
    # Who built it, who migrated it and root are three.
    builder = run("cat", f"{SRV}/current/static/by").stdout
    assert run("cat", f"{SRV}/current/before").stdout.strip() == builder
    (migrated,) = run("cat", "/var/lib/quick/migrated").stdout.splitlines()
    assert migrated.split()[1] == f"{SRV}/releases/{latest}"
    assert len({builder, migrated.split()[0], "0"}) == 3
    assert "warning: migrate" not in done.stderr
    # Background workers finish with the code that they began with.
    assert run("cat", "/var/lib/quick/finished").stdout == f"{SRV}/releases/{first}\n"
    pid = quick.machine.show("quick-task@1.service", "MainPID")
    where = run("readlink", f"/proc/{pid}/cwd").stdout.strip()
    assert where == f"{SRV}/releases/{latest}"


def test_a_step_that_fails_changes_nothing(quick: Quick) -> None:
    built = "collect static files: `manage.py collectstatic` failed (exit 1): told to fail"
    assert "no migration has run" in quick.refuse(built, told="collectstatic")
    quick.refuse("check: `manage.py check` failed (exit 1): told to fail: check", told="check")
    again = quick.machine.run("sh", f"{SRV}/.again", check=False)
    assert (again.returncode, again.stdout + again.stderr) == (1, "told to fail: check\n")
    halfway = "migrate: `manage.py migrate` failed (exit 1):   Applying quick.0001_first... OK"
    said = quick.refuse(halfway, told="halfway")
    assert "These migrations have run: quick.0001_first" in said


def test_what_is_taken_from_the_code_that_still_serves(quick: Quick) -> None:
    said = quick.release("takes", told="takes").stderr
    assert "warning: migrate: Remove field age from thing: the old release, which" in said
    assert "Add field" not in said


def test_what_cannot_be_served_is_not(quick: Quick) -> None:
    quick.refuse("ModuleNotFoundError: No module named 'nowhere'", app="import nowhere\n")
    said = quick.refuse("GET http://localhost/health was answered 503 Told to", told="unhealthy")
    assert "reload quick.service: `systemctl reload quick.service` failed" in said


def test_a_service_that_does_not_run_is_started(quick: Quick) -> None:
    machine = quick.machine
    machine.run("systemctl", "stop", "quick.service")
    quick.release("started")
    assert machine.show("quick.service", "ActiveState") == "active"
    assert quick.get() == "started"


def test_rollback_and_back(quick: Quick) -> None:
    newest, before = list(quick.releases())[:2]
    rollback = (*quick.machine.sdactivate, "rollback", "quick")
    said = quick.machine.run(*rollback).stderr
    assert f"quick serves release {before}\n" in said
    assert "migrations of later releases are not undone: quick.0001_first" in said
    assert quick.get("/where") == f"{SRV}/releases/{before}"
    quick.machine.run(*rollback, newest)
    assert quick.get("/where") == f"{SRV}/releases/{newest}"
    wrong = quick.machine.run(*rollback, "yesterday", check=False)
    assert (wrong.returncode, "there is no such release" in wrong.stderr) == (2, True)


def test_two_at_once(quick: Quick) -> None:
    script = f"exec 9>>{SRV}/.lock; flock 9; echo; read _"
    with quick.machine.popen(
        "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        failed = quick.release("late", check=False)
        assert failed.returncode == 1
        assert "another release or rollback of quick is running" in failed.stderr


# The lines after which a release is killed: what comes next has begun then.
BEFORE_IT_DIES = ("unpack", "collect", "take it over", "check", "migrate", "switch")


def test_killed_at_each_step(quick: Quick) -> None:
    """What was served is served on, and at the end a release succeeds."""
    served = quick.get()
    for line in BEFORE_IT_DIES:
        quick.write("killed")
        # So that it does not end meanwhile, however late the kill comes.
        lasts = () if line == "switch" else ("--after", "sleep 300")
        argv = (*quick.machine.sdactivate, "release", "quick", "/root/quick", *lasts)
        process = quick.machine.popen(
            *argv, "--python", quick.machine.python, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        for said in process.stderr:
            if said.startswith(f"sdactivate: {line}"):
                break
        kill = quick.machine.run("sh", "-c", f"kill -KILL $(cat {SRV}/.lock)", check=False)
        process.stderr.close()
        process.wait(60)
        if line != "switch":
            assert kill.returncode == 0
            assert quick.get() == served
    quick.release("at last")
    assert quick.get() == "at last"
    assert ".staging" not in quick.machine.run("ls", "-a", SRV).stdout
    left = set(quick.machine.run("ls", f"{SRV}/releases").stdout.split())
    assert {name.removesuffix(".json") for name in left} == quick.releases().keys()


def test_a_full_disk(quick: Quick) -> None:
    """At whatever step it is full: each time there is a little more room."""
    machine = quick.machine
    mount = f"""
        mount -t tmpfs -o size=64M,mode=755 full /mnt
        cp -a {SRV}/. /mnt/
        mount --bind /mnt {SRV}
        systemctl restart quick.service
    """
    machine.run("sh", "-ec", mount)
    try:
        machine.run("sh", "-ec", "head -c 6M /dev/urandom >/root/quick/large")
        room = int(machine.run("sh", "-c", f"df -B1 --output=avail {SRV} | tail -1").stdout)
        for free in (1, 8):  # MiB: not once, and not twice
            machine.run("sh", "-c", f"head -c {room - (free << 20)} /dev/zero >{SRV}/filler")
            quick.refuse("No space left on device")
            machine.run("rm", f"{SRV}/filler")
        quick.release("fits again")
        assert quick.get() == "fits again"
    finally:
        machine.run("rm", "-f", "/root/quick/large")
        machine.run("sh", "-ec", f"umount -l {SRV} /mnt; systemctl restart quick.service")


def test_a_site_that_would_not_see_it(quick: Quick) -> None:
    failed = quick.machine.run(
        *quick.machine.sdactivate, "release", "dbus", "/root/quick", check=False
    )
    assert failed.returncode == 1
    assert "dbus.service runs in / and would not see a release" in failed.stderr
    assert "--chdir /srv/dbus/current" in failed.stderr


# What the machine has in /opt/sdactivate, as a package that an environment can be built with.
WHEEL = """
import glob, zipfile
(packages,) = glob.glob("/opt/sdactivate/lib/python3*/site-packages")
info = "machine-1.dist-info"
with zipfile.ZipFile("/root/wheels/machine-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("machine.pth", packages)
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: machine\\nVersion: 1\\n")
    about = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    wheel.writestr(f"{info}/WHEEL", about)
    wheel.writestr(f"{info}/RECORD", "")
"""
MIGRATION = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("guestbook", "{after}")]
    operations = [migrations.RunSQL({sql!r})]
"""


def test_a_django_site_with_its_environment(machine: Machine) -> None:
    """From nothing to its third release and back; the second one fails halfway."""
    prepare = """
        mkdir /root/wheels && cp -r /srv/mysite /root/ && rm -rf /srv/mysite
        cd /root/mysite && rm -rf static && echo machine==1 >requirements.txt
    """
    machine.run("sh", "-ec", prepare)
    machine.run("/usr/bin/python3", "-c", WHEEL)
    wheels = ("--find-links", "/root/wheels", "--no-index", "--python", "/usr/bin/python3")

    def release(check: bool = True) -> str:
        tar = "tar --create --directory /root/mysite . | sdactivate release mysite - --ref x "
        return machine.run("sh", "-c", tar + " ".join(wheels), check=check).stderr

    def page() -> str:
        curl = ("curl", "-sSf", "--unix-socket", SOCKET, "http://localhost/")
        return machine.run(*curl).stdout

    assert "build its environment from requirements.txt (" in release()
    python = "/srv/mysite/current/.venv/bin/python"
    place = ("--chdir=/srv/mysite/current", f"--python={python}")
    install = ("install", "mysite", "--group=www-data", "--app=mysite.wsgi:application")
    machine.run(*machine.sdactivate, *install, *place)
    first = machine.run("readlink", "/srv/mysite/current").stdout.strip()

    migrations = "/root/mysite/guestbook/migrations"
    good, bad = "create table more (id integer)", "create tabel"
    machine.write(f"{migrations}/0002_more.py", MIGRATION.format(after="0001_initial", sql=good))
    machine.write(f"{migrations}/0003_bad.py", MIGRATION.format(after="0002_more", sql=bad))
    said = release(check=False)
    assert "sdactivate release: migrate: `manage.py migrate` failed (exit 1)" in said
    assert "guestbook.0002_more" in said.splitlines()[-1]
    assert "guestbook.0003" not in said.splitlines()[-1]
    assert machine.run("readlink", "/srv/mysite/current").stdout.strip() == first

    machine.run("rm", f"{migrations}/0003_bad.py")
    template = "/root/mysite/guestbook/templates/guestbook/home.html"
    machine.run("sed", "-i", "s/<h1>/<h1>New /", template)
    assert f"the environment of {first.rpartition('/')[2]} is used" in release()
    assert "<h1>New Guestbook" in page()
    machine.run("test", "-e", "/srv/mysite/current/staticfiles/guestbook/style.css")
    # What is imported late is looked for where the process began, not where `current` leads then.
    path = machine.run(python, "-c", "import sys; print(*sys.path)", user="nobody").stdout
    assert "/srv/mysite/current" not in path
    assert "/srv/mysite/environments/2" in path
    machine.run(*machine.sdactivate, "rollback", "mysite")
    assert "<h1>Guestbook" in page()
