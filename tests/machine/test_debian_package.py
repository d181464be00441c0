"""The Debian package, built in clean roots and installed into bare machines of Debian 12 and 13.

The tests of a release are one story and run in its order. script/build-deb builds the package,
unless dist/ has it of this commit. AS_BUILT=1 takes what dist/ has.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.clients import asking
from tests.machine.machine import CHECKOUT, Installation, Machine, debian
from tests.machine.test_readme import blocks

pytestmark = [
    pytest.mark.by_hand,
    pytest.mark.skipif(
        not shutil.which("mmdebstrap"), reason="mmdebstrap makes the roots; script/setup has it"
    ),
]

PACKAGING = CHECKOUT / "packaging" / "debian"
PAGE = (CHECKOUT / "docs" / "packages.md").read_text()

# A server as an installer leaves it, and no more: no interpreter, no compiler, no web server
BARE = (
    *("systemd", "systemd-sysv", "libnss-systemd", "dbus", "util-linux", "iproute2", "procps"),
    *("util-linux-extra", "ca-certificates"),
)
# What the tests install, downloaded before: machines have no network
WANTED = (
    *("python3-jinja2", "python3-systemd", "python3-django", "python3-venv"),
    *("python3-sqlparse", "python3-typing-extensions"),  # apt chooses the latter if asked for all
    *("nginx", "curl", "man-db"),
)
DOWNLOAD = (
    f'chroot "$1" apt-get install --yes --download-only --install-recommends {" ".join(WANTED)}'
)

# The first page, besides the download
SECONDS = 60

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]
"""


