"""The README, followed to the letter on clean machines."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate import __version__
from tests.machine.machine import CHECKOUT, Installation, Machine, wheels
from tests.machine.terminal import Terminal

README = (CHECKOUT / "README.md").read_text()
STABILITY = (CHECKOUT / "docs" / "stability.md").read_text()
HOME = "/home/alice"
ENVIRON = {
    "HOME": HOME,
    **{f"GIT_{who}_NAME": "alice" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "alice@mysite.test" for who in ("AUTHOR", "COMMITTER")},
}

# Nothing of the kit's and no site; nginx as Debian's package leaves it. What the README does not
# say, since it is no part of it: somebody who may use sudo, and a package index.
BARE = """\
umount /opt/sdactivate
rm -rf /opt/sdactivate /srv/mysite /usr/local/bin/sdactivate /etc/nginx/conf.d/mysite.conf
ln -s /etc/nginx/sites-available/default /etc/nginx/sites-enabled/
systemctl start nginx
install -d -o alice -g alice /home/alice
echo 'alice ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/alice
rm -rf /root/.config /root/.pip /etc/xdg/pip /etc/environment
printf '[global]\\nno-index = true\\nfind-links = /srv/index\\n' >/etc/pip.conf
"""
# What of a checkout they need.
SOURCE = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "sdactivate", "examples")
# What building the wheel takes, besides what it requires.
BUILD = ("hatchling", "setuptools", "shtab")

PROJECT = """\
python3 -m venv ~/venv
~/venv/bin/pip install --quiet Django
~/venv/bin/django-admin startproject mysite
git -C mysite init --quiet
mkdir mysite/static
echo 'body {}' >mysite/static/site.css
echo 'STATICFILES_DIRS = [BASE_DIR / "static"]' >>mysite/mysite/settings.py
"""
PAGES = """
from django.core.files.storage import default_storage
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt


@csrf_exempt
def upload(request):
    sent = request.FILES["file"]
    return HttpResponse(default_storage.url(default_storage.save(sent.name, sent)))


def broken(request):
    raise RuntimeError("a page that does not work")


urlpatterns += [path("upload", upload), path("broken", broken)]
"""


def blocks(heading: str, language: str, page: str = README) -> list[str]:
    """The fenced blocks of one language below one heading."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def squeezed(text: str) -> str:
    """One blank for several: what stands beside a column makes it wider or narrower."""
    return re.sub(" +", " ", text)


# -- the commands it was made for ------------------------------------------------------------------


def test_the_commands_it_was_made_for(machine: Machine) -> None:
    (commands,) = blocks("The commands it was made for", "console")
    assert "\nsdactivate gen mysite --group www-data > mysite.socket\n" in commands
    assert "\nsystemctl enable --now mysite.socket\n" in commands
    machine.run("sh", "-ec", commands)
    stat = machine.run("stat", "--format=%U:%G %a %F", "/run/mysite.sock").stdout
    assert stat == "root:www-data 660 socket\n"
    assert machine.show("mysite.service", "ActiveState") == "inactive"
    machine.run("systemctl", "start", "nginx")
    assert "csrfmiddlewaretoken" in machine.curl("/admin/login/")
    assert machine.show("mysite.service", "ActiveState") == "active"


def test_the_import_it_shows_is_the_example_sites() -> None:
    (block,) = blocks("The commands it was made for", "python")
    wsgi = (CHECKOUT / "examples" / "mysite" / "mysite" / "wsgi.py").read_text()
    shown = [line for line in block.splitlines() if line not in ("", "...")]
    assert [line for line in wsgi.splitlines() if line in shown] == shown


# -- a site of one's own ---------------------------------------------------------------------------


