"""Django's own tasks: a task under way at a release ends with the code that it began with.

django.tasks of Django 6 and django_tasks for Django 5.2, by the database worker of django-tasks-db.
"""

import subprocess

from tests.machine.machine import Machine

SITE = "/root/queue"
STATE = "/var/lib/queue"
SETTINGS = """
INSTALLED_APPS += ["django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
"""
JOBS = """\
import os, time
from pathlib import Path
try:
    from django.tasks import task
except ImportError:
    from django_tasks import task

VERSION = "{version}"

@task()
def work(name):
    state = Path(os.environ["STATE_DIRECTORY"])
    (state / f"begun-{{name}}").touch()
    while not (state / f"go-{{name}}").exists():
        time.sleep(0.05)
    import late
    (state / f"done-{{name}}").write_text(f"{{VERSION}} {{late.VERSION}}")
"""
STATES = """
from django_tasks_db.models import DBTaskResult
print(*DBTaskResult.objects.values_list("status", flat=True))
"""
WORKER = "tasks=python manage.py db_worker --interval 0.1 --no-startup-delay"
UNIT = "queue-tasks@1.service"


def write(machine: Machine, version: str) -> None:
    machine.write(f"{SITE}/jobs.py", JOBS.format(version=version))
    machine.write(f"{SITE}/late.py", f'VERSION = "{version}"\n')


def enqueue(machine: Machine, name: str) -> None:
    code = f"from jobs import work; work.enqueue({name!r})"
    manage = ("sdactivate", "run", "queue", "--", "python", "manage.py")
    machine.run(*manage, "shell", "-c", code)
    begun = ("test", "-e", f"{STATE}/begun-{name}")
    machine.wait(lambda: machine.succeeds(*begun), f"the task {name} to begin")


def test_a_task_under_way_at_a_release(machine: Machine) -> None:
    release = ("sdactivate", "release", "queue", SITE, "--python", machine.python)
    machine.run(
        "sh", "-c", f"mkdir -p {SITE} && cp -a /srv/mysite/. {SITE} && rm -r {SITE}/staticfiles"
    )
    settings = f"{SITE}/mysite/settings.py"
    machine.write(settings, machine.read(settings) + SETTINGS)
    write(machine, "one")
    machine.run(*release)
    install = ("install", "queue", "--group", "www-data", "--app", "mysite.wsgi:application")
    place = ("--chdir", "/srv/queue/current", "--python", machine.python)
    machine.run("sdactivate", *install, *place, "--worker", WORKER)
    manage = ("sdactivate", "run", "queue", "--", "python", "manage.py")
    machine.run(*manage, "migrate")

    enqueue(machine, "first")
    write(machine, "two")
    with machine.popen(*release, stderr=subprocess.PIPE) as process:
        stopping = "deactivating"
        machine.wait(lambda: machine.show(UNIT, "ActiveState") == stopping, "the worker's stop")
        assert not machine.succeeds("test", "-e", f"{STATE}/done-first")
        machine.run("touch", f"{STATE}/go-first")
        _, said = process.communicate(timeout=90)
        assert process.returncode == 0, said
    assert machine.read(f"{STATE}/done-first") == "one one"
    machine.run("touch", f"{STATE}/go-second")
    enqueue(machine, "second")
    done = ("test", "-e", f"{STATE}/done-second")
    machine.wait(lambda: machine.succeeds(*done), "the second task")
    assert machine.read(f"{STATE}/done-second") == "two two"

    # One that waits for a task ends at once, and that is no failure.
    states = "SUCCESSFUL SUCCESSFUL\n"
    ask = (*manage, "shell", "-v0", "-c", STATES)
    machine.wait(lambda: machine.run(*ask).stdout == states, "both to be done")
    machine.run("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "Result") == "success"
    machine.run("sdactivate", "uninstall", "queue", timeout=180)