class Bare(Machine):
    """A machine that has nothing of this project: no user, no site, no command."""

    python = "/usr/bin/python3"
    sdactivate = ("/usr/bin/sdactivate",)

    def _furnish(self) -> None:
        """Leave it as it is."""

    def apt(self, *words: str) -> str:
        """Run apt-get install without asking, from what was downloaded."""
        argv = ("apt-get", "install", "--yes", *words)
        env = {"DEBIAN_FRONTEND": "noninteractive"}
        return self.run(*argv, env=env, timeout=300).stdout

    def files(self) -> set[str]:
        """Every file that packages or programs may have left, without apt's and dpkg's own."""
        others = ("/opt", "/srv", "/root", "/tmp", "/var/cache", "/var/lib/apt", "/var/lib/dpkg")
        words = [word for path in (*others, "/var/log") for word in ("-path", path, "-prune", "-o")]
        return set(self.run("find", "/", "-xdev", *words, "-print").stdout.splitlines())


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def suite(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def package(suite: str) -> Path:
    """The package of this commit for a release."""
    commit = subprocess.check_output(
        ["git", "-C", str(CHECKOUT), "rev-parse", "--short=7", "HEAD"], text=True
    ).strip()
    pattern = "sdactivate_*.deb" if "AS_BUILT" in os.environ else f"sdactivate_*.{commit}-*.deb"
    if not list((CHECKOUT / "dist" / suite).glob(pattern)):
        subprocess.run([CHECKOUT / "script" / "build-deb", suite], check=True, timeout=3600)
    (found,) = (CHECKOUT / "dist" / suite).glob(pattern)
    return found


@pytest.fixture(scope="module")
def machine(suite: str, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    options = [
        "--skip=cleanup/apt",
        "--aptopt=APT::Sandbox::User root",
        f"--customize-hook={DOWNLOAD}",
    ]
    root = debian(suite, BARE, options)
    directory = tmp_path_factory.mktemp(suite)
    packages, nothing = directory / "packages", directory / "nothing"
    packages.mkdir()
    nothing.mkdir()
    shutil.copy(package, packages / "sdactivate.deb")
    _newer(package, packages / "newer.deb", directory / "newer")
    with Bare(Installation(root, nothing, packages)) as booted:
        booted.run("mv", "/srv/mysite", "/srv/packages")
        yield booted


def _newer(package: Path, target: Path, work: Path) -> None:
    """The same package as the next revision."""
    subprocess.run(["dpkg-deb", "-R", package, work], check=True)
    control = work / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", work, target], check=True)


def block(heading: str) -> str:
    """The first commands below a heading of docs/packages.md."""
    return blocks(heading, "console", PAGE)[0]


def test_from_a_bare_machine_to_a_first_page(machine: Bare, suite: str) -> None:
    for compiler in ("gcc", "cc", "python3", "nginx"):
        assert not machine.succeeds("sh", "-c", f"command -v {compiler}")
    script = block("Debian").replace("./sdactivate_*.deb", "/srv/packages/sdactivate.deb")
    begun = time.monotonic()
    shown = machine.run("sh", "-ec", f"cd /root\n{script}", timeout=300).stdout
    took = time.monotonic() - begun
    assert "<h1>Guestbook</h1>" in shown
    assert "\nnothing found\n" in shown
    assert "Warning" not in shown  # of compiling what is installed
    assert not machine.succeeds("sh", "-c", "command -v gcc")
    load = os.getloadavg()[0]
    print(f"{suite}: a first page after {took:.1f} s, at a load of {load:.1f}")
    assert took < SECONDS or load > (os.cpu_count() or 1)  # where others take the time


def test_what_is_installed(machine: Bare) -> None:
    said = machine.run("sdactivate", "--version", "--verbose").stdout
    assert "(native server: compiled)" in said
    for line in (PACKAGING / "components.txt").read_text().splitlines():
        name, _, version = line.partition(" ")[0].partition("==")
        if name in ("httptools", "flup"):
            assert f"\n{name}: {version}\n" in said
    # Only sdactivate sees what it brings along
    assert not machine.succeeds(machine.python, "-c", "import flup")
    machine.apt("man-db")
    machine.run("man", "--where", "sdactivate", "sdactivate-install", "sdactivate-generator")
    for path in ("bash-completion/completions/sdactivate", "zsh/vendor-completions/_sdactivate"):
        machine.run("test", "-s", f"/usr/share/{path}")


def test_the_package_s_own_test(machine: Bare) -> None:
    machine.write("/srv/first-page", (PACKAGING / "tests" / "first-page").read_text(), 0o755)
    machine.run("sdactivate", "uninstall", "mysite")
    machine.run("/srv/first-page", timeout=120)


def test_a_virtual_environment_uses_the_packaged_runtime(machine: Bare) -> None:
    machine.apt("python3-venv")
    machine.write("/srv/own/app.py", HELLO)
    shown = machine.run(
        "sh", "-ec", f"cd /srv/own\n{block('A virtual environment for a site')}"
    ).stdout
    assert "Hello, world!" in shown
    python = "/srv/own/venv/bin/python"
    program = """
import sdactivate.servers.native.wire.http as http, sdactivate.servers.flup, importlib.util
print(http.httptools.__file__, *map(importlib.util.find_spec, ("jinja2", "django", "flup.x")[:2]))
"""
    said = machine.run(python, "-c", program).stdout
    assert "/_bundled/httptools/" in said
    assert said.split()[1:] == ["None", "None"]  # the system's other packages stay outside
    assert "sdactivate" in machine.run(python, "-m", "pip", "list").stdout
    main = machine.show("own.service", "MainPID")
    assert machine.read(f"/proc/{main}/cmdline").startswith(f"{python}\0")


def test_a_release_uses_the_packaged_runtime(machine: Bare) -> None:
    machine.write("/root/site/app.py", HELLO)
    machine.write("/root/site/requirements.txt", "sdactivate\n")
    release = ("sdactivate", "release", "site", "/root/site", "--no-index")
    machine.run(*release, "--find-links", "/usr/share/sdactivate/wheels", timeout=300)
    python = "/srv/site/current/.venv/bin/python"
    install = ("sdactivate", "install", "site", "--group", "www-data", "--app", "app:application")
    machine.run(*install, "--chdir", "/srv/site/current", "--python", python)
    asked = ("curl", "-sSf", "--unix-socket", "/run/site.sock", "http://localhost/")
    assert machine.run(*asked).stdout == "Hello, world!"
    machine.run("sdactivate", "uninstall", "site")


def test_the_generator_is_installed(machine: Bare) -> None:
    machine.write("/srv/table/app.py", HELLO)
    sites = '[sites.table]\ngroup = "www-data"\napp = "app:application"\nchdir = "/srv/table"\n'
    machine.write("/etc/sdactivate/sites.toml", sites)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", "table.socket")
        asked = ("curl", "-sSf", "--unix-socket", "/run/table.sock", "http://localhost/")
        assert machine.run(*asked).stdout == "Hello, world!"
    finally:
        machine.run("systemctl", "stop", "table.socket", "table.service", check=False)
        machine.run("rm", "/etc/sdactivate/sites.toml")
        machine.run("systemctl", "daemon-reload")


def test_an_upgrade_under_load_loses_no_request(machine: Bare) -> None:
    with asking(machine, ("http", "/run/own.sock"), clients=4, pause=0.02) as asked:
        machine.apt("/srv/packages/newer.deb")
        machine.run("sdactivate", "reload", "own")
        machine.run("systemctl", "restart", "own.service")
    (found,) = asked.values()
    assert found["requests"] > 50
    assert found["failed"] == 0, found


def test_a_site_outlives_a_purge(machine: Bare) -> None:
    paths = ("/etc/systemd/system/own.service", "/var/lib/sdactivate/own.json")
    before = [machine.read(path) for path in paths]
    machine.write("/etc/sdactivate/other.toml", "# no site\n")
    said = machine.run("apt-get", "purge", "--yes", "sdactivate", timeout=300)
    assert "the site own stays installed" in said.stdout + said.stderr
    assert [machine.read(path) for path in paths] == before
    assert machine.read("/etc/sdactivate/other.toml")
    machine.apt("/srv/packages/sdactivate.deb")
    machine.run("systemctl", "restart", "own.service")
    asked = ("curl", "-sSf", "--unix-socket", "/run/own.sock", "http://localhost/")
    assert machine.run(*asked).stdout == "Hello, world!"
    machine.run("sdactivate", "uninstall", "own")
    machine.run("rm", "/etc/sdactivate/other.toml")


def test_a_purge_leaves_nothing(machine: Bare) -> None:
    machine.run("apt-get", "purge", "--yes", "sdactivate", timeout=300)
    before = machine.files()
    assert not [path for path in before if "sdactivate" in path]
    machine.apt("/srv/packages/sdactivate.deb")
    machine.write("/srv/left/app.py", HELLO)
    install = ("sdactivate", "install", "left", "--group", "www-data", "--app", "app:application")
    machine.run(*install, "--chdir", "/srv/left")
    machine.run("sdactivate", "uninstall", "left")
    machine.run("apt-get", "purge", "--yes", "sdactivate", timeout=300)
    # The data of a site is not the package's
    data = {"/var/lib/left", "/var/lib/private/left"}
    assert machine.files() - before - data == set()