class Followed:
    """What somebody who has nothing but a project, sudo and the README has at its end."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.said: list[str] = []  # by each console block

    def type(self, script: str, directory: str) -> str:
        """Do as alice what a block says, and return what it prints."""
        argv = ("sh", "-ec", f"cd {directory}\n{script}")
        done = self.machine.run(*argv, user="alice", env=ENVIRON, timeout=600)
        return done.stdout + done.stderr

    def follow(self) -> None:
        install, *rest = blocks("Put a site up", "console")
        requirements, _ = blocks("Put a site up", "text")
        (settings,) = blocks("Put a site up", "python")
        (create_superuser,) = blocks("Put a site up", "sh")

        update, _, install = install.partition("\n")
        assert update == "sudo apt-get update"  # which takes a network; the packages are here
        # What is here may be older than what the lists of packages have.
        install = install.replace("apt-get install -y", "apt-get install -y --no-upgrade")
        self.said.append(self.type(install, f"{HOME}/sdactivate"))

        self.type(PROJECT, HOME)
        project = f"{HOME}/mysite"
        for name, text in (
            ("mysite/urls.py", PAGES),
            ("mysite/settings.py", settings),
            ("requirements.txt", requirements),
        ):
            append = ("sh", "-ec", 'cat >>"$1"', "sh", f"{project}/{name}")
            self.machine.run(*append, input=text, user="alice")

        describe, put_up, look, every_day = rest
        self.said.append(self.type(describe, project))
        self.said.append(self.type(put_up, project))
        argv = ("sh", "-ec", f"cd {project}\n{create_superuser}")
        self.answer(Terminal(self.machine, *argv, user="alice"))
        self.said.append(self.type(look, project))
        self.said.append(self.type(every_day, project))

    def answer(self, terminal: Terminal) -> None:
        for question, reply in (
            ("Username .*: ", "carol"),
            ("Email address: ", "carol@mysite.test"),
            ("Password: ", "correct horse battery"),
            (r"Password \(again\): ", "correct horse battery"),
        ):
            terminal.expect(question)
            terminal.send(f"{reply}\n")
        terminal.expect("Superuser created successfully")
        assert terminal.end() == 0

    def curl(self, path: str, *options: str) -> str:
        to = ("--resolve", "mysite.test:80:127.0.0.1")
        return self.machine.run("curl", "-sS", *to, *options, f"http://mysite.test{path}").stdout


def bring(machine: Machine, directory: Path, target: str, *names: str) -> None:
    """Copy `names` in `directory` into the machine: it has no network."""
    machine.run("mkdir", "-p", target)
    pack = ["tar", "-C", str(directory), "--exclude=__pycache__", "--exclude=*.so", "-c", *names]
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
        unpack = machine.command("tar", "-C", target, "--no-same-owner", "-x")
        subprocess.run(unpack, stdin=packed.stdout, check=True, timeout=60)


@pytest.fixture(scope="module")
def followed(installation: Installation, fitting_wheel: Path) -> Iterator[Followed]:
    with Machine(installation) as machine:
        if not machine.succeeds("sh", "-c", "command -v sudo"):
            pytest.skip("sudo is not installed")
        machine.run("sh", "-ec", BARE)
        bring(machine, wheels(installation, fitting_wheel, "Django", *BUILD), "/srv/index", ".")
        machine.run("sh", "-ec", "rm /srv/index/sdactivate-*")  # no index has it
        source = (
            "pyproject.toml",
            "hatch_build.py",
            "README.md",
            "LICENSE",
            "sdactivate",
            "examples",
        )
        bring(machine, CHECKOUT, f"{HOME}/sdactivate", *source)
        machine.run("chown", "-R", "alice:alice", HOME)
        reader = Followed(machine)
        reader.follow()
        yield reader


def test_the_site_is_up_and_the_admin_user_logs_in(followed: Followed) -> None:
    jar = ("-b", "/tmp/admin", "-c", "/tmp/admin")
    page = followed.curl("/admin/login/", *jar)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    form = ("--data-urlencode", "username=carol", "--data", f"csrfmiddlewaretoken={token[1]}")
    password = ("--data-urlencode", "password=correct horse battery")
    assert "Site administration" in followed.curl(
        "/admin/login/?next=/admin/", *jar, *form, *password, "-L"
    )


def test_what_it_shows_is_what_they_see(followed: Followed) -> None:
    _, _, _, look, every_day = followed.said
    _, shown = blocks("Put a site up", "text")
    for line in shown.splitlines():
        assert squeezed(line) in squeezed(look)
    assert "\nnothing found\n" in look  # by the doctor
    assert len(re.findall("mysite serves release", every_day)) == 2  # the new one, the one before


def test_nginx_serves_static_files_and_uploads(followed: Followed) -> None:
    assert "color-scheme" in followed.curl("/static/admin/css/base.css")
    assert followed.curl("/static/site.css", "--fail") == "body {}\n"  # of the project's static/
    followed.machine.write("/tmp/hello.txt", "hello\n")
    url = followed.curl("/upload", "--fail", "--form", "file=@/tmp/hello.txt")
    assert url == "/media/hello.txt"
    assert followed.curl(url, "--fail") == "hello\n"


def test_errors_are_in_the_journal(followed: Followed) -> None:
    assert "Server Error (500)" in followed.curl("/broken")
    assert "RuntimeError: a page that does not work" in followed.machine.journal("mysite")


def test_the_kit_and_the_site_have_an_environment_each(followed: Followed) -> None:
    pid = followed.machine.show("mysite.service", "MainPID")
    command = followed.machine.read(f"/proc/{pid}/cmdline").split("\0")
    assert command[0] == "/srv/mysite/current/.venv/bin/python"
    kit = followed.machine.run("/opt/sdactivate/bin/pip", "list").stdout
    assert "sdactivate" in kit
    assert "Django" not in kit


EXAMPLE = """\
sed -E 's/mysite(\\.test|])/guestbook\\1/; s|/srv/mysite|/srv/guestbook|' \\
    /etc/sdactivate/sites.toml | sudo tee /etc/sdactivate/guestbook.toml >/dev/null
