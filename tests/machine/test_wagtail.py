"""Wagtail with its background worker through three releases and a rollback, under load.

Another project's application in a real machine: PostgreSQL, uploads, the editor's own pages, tasks
of Wagtail's and the site's run by django-tasks-db. One release changes the code, one adds a
migration, one is refused, one brings the next major Wagtail. By hand, a few minutes:

    script/test -m by_hand -rP tests/machine/test_wagtail.py

What it prints goes into docs/tested.md.
"""

import json
import time
from pathlib import Path

import pytest

from bench.releases import clients
from tests.machine.application import BROWSER, Application
from tests.machine.machine import Installation, Machine, wheels
from tests.machine.test_guide import bring

pytestmark = pytest.mark.by_hand

OLD, NEW = "7.4.4", "8.0.1"
REQUIREMENTS = """\
wagtail=={}
django-tasks-db[compat]==0.13.0
psycopg[binary]==3.3.6
sdactivate
"""
PROJECT = "/root/press"
DEVELOPER = "/root/venv/bin"
SETTINGS = """
import os
from pathlib import Path

INSTALLED_APPS += ["django_tasks", "django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
SECRET_KEY = "for the build"
if "CREDENTIALS_DIRECTORY" in os.environ:
    SECRET_KEY = (Path(os.environ["CREDENTIALS_DIRECTORY"]) / "secret_key").read_text()
ALLOWED_HOSTS = ["localhost"]
WAGTAILADMIN_BASE_URL = "http://localhost"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "press"}}
MEDIA_ROOT = "/srv/press-media"
FILE_UPLOAD_PERMISSIONS = 0o644
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o755
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"journal": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["journal"], "level": "INFO"},
}
"""
TASKS = """\
from django_tasks import task
from home import slow as code

@task()
def slow(name):
    code.slow(name)
"""
ENQUEUE = "from home.tasks import slow; slow.enqueue({!r})"
PAGE = """\
{{% extends "base.html" %}}
{{% block content %}}<h1>Release {version}</h1><p>{{{{ page.motto }}}}</p>{more}{{% endblock %}}
"""
MODELS = """\
from django.db import models
from wagtail.models import Page

class HomePage(Page):
    motto = models.CharField(max_length=80, default="Nothing lost")
"""
SITES = """\
[sites.press]
group = "www-data"
app = "press.wsgi:application"
chdir = "/srv/press/current"
python = "/srv/press/current/.venv/bin/python"
run-as = "press"
credential = ["secret_key=/etc/press.key"]
writable = ["/srv/press-media"]
env = ["DJANGO_SETTINGS_MODULE=press.settings.production"]
"""
# Once there are tables.
MORE = """
health = "/"

[sites.press.worker]
tasks = "python manage.py db_worker --queue-name * --interval 0.2"
"""
HOST = """
useradd --system --no-create-home press
systemctl start postgresql
umask 077
head -c 48 /dev/urandom | base64 >/etc/press.key
install -d -o press -g www-data -m 0750 /srv/press-media
"""
FRONT = """
rm /etc/nginx/conf.d/mysite.conf
sdactivate gen press --kind nginx --server-name localhost \\
    --static /static/=/srv/press/current/staticfiles \\
    --media /media/=/srv/press-media >/etc/nginx/conf.d/press.conf
systemctl start nginx
"""
# An editor: logs in, uploads a picture, publishes a page, and looks at both.
EDITOR = r"""
import struct, zlib

def png(side):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check
    rows = b"".join(b"\0" + bytes(x * y % 256 for x in range(3 * side)) for y in range(side))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

slug = sys.argv[1]
assert post("/admin/login/", username="alice", password="correct horse").endswith("/admin/")
assert post("/admin/images/add/", png(300), title=slug).endswith("/admin/images/")
page = {f"comments-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL", "MIN_NUM", "MAX_NUM")}
page |= {"title": f"Page {slug}", "slug": slug, "action-publish": "action-publish"}
assert post("/admin/pages/add/home/homepage/3/", **page).endswith("/admin/pages/3/")
assert b"<h1>Release" in get(f"/{slug}/")
image = re.search(rb'src="(/media/images/\S+?)"', get("/admin/images/"))[1].decode()
assert get(image).startswith(b"\x89PNG")
for style in re.findall(rb'href="(/static/\S+?\.css)"', get("/admin/") + get("/")):
    get(style.decode())  # an error is raised
"""
SUPERUSER = """
from django.contrib.auth.models import User
User.objects.create_superuser("alice", password="correct horse")
"""
STATES = """
import collections
from django_tasks_db.models import DBTaskResult
print(dict(collections.Counter(DBTaskResult.objects.values_list("status", flat=True))))
"""


