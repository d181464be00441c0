"""Another project's application as a site of a machine: what its administrator does, and a task.

For tests/machine/test_wagtail.py, which is run by hand.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.machine.machine import Machine

# The body of a task. What it says at its end: the code that it began with, what it imports then,
# and the version of a package that it looks up then.
SLOW = """\
import importlib.metadata, os, time
from pathlib import Path

VERSION = "{version}"

def slow(name):
    state = Path(os.environ["STATE_DIRECTORY"])
    (state / f"begun-{{name}}").touch()
    while not (state / f"go-{{name}}").exists():
        time.sleep(0.1)
    # By now there is a newer release; this one is still what a late import finds.
    from {package} import late
    found = importlib.metadata.version("{distribution}")
    (state / f"done-{{name}}").write_text(f"{{VERSION}} {{late.VERSION}} {{found}}")
"""
# What a person's browser does, for programs that go on from here: pages, forms with their token, a
# file, the session's cookies.
BROWSER = r"""
import http.cookiejar, re, sys, urllib.request

base = "http://localhost"
jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
opener = urllib.request.build_opener(jar)

def get(path):
    return opener.open(base + path, timeout=60).read()

def post(path, picture=b"", **fields):
    token = re.search(b'csrfmiddlewaretoken" value="(.*?)"', get(path))[1].decode()
    fields["csrfmiddlewaretoken"] = token
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    if picture:
        parts.append(('name="file"; filename="a.png"\r\nContent-Type: image/png', picture))
    head = b"--x\r\nContent-Disposition: form-data; "
    body = b"".join(head + k.encode() + b"\r\n\r\n" + v + b"\r\n" for k, v in parts)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(base + path, body + b"--x--\r\n", headers)
    return opener.open(request, timeout=60).geturl()
"""


class Application:
    """A site under releases, with one background worker, "tasks"."""

    def __init__(self, machine: Machine, name: str, path: str) -> None:
        self.machine = machine
        self.name = name
        self.project = f"/root/{name}"
        """Where its developer works."""
        self.path = path
        """The page that is looked at."""
        self.took: dict[str, float] = {}

    def write(self, package: str, distribution: str, version: str) -> None:
        """Another version of the task: `package` is where it is, `distribution` is asked for."""
        text = SLOW.format(version=version, package=package, distribution=distribution)
        self.machine.write(f"{self.project}/{package}/slow.py", text)
        self.machine.write(f"{self.project}/{package}/late.py", f'VERSION = "{version}"\n')

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long the block takes."""
        began = time.monotonic()
        yield
        self.took[name] = round(time.monotonic() - began, 1)

    def _release(self, *options: str) -> tuple[str, ...]:
        fetch = ("--find-links", "/srv/wheels", "--no-index", "--python", "/usr/bin/python3")
        return (*self.machine.sdactivate, "release", self.name, self.project, *fetch, *options)

    def release(self, *options: str, check: bool = True) -> str:
        """Make a release; return what was said."""
        return self.machine.run(*self._release(*options), check=check, timeout=900).stderr

    def release_during(self, task: str, enqueue: str, page: str, name: str) -> str:
        """Release while `task` is under way, until `page` is served; return what it says then."""
        machine, unit, state = self.machine, f"{self.name}-tasks@1.service", self.state
        self.manage("shell", "-c", enqueue)
        machine.wait(lambda: machine.succeeds("test", "-e", f"{state}/begun-{task}"), f"{task}")
        pid = machine.show(unit, "MainPID")
        with (
            self.timed(name),
            machine.popen(*self._release(), stderr=subprocess.PIPE) as process,
        ):
            machine.wait(lambda: page in machine.curl(self.path) or self.ended(process), page, 900)
            machine.wait(
                lambda: machine.show(unit, "ActiveState") == "deactivating" or self.ended(process),
                "the worker's stop",
            )
            assert not machine.succeeds("test", "-e", f"{state}/done-{task}")
            machine.run("touch", f"{state}/go-{task}")
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
        assert machine.show(unit, "MainPID") not in (pid, "0")
        return machine.read(f"{state}/done-{task}")

    @staticmethod
    def ended(process: "subprocess.Popen[str]") -> bool:
        """Fail with what a release has said, where it has ended early."""
        if process.poll() is None:
            return False
        raise AssertionError(process.communicate()[1])

    def rollback(self) -> None:
        """Go back to the release before."""
        with self.timed("rollback"):
            self.machine.run("sdactivate", "rollback", self.name, timeout=300)

    @property
    def state(self) -> str:
        """The site's state directory."""
        return f"/var/lib/{self.name}"

    def run(self, *command: str, input: str | None = None) -> str:
        """Run a command as the site; return what it prints."""
        argv = ("sdactivate", "run", self.name, "--", *command)
        return self.machine.run(*argv, input=input).stdout

    def manage(self, *words: str, input: str | None = None) -> str:
        """Run a command of manage.py as the site; return what it prints."""
        return self.run("python", "manage.py", *words, input=input)

    def version(self, distribution: str) -> str:
        """The version of a package in the environment that is served."""
        code = f"import importlib.metadata as i; print(i.version({distribution!r}), end='')"
        return self.run("python", "-c", code)
