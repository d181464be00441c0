"""The shell blocks of docs/ that have no test of their own, each run on a machine.

tests/doc_blocks.py says which pages these are. A block with a mark is left out; of the others every
command must succeed, but for those whose exit code says what they have found.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.doc_blocks import shell
from tests.machine.machine import EXTRAS, Installation, Machine, asked_for, install
from tests.machine.test_guide import SUDO

WORK = "/root/docs"
ENVIRON = {"HOME": "/root", "COLUMNS": "200", "MANPAGER": "cat"}
ENVIRON["PATH"] = "/opt/sdactivate/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SITE = """
sdactivate install mysite --group www-data --app mysite.wsgi:application --chdir /srv/mysite
"""
NGINX = """
sdactivate gen mysite --kind nginx --server-name localhost > /etc/nginx/conf.d/mysite.conf
systemctl restart nginx
"""
# An environment of the site's own: the machine's, which has the servers, and celery
VENV = "ln -sfn /opt/sdactivate /srv/mysite/.venv\n"
GUNICORN = """
cat > /etc/systemd/system/gunicorn.socket <<END
[Socket]
ListenStream=/run/gunicorn.sock
SocketUser=www-data
[Install]
WantedBy=sockets.target
END
cat > gunicorn.service <<END
[Unit]
Requires=gunicorn.socket
[Service]
Type=notify
User=alice
WorkingDirectory=/srv/mysite
Environment=STATE_DIRECTORY=/tmp
ExecStart=/opt/sdactivate/bin/gunicorn mysite.wsgi
END
cp gunicorn.service /etc/systemd/system
systemctl daemon-reload
"""
CELERY = """
cat > /srv/mysite/mysite/celery.py <<END
from celery import Celery
app = Celery("mysite", broker="memory://")
END
cat > /srv/mysite/mysite/__init__.py <<END
from mysite.celery import app as celery_app
END
"""
SITES = """
cat > sites.toml <<END
[sites.mysite]
group = "www-data"
app = "mysite.wsgi:application"
chdir = "/srv/mysite"
END
"""
# Without systemd the site's user is one that somebody makes, who may write where the site lies
USER = "useradd --system --no-create-home mysite; chown mysite /srv/mysite\n"
# Nothing of the page before stays: not its units, nor its users, nor what it wrote
CLEAN = """
systemctl stop 'mysite*' 'gunicorn*' nginx postgresql || :
[ ! -e /etc/systemd/system/mysite.socket ] || sdactivate uninstall mysite --force || :
rm -rf /etc/systemd/system/*mysite* /etc/systemd/system/*gunicorn* /etc/systemd/system/*shop*
rm -rf /etc/systemd/system-generators /etc/sdactivate /etc/service /run/mysite.sock
rm -rf /etc/nginx/conf.d/* /etc/nginx/sites-*/mysite* /var/lib/mysite /srv/mysite/.venv
userdel mysite || :
chown root /srv/mysite
systemctl daemon-reload
rm -rf {work}; mkdir -p {work}
"""


class Page(NamedTuple):
    """How a page is run."""

    before: str = ""
    """What makes the state that it begins with."""
    said: tuple[str, ...] = ()
    """What its commands print, blanks squeezed, and those of `after`."""
    after: Mapping[int, str] = {}
    """Commands that show what has become of it, by the number of the block they come behind."""
    reads: bool = False
    """It changes nothing: the next page may begin where it ends."""
    finds: bool = False
    """Its commands exit with 1 where they have found something."""


UP = SITE + NGINX + GUNICORN
SERVED = ("proven: connected",)
PAGES: dict[str, Page] = {
    "docs/who.md": Page(
        UP,
        (
            "yes www-data nginx's user /run/mysite.sock: group www-data has rw-",
            "no mysite the site's own user /run/mysite.sock: others have ---, which lacks w",
        ),
        reads=True,
    ),
    "docs/status.md": Page(UP, ("mysite: active since", "backlog 0 of 4096"), reads=True),
    "docs/explain.md": Page(UP, ("SocketMode=0660", "gunicorn.service"), reads=True),
    "docs/django.md": Page(UP, ("System check identified",), reads=True),
    "docs/compile.md": Page(
        "find /srv/mysite -name __pycache__ -exec rm -r {} +",
        ("settings.cpython-",),
        {1: "ls /srv/mysite/mysite/__pycache__"},
    ),
    "docs/doctor.md": Page(
        SITE.replace("www-data", "web") + NGINX,
        (
            "error SDA102: The front can't connect",
            "why nginx (www-data) can't connect to /run/mysite.sock: others have ---, "
            "which lacks w (root:web rw-rw----)",
            "fix usermod -aG web www-data",
            "then systemctl restart nginx.service",
            "findings-1.json",
        ),
        finds=True,
    ),
    "docs/from-gunicorn.md": Page(VENV + GUNICORN, ("error SDA001", *SERVED), finds=True),
    "docs/from-runfcgi.md": Page(
        USER,
        ("active", "srw-rw---- root www-data"),
        {1: "systemctl is-active mysite.socket; systemctl stop mysite.socket"},
    ),
    "docs/from-supervisor.md": Page(
        VENV + CELERY + "systemctl start nginx",
        (*SERVED, "is active", "server_name example.org"),
        {1: "systemctl is-active mysite-celery@1 | sed 's/^/is /'; cat mysite.conf"},
    ),
    "docs/from-uwsgi.md": Page(VENV, SERVED),
    "docs/fronts.md": Page("systemctl start nginx", SERVED),
    "docs/gen.md": Page("", ("shop@.socket", "mysite.service"), {2: "ls /etc/systemd/system"}),
    "docs/generator.md": Page(
        "mkdir /etc/sdactivate; cd /etc/sdactivate" + SITES,
        ("/run/systemd/generator/mysite.socket", "active"),
        {1: "systemctl show -P FragmentPath mysite.socket; systemctl is-active mysite.socket"},
    ),
    "docs/hardening.md": Page(
        "systemctl start postgresql",
        ("mysite owned by mysite",),
        {
            1: "sudo -u postgres psql -tAc \"SELECT datname || ' owned by ' || "
            'pg_get_userbyid(datdba) FROM pg_database"'
        },
    ),
    "docs/install.md": Page(
        "systemctl start nginx" + SITES, SERVED, {1: "! [ -e /etc/systemd/system/mysite.socket ]"}
    ),
    "docs/launch.md": Page(USER, ("srw-rw---- 1 root www-data 0",)),
    "docs/manual-pages.md": Page(
        "",
        (
            "what to write",
            "man1/sdactivate-doctor.1",
            "==> fish/vendor_completions.d/sdactivate.fish <==",
        ),
        {
            2: "PATH=/usr/bin:/bin man --where sdactivate-doctor; cd /usr/local/share; "
            "head -1 bash-completion/completions/sdactivate zsh/site-functions/_sdactivate "
            "fish/vendor_completions.d/sdactivate.fish",
            3: "! PATH=/usr/bin:/bin man --where sdactivate-doctor",
        },
    ),
    "docs/server.md": Page("", ("native server:",)),
    "docs/several-machines.md": Page("", ("ListenStream=10.0.0.11:8000",)),
    "docs/without-systemd.md": Page(
        "", ("/etc/service/mysite/run", "Applying guestbook.0001_initial... OK")
    ),
}


@pytest.fixture(scope="module")
def installation(fitting_wheel: Path) -> Installation:
    """With gunicorn and uWSGI, which two of the pages keep."""
    return install(fitting_wheel, asked_for(), (*EXTRAS, "servers"))


class Docs:
    """A machine for all pages. It keeps the state of a page that only reads, for the next one."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._state: str | None = None
        machine.write("/usr/local/bin/sudo", SUDO, mode=0o755)

    def begin(self, page: Page) -> None:
        """Bring about the state that `page` begins with."""
        if page.before != self._state or not page.reads:
            self._machine.run("sh", "-uc", CLEAN.format(work=WORK))
            self.run(page.before)
        self._state = page.before if page.reads else None

    def run(self, script: str, finds: bool = False) -> str:
        """Run a script in the work directory, and return what it prints.

        finds: its last command may exit with 1.
        """
        script = f"cd {WORK}\n{script}"
        flags = "-uc" if finds else "-euc"
        done = self._machine.run("sh", flags, script, env=ENVIRON, check=not finds)
        assert done.returncode in (0, 1), f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def docs(machine: Machine) -> Docs:
    """The machine."""
    return Docs(machine)


LAUNCH = re.compile(r"(?m)^((?:sudo )?sdactivate launch (?:.*\\\n)*.*)$")
SOCKET = "/run/mysite.sock"


def serving(commands: str) -> str:
    """Let what a block launches serve behind the commands that follow, then stop in order."""
    # Whatever it speaks: when curl can connect, and has an answer or an end, it serves
    asked = f"curl -s --unix-socket {SOCKET} http://localhost/; [ $? != 7 ]"
    script, launched = LAUNCH.subn(rf"\1 & server=$!\nuntil {asked}; do sleep 0.1; done", commands)
    if not launched:
        return commands
    return f"{script}\nstat -c '%A %U %G' {SOCKET}\nkill $server\nwait $server\n"


@pytest.mark.parametrize("page", PAGES)
def test_a_page(docs: Docs, page: str) -> None:
    how = PAGES[page]
    docs.begin(how)
    said = ""
    for number, block in enumerate([it for it in shell(page) if not it.mark], 1):
        print(f"{page}:{block.line}")
        said += docs.run(serving(block.commands), how.finds)
        said += docs.run(how.after.get(number, ""))
    print(said)
    squeezed = " ".join(said.split())
    assert [words for words in how.said if words not in squeezed] == []