class Press(Application):
    """The site, its developer and its editor."""

    def version_of_the_code(self, version: str, more: str = "") -> None:
        page = PAGE.format(version=version, more=more)
        self.machine.write(f"{self.project}/home/templates/home/home_page.html", page)
        self.machine.write(f"{self.project}/home/tasks.py", TASKS)
        self.write("home", "wagtail", version)

    def edit(self, slug: str) -> None:
        """An editor's work; what is published is found once the worker has indexed it."""
        self.machine.run(self.machine.python, "-c", BROWSER + EDITOR, slug)
        found = f"Page {slug}"
        self.machine.wait(
            lambda: found in self.machine.curl(f"/search/?query={slug}"), f"{found} in the index"
        )


@pytest.fixture(scope="module")
def press(machine: Machine, installation: Installation, fitting_wheel: Path) -> Press:
    for version in (OLD, NEW):
        wanted = [it for it in REQUIREMENTS.format(version).split() if it != "sdactivate"]
        bring(machine, wheels(installation, fitting_wheel, *wanted))
    site = Press(machine, "press", "/")
    pip = f"{DEVELOPER}/pip install --quiet --no-index --find-links /srv/wheels"
    start = f"""
        /usr/bin/python3 -m venv /root/venv
        {pip} wagtail=={OLD} 'django-tasks-db[compat]' 'psycopg[binary]'
        cd /root && {DEVELOPER}/wagtail start press
    """
    machine.run("sh", "-ec", start, timeout=300)
    machine.write(f"{PROJECT}/requirements.txt", REQUIREMENTS.format(OLD))
    production = f"{PROJECT}/press/settings/production.py"
    machine.write(production, machine.read(production) + SETTINGS)
    site.version_of_the_code("one")
    machine.run("sh", "-ec", HOST)
    machine.run("createuser", "press", user="postgres")
    machine.run("createdb", "--owner", "press", "press", user="postgres")
    machine.write("/etc/sdactivate/sites.toml", SITES)
    with site.timed("first release, with its environment"):
        site.release("--build-env", "DJANGO_SETTINGS_MODULE=press.settings.production")
    install = ("sdactivate", "install", "press", "--from", "/etc/sdactivate/sites.toml")
    machine.run(*install, timeout=300)
    with site.timed("second release, with all migrations"):
        site.release()
    machine.write("/etc/sdactivate/sites.toml", SITES + MORE)
    machine.run(*install, timeout=300)
    machine.run("sh", "-ec", FRONT)
    site.manage("shell", input=SUPERUSER)
    return site


def test_three_releases_and_a_rollback_under_load(press: Press) -> None:
    machine = press.machine
    press.edit("first")
    with clients(machine, 4, 0.2, "<h1>Release") as alone:
        time.sleep(20)
    with clients(machine, 4, 0.2, "<h1>Release") as during:
        press.version_of_the_code("two")
        done = press.release_during("code", ENQUEUE.format("code"), "Release two", "release: code")
        assert done == f"one one {OLD}"

        press.version_of_the_code("three")
        machine.write(f"{PROJECT}/home/models.py", MODELS)
        migration = f"cd {PROJECT} && {DEVELOPER}/python manage.py makemigrations home"
        machine.run("sh", "-c", migration)
        with press.timed("release: a migration"):
            press.release()
        assert "Release three</h1><p>Nothing lost" in machine.curl("/")

        press.version_of_the_code("refused", "{% url 'nowhere' %}")
        with press.timed("release: refused by its health check"):
            said = press.release(check=False)
        assert "NoReverseMatch" in said
        assert "as before; no migration has run" in said
        assert "Release three" in machine.curl("/")

        press.version_of_the_code("four")
        machine.write(f"{PROJECT}/requirements.txt", REQUIREMENTS.format(NEW))
        done = press.release_during(
            "wagtail", ENQUEUE.format("wagtail"), "Release four", "release: another Wagtail"
        )
        assert done == f"three three {OLD}"
        assert press.version("wagtail") == NEW
        press.edit("second")

        press.rollback()
        assert "Release three" in machine.curl("/")
        assert press.version("wagtail") == OLD
        press.edit("third")
    print(json.dumps({"alone": alone, "during": during, "took_s": press.took}, indent=1))
    assert during["lost"] == []


def test_no_task_is_lost_and_nothing_is_wrong(press: Press) -> None:
    machine = press.machine
    machine.wait(
        lambda: "READY" not in press.manage("shell", "-v0", "-c", STATES), "all tasks to have run"
    )
    successful = press.manage("shell", "-v0", "-c", STATES)
    print(successful)
    assert "SUCCESSFUL" in successful
    assert successful.count(":") == 1  # of one kind all
    assert "nothing found" in machine.run("sdactivate", "doctor", "press").stdout
    shown = json.loads(machine.run("sdactivate", "status", "press", "--format", "json").stdout)
    print(json.dumps(shown, indent=1))
    assert machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""
    versions = "systemctl --version | head -1; /usr/bin/python3 --version; nginx -v 2>&1"
    print(machine.run("sh", "-c", f"{versions}; psql --version; uname -r").stdout)