cp -r ~/sdactivate/examples/mysite ~/guestbook
cd ~/guestbook
git init --quiet
git add .
git commit --quiet --message "The example"
git archive HEAD | sudo sdactivate release guestbook - --find-links /srv/wheels
sudo sdactivate install guestbook --from /etc/sdactivate/guestbook.toml
sudo sdactivate run guestbook -- python manage.py migrate
sudo sdactivate doctor guestbook
"""


def test_the_example_is_such_a_project(followed: Followed) -> None:
    """It needs nothing that the README does not say, in its settings neither."""
    assert "\nnothing found\n" in followed.type(EXAMPLE, HOME)
    page = followed.curl("/", "--fail", "--header", "Host: guestbook.test")
    assert "<h1>Guestbook</h1>" in page
    style = re.search(r'href="(/static/[^"]+\.css)"', page)
    assert style
    assert "body {" in followed.curl(style[1], "--fail", "--header", "Host: guestbook.test")


NEW = f"{__version__}.1"


def test_the_kit_is_upgraded(followed: Followed) -> None:
    """As docs/stability.md says, to a version that differs in its number alone."""
    build, bring_forward = blocks("Upgrade", "console", STABILITY)
    number = f"sed -i 's/^__version__ = .*/__version__ = \"{NEW}\"/' sdactivate/__init__.py\n"
    assert f"sdactivate {NEW}" in followed.type(number + build, f"{HOME}/sdactivate")
    write = f"sed -i 's/^sdactivate==.*/sdactivate=={NEW}/' requirements.txt\ngit commit -qam new\n"
    said = followed.type(write + bring_forward, f"{HOME}/mysite")
    assert "build its environment from requirements.txt" in said
    assert "\nnothing found\n" in said
    serving = followed.machine.run("/srv/mysite/current/.venv/bin/sdactivate", "--version").stdout
    assert NEW in serving
    assert "csrfmiddlewaretoken" in followed.curl("/admin/login/", "--fail")
