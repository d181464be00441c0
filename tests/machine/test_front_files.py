"""Static files, uploads and protected files, through the fronts as they are packaged.

Each front goes through two configurations: the application at the root, and mounted with a login
and PHP beside it. `files_client.py` asks from inside. What differs from "ok" is a row of
`front_files.DEVIATIONS`, with the reason.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate.fronts import FRONTS, Front
from tests.machine import files_client
from tests.machine.files_client import OUTSIDE, SECRET, STYLE, UMLAUT
from tests.machine.front_files import CHECKS, PROTOCOL, SERVING, deviation
from tests.machine.fronts import PROGRAM, SETUP
from tests.machine.machine import Machine
from tests.machine.test_fronts import HTPASSWD

# Not imported: a process has one Django's settings. The directories are as they are there.
SITE_FILE = Path(files_client.__file__).with_name("files_site.py")
MEDIA, PROTECTED_FILES = "/srv/files-media", "/srv/files-protected"
SITE = ("--app", "files_site:application", "--chdir", "/srv/files")
PROTECTED = ("--protected", f"/protected/={PROTECTED_FILES}")
MOUNTED = (
    *("--mount", "/app", "--auth-file", "/etc/front.htpasswd"),
    *("--php", "/run/php/php-fpm.sock", "--stream", "/app/say"),
)
USERS = ("", "files-app")
"""Whom the site runs as; "": a dynamic user."""
COMPRESSED = ("style.css", "style.0123456789ab.css", "deep/er/pic.min.0123456789ab.svg", "app.js")
PLAIN = (*COMPRESSED, "alone.css", "style.0123456789AB.css", "style.0123456789abc.css")
FILES = {
    **{f"/srv/files/static/{name}": STYLE for name in PLAIN},
    **{f"/srv/files/static/{name}.br": f"brotli of {name}" for name in COMPRESSED},
    f"{MEDIA}/page.html": "<script>alert(1)</script>",
    f"{MEDIA}/style.0123456789ab.css": STYLE,
    f"{MEDIA}/.htaccess": "nonsense, which would be a 500\n",
    f"{PROTECTED_FILES}/secret.txt": SECRET,
    f"{PROTECTED_FILES}/empty.txt": "",
    f"{PROTECTED_FILES}/{UMLAUT}": UMLAUT,
    "/srv/files-protected-too/outside.txt": OUTSIDE,
    "/srv/outside.txt": OUTSIDE,
    "/srv/files/files_site.py": SITE_FILE.read_text(),
    "/srv/client.py": Path(files_client.__file__).read_text(),
    "/etc/front.htpasswd": HTPASSWD,
}
PREPARE = f"""
import gzip, pathlib
for name in {COMPRESSED!r}:
    path = pathlib.Path("/srv/files/static", name)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
"""


@pytest.fixture(scope="module")
def host(machine: Machine) -> Machine:
    """A machine with the fronts, and the site's files: its directories of uploads are not there."""
    machine.run("rm", "/etc/nginx/conf.d/mysite.conf")
    machine.run("useradd", "--system", "--no-create-home", "files-app")
    for path, text in FILES.items():
        if not path.startswith((MEDIA, PROTECTED_FILES + "/")):
            machine.write(path, text)
    machine.run("/usr/bin/python3", "-", input=PREPARE)
    return machine


Outcomes = dict[str, str]


class Running:
    """One front before the site in the machine, as `sdactivate install --front` has left them."""

    mount = ""

    def __init__(self, host: Machine, front: Front) -> None:
        self.host, self.front = host, front
        self.packaging = front.packaging["debian"]
        host.run("sh", "-c", SETUP[front.name].install or ":")

    def install(self, user: str) -> None:
        """Install the site, and start the front: for a named user mounted, with a login and PHP."""
        self.mount = "/app" if user else ""
        options: tuple[str, ...] = ("--static", f"{self.mount}/static/=/srv/files/static")
        options += ("--media", f"{self.mount}/media/={MEDIA}", *PROTECTED)
        options += ("--run-as", user, *MOUNTED) if user else ()
        if protocol := PROTOCOL.get(self.front.name):
            options += ("--protocol", protocol)
        site = (*SITE, "--front", self.front.name, "--server-name", "a.test")
        self.host.run("sdactivate", "install", "mysite", *site, *options)
        self.shell(f"systemctl reset-failed; systemctl restart {self.packaging.unit}")

    def shell(self, script: str) -> str:
        """Run a script inside and return what it prints."""
        return self.host.run("sh", "-ec", script).stdout

    def ask(self) -> Outcomes:
        """Return the outcomes of the client's checks."""
        argv = ("/usr/bin/python3", "/srv/client.py", self.mount)
        outcomes: Outcomes = json.loads(self.host.run(*argv).stdout)
        return outcomes

    def curl(self, path: str, *options: str) -> str:
        """Return what is answered; CommandFailed for an error."""
        argv = ("curl", "-sSf", "--retry-connrefused", "--retry", "9", "-u", "alice:secret")
        url = f"http://a.test{self.mount}/{path}"
        return self.host.run(*argv, "--resolve", "a.test:80:127.0.0.1", *options, url).stdout

    def upload(self, where: str, below: str, size: int) -> str:
        """Send the site a file; return the name by which it has kept it."""
        self.shell(f"head -c {size} /dev/zero | tr '\\0' x >/tmp/file.txt")
        return self.curl(f"upload/{where}?below={below}", "-F", "file=@/tmp/file.txt")

    def denied(self, directory: str, *users: str) -> None:
        """See that the front's user reads a directory's file, and none of the others does."""
        for user in (self.packaging.user, *users):
            argv = ("cat", f"{directory}/file.txt")
            code = self.host.run(*argv, user=user, check=False).returncode
            assert (code == 0) == (user == self.packaging.user), user

    def fill(self) -> None:
        """Put files into the directories that the installation has made."""
        for path, text in FILES.items():
            if path.startswith((MEDIA, PROTECTED_FILES + "/")):
                self.host.write(path, text)

    def boot(self) -> None:
        """Do what a boot does: all that ran is gone, and so is what nobody makes anew."""
        self.shell(
            f"""
            systemctl stop mysite.socket mysite.service {self.packaging.unit}
            rm -f /run/mysite.sock
            systemctl daemon-reexec
            systemd-sysusers
            systemd-tmpfiles --create --remove --boot --exclude-prefix=/dev || :
            systemctl start mysite.socket {self.packaging.unit}
            """
        )

    def stop(self) -> None:
        """Leave the ports and the name to the next one."""
        self.host.run("sdactivate", "uninstall", "mysite", "--force", check=False)
        self.host.run("systemctl", "stop", self.packaging.unit, check=False)


@pytest.fixture(scope="module", params=SERVING)
def running(request: pytest.FixtureRequest, host: Machine) -> Iterator[Running]:
    name = request.param
    if host.run("which", PROGRAM[name], check=False).returncode:
        pytest.skip(f"the machine has no {FRONTS[name].title}")
    front = Running(host, FRONTS[name])
    yield front
    front.stop()


@pytest.fixture(scope="module", params=USERS)
def user(request: pytest.FixtureRequest, running: Running) -> str:
    """Whom the site runs as, installed: nothing but its directory for uploads may be there yet."""
    name: str = request.param
    running.stop()
    running.shell(f"rm -rf {MEDIA} {PROTECTED_FILES}")
    running.install(name)
    running.fill()
    return name


@pytest.fixture(scope="module")
def outcomes(running: Running, user: str) -> Outcomes:
    return running.ask()


@pytest.mark.parametrize("check", CHECKS)
def test_it_works(outcomes: Outcomes, running: Running, user: str, check: str) -> None:
    expected = deviation(running.front.name, check)
    assert outcomes[check] == (expected.found if expected else "ok")


def test_uploads_across_boots(running: Running, user: str) -> None:
    """What the site has been sent, the front serves, in new directories, too; nobody else reads."""
    for time in ("before", "after"):
        for where, served in (("media", "media/{}"), ("protected", "file?name={}")):
            for size in (10, 3 << 20):  # in memory; by a temporary file
                name = running.upload(where, f"{time}/{size}/deep", size)
                assert running.curl(served.format(name)) == "x" * size
        running.denied(f"{MEDIA}/{time}/10/deep", *("alice", "nobody", "bob"))
        if time == "before":
            running.boot()
    assert running.curl("media/before/10/deep/file.txt") == "x" * 10


def test_a_missing_directory_is_made_at_boot_and_keeps_no_site_from_starting(
    running: Running, user: str
) -> None:
    running.shell(f"rm -rf {MEDIA}; systemctl restart mysite.service")
    assert running.curl("") == "the site"
    running.boot()
    name = running.upload("media", "again", 10)
    assert running.curl(f"media/{name}") == "x" * 10
