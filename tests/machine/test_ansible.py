"""The Ansible collection: machines set up, released to and rolled back by ssh, behind HAProxy."""

import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdactivate import __version__
from tests.ansible_home import MISSING
from tests.machine.fleet import Fleet, Played
from tests.machine.machine import Installation, debian, install, wheels
from tests.machine.test_newer_systemd import PACKAGES

pytestmark = [
    MISSING,
    pytest.mark.skipif(not shutil.which("ssh"), reason="openssh-client is not installed"),
]

KIT = "/opt/kit"
PORT = 8000
# A site that is quick to start, sick at one page on the machines that its release names
APPLICATION = """
import os, socket
RELEASE, SICK = {release!r}, {sick!r}
MACHINE = socket.gethostname()
KEYS = [open(os.environ["CREDENTIALS_DIRECTORY"] + "/" + key).read() for key in ("key", "token")]

def application(environ, start_response):
    path = environ["PATH_INFO"]
    sick = [path, MACHINE] in SICK
    start_response("503 Sick" if sick else "200 OK", [("Content-Type", "text/plain")])
    pages = {{"/keys": " ".join(KEYS), "/who": f"{{RELEASE}} by {{MACHINE}}"}}
    return [pages.get(path, "Hello, world!").encode()]
"""
MANAGE = """
import os, sys
if sys.argv[1] == "migrate" and "--plan" not in sys.argv:
    with open(os.environ["STATE_DIRECTORY"] + "/migrated", "a") as file:
        print(os.path.basename(os.getcwd()), file=file)
"""
WORKER = "import signal\nsignal.sigwait({signal.SIGTERM})\n"
SITE = {
    "app": "app:application",
    "chdir": "/srv/quick/current",
    "listen": f"{{{{ ansible_host }}}}:{PORT}",
    "trust": "{{ hostvars[groups['balancers'][0]]['ansible_host'] }}",
    "ready-path": "/ready",
    "health": "/health",
    "credential": "key=/etc/quick/key",
    "encrypted-credential": "token=/etc/credstore.encrypted/quick.token",
    "worker": {"beat": "python beat.py"},
}
MACHINES: dict[str, Any] = {
    "kit_prefix": KIT,
    "sdactivate_sites": {"defaults": {"python": f"{KIT}/bin/python"}, "sites": {"quick": SITE}},
    "site_credentials": {"quick": {"key": "a key\n", "token": "a token"}},
    "site_gate": {"quick": {"url": f"http://{{{{ ansible_host }}}}:{PORT}/page"}},
}
BALANCERS = {
    "balancer_sites": {"quick": {"bind": ["*:80"], "port": PORT, "check_path": "/ready"}},
}


def archive(fleet: Fleet, release: str, sick: tuple[tuple[str, str], ...] = ()) -> str:
    """Make a tar of a release on the control node, and return its path."""
    path = fleet.directory / f"{release}.tar"
    files = {
        "app.py": APPLICATION.format(release=release, sick=[list(one) for one in sick]),
        "manage.py": MANAGE,
        "beat.py": WORKER,
    }
    with tarfile.open(path, "w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data := text.encode())
            tar.addfile(member, io.BytesIO(data))
    return str(path)


class Site:
    """The machines web1, web2 …, with the site quick, and the balancer lb."""

    def __init__(self, fleet: Fleet, kit: Path, machines: tuple[str, ...]) -> None:
        self.fleet = fleet
        self.names = machines
        self.variables = {
            "machines": {**MACHINES, "kit_wheels": str(kit)},
            "balancers": BALANCERS,
        }

    def inventory(self, **groups: list[str]) -> Path:
        hosts = {"machines": list(self.names), "balancers": ["lb"], **groups}
        return self.fleet.inventory(hosts, self.variables)

    def setup(self, release: str, *options: str, **how: Any) -> Played:
        self.variables["machines"]["site_releases"] = {
            "quick": {"archive": archive(self.fleet, release), "ref": release}
        }
        return self.fleet.play("setup", self.inventory(), *options, **how)

    def release(
        self, release: str, *options: str, sick: tuple[tuple[str, str], ...] = (), **how: Any
    ) -> Played:
        made = archive(self.fleet, release, sick)
        what = ("sdactivate_site=quick", f"sdactivate_archive={made}", f"sdactivate_ref={release}")
        given = [word for one in what for word in ("-e", one)]
        return self.fleet.play("release", self.inventory(), *given, *options, **how)

    def rollback(self, release: str, *options: str, **how: Any) -> Played:
        given = ("-e", "sdactivate_site=quick", "-e", f"sdactivate_ref={release}")
        return self.fleet.play("rollback", self.inventory(), *given, *options, **how)

    def get(self, path: str = "/", host: str = "lb", port: int = 80) -> str:
        url = f"http://{self.fleet.addresses[host]}:{port}{path}"
        return self.fleet.run("curl", "-sSf", "--max-time", "20", url).stdout

    def states(self) -> dict[str, str]:
        """What the balancer thinks of each machine."""
        ask = "printf 'show stat\\n' | python3 -c \"$1\""
        script = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); "
            "s.connect('/run/haproxy/admin.sock'); s.sendall(sys.stdin.buffer.read()); "
            "print(s.makefile().read())"
        )
        shown = self.fleet.machines["lb"].run("sh", "-ec", ask, "sh", script).stdout
        rows = csv.DictReader(shown.lstrip("# ").splitlines())
        return {row["svname"]: row["status"] for row in rows if row["svname"] in self.names}

    def served(self) -> dict[str, str]:
        """What each machine says by itself."""
        return {name: self.get("/who", name, PORT).split()[0] for name in self.names}


@contextlib.contextmanager
def fleet_of(machines: tuple[str, ...], installation: Installation, wheel: Path) -> Iterator[Site]:
    with Fleet() as fleet:
        for name in (*machines, "lb"):
            fleet.add(name, installation).run("rm", "/usr/local/bin/sdactivate")
        yield Site(fleet, wheels(installation, wheel), machines)


@pytest.fixture(scope="module")
def site(installation: Installation, fitting_wheel: Path) -> Iterator[Site]:
    """One machine and a balancer, bare."""
    with fleet_of(("web1",), installation, fitting_wheel) as made:
        yield made


@pytest.fixture(scope="module")
def two(installation: Installation, fitting_wheel: Path) -> Iterator[Site]:
    """Two machines and a balancer, bare."""
    with fleet_of(("web1", "web2"), installation, fitting_wheel) as made:
        yield made


def test_set_up_released_to_and_then_nothing_changes(site: Site) -> None:
    site.setup("v1")
    assert site.get("/who") == "v1 by web1"
    assert site.get("/keys") == "a key\n a token"
    assert site.setup("v1").changed == 0
    rolled = site.release("v2")
    assert site.get("/who") == "v2 by web1"
    assert "web1: quick serves" in rolled.stdout


def test_a_misspelt_key_is_refused_before_anything_changes(site: Site) -> None:
    usual = site.variables
    table = {"sites": {"quick": {**SITE, "thread": 4}}}
    site.variables = {**usual, "machines": {**usual["machines"], "sdactivate_sites": table}}
    try:
        refused = site.release("v3", check=False)
    finally:
        site.variables = usual
    assert refused.returncode != 0
    assert "sites.quick.thread: there is no such key; did you mean threads?" in refused.stdout
    assert refused.changed == 0
    assert site.served() == {"web1": "v2"}


# -- by hand ---------------------------------------------------------------------------------------


@pytest.mark.by_hand
def test_two_machines(two: Site) -> None:
    looked = two.setup("v1", "--check")
    assert looked.recap["web1"]["changed"] > 0
    assert not two.fleet.machines["web1"].succeeds("test", "-e", KIT)
    two.setup("v1")
    assert two.served() == {"web1": "v1", "web2": "v1"}
    assert two.setup("v1", "--check").changed == 0
    looked = two.release("v2", "--check")
    assert "web2: quick is released" in looked.stdout
    assert two.served() == {"web1": "v1", "web2": "v1"}
    two.release("v2")
    assert two.served() == {"web1": "v2", "web2": "v2"}
    assert two.release("v2").changed == 0
    # One database for all: it is migrated once for each release
    migrated = "/var/lib/quick/migrated"
    assert len(two.fleet.machines["web1"].read(migrated).split()) == 2
    assert not two.fleet.machines["web2"].succeeds("test", "-e", migrated)
    sick = two.release("v3", sick=(("/health", "web2"),), check=False)
    assert sick.returncode != 0
    assert "GET http://localhost/health was answered 503 Sick" in sick.stdout
    assert two.served() == {"web1": "v3", "web2": "v2"}
    assert two.states() == {"web1": "UP", "web2": "UP"}
    two.rollback("v2")
    assert two.served() == {"web1": "v2", "web2": "v2"}
    assert two.rollback("v2").changed == 0
    # A secret that has changed: written, and the service restarted with it
    two.variables["machines"]["site_credentials"] = {
        "quick": {"key": "another key", "token": "another token"}
    }
    two.setup("v1")
    assert two.get("/keys") == "another key another token"
    assert two.setup("v1").changed == 0


@pytest.mark.by_hand
def test_what_is_wrong_is_said_and_changes_nothing(two: Site) -> None:
    """The inventory, the batch and the machines are looked at before anything is touched."""
    site = two
    usual = site.variables
    path = archive(site.fleet, "v9")

    def refused(said: str, *options: str, book: str = "release", **groups: list[str]) -> None:
        hosts = {"machines": ["web1", "web2"], "balancers": ["lb"], **groups}
        made = site.fleet.inventory(hosts, site.variables)
        what = ("-e", "sdactivate_site=quick", "-e", f"sdactivate_archive={path}")
        played = site.fleet.play(book, made, *what, *options, check=False)
        assert played.returncode != 0
        assert said in played.stdout + played.stderr
        assert played.changed == 0

    before = site.served()
    refused("sdactivate_batch is '3', and there are 2 machines", "-e", "sdactivate_batch=3")
    refused("sdactivate_batch is 'x', and there are 2 machines", "-e", "sdactivate_batch=x")
    refused("web1 has no site qick: its sdactivate_sites has quick", "-e", "sdactivate_site=qick")
    refused("has no release 'v0' of quick", "-e", "sdactivate_ref=v0", book="rollback")
    refused("there is no file /nowhere.tar", "-e", "sdactivate_archive=/nowhere.tar")
    strange = {"quick": {"key": "a key\n", "pin": "1"}}
    own = {**usual["machines"]}
    site.variables = {**usual, "machines": {**own, "site_credentials": strange}}
    refused("site_credentials has quick.pin: no site")
    site.fleet.machines["web2"].write(
        "/usr/local/bin/older", "#!/bin/sh\necho sdactivate 0.0.9\n", mode=0o755
    )
    command = "{{ 'older' if inventory_hostname == 'web2' else 'sdactivate' }}"
    site.variables = {**usual, "machines": {**own, "site_command": command}}
    refused(f"different versions of sdactivate: web1 has {__version__}, web2 has 0.0.9")
    wrong = site.fleet.directory / "two"
    wrong.mkdir()
    for version in ("1", "2"):
        (wrong / f"sdactivate-{version}-py3-none-any.whl").touch()
    site.variables = {**usual, "machines": {**own, "kit_wheels": str(wrong)}}
    refused("has 1 and 2 of sdactivate: exactly one version has to be there", book="setup")
    # Without a balancer: the group is not there at all
    trust = {"sites": {"quick": {**SITE, "trust": "10.77.0.1"}}}
    site.variables = {"machines": {**own, "sdactivate_sites": trust}}
    made = site.fleet.inventory({"machines": ["web1", "web2"]}, site.variables)
    what = ("-e", "sdactivate_site=quick", "-e", f"sdactivate_archive={path}")
    alone = site.fleet.play("release", made, *what, check=False)
    assert alone.returncode != 0
    assert "has 2 hosts in the group 'machines' and none in 'balancers'" in alone.stdout
    assert alone.changed == 0
    site.variables = usual
    assert site.served() == before


# Fewer where that is enough: FLEET_RELEASES=2 FLEET_ROLLBACKS=1
RELEASES = int(os.environ.get("FLEET_RELEASES", "10"))
ROLLBACKS = int(os.environ.get("FLEET_ROLLBACKS", "5"))


class Clients:
    """16 clients that ask the balancer for a page until they are stopped."""

    def __init__(self, site: Site) -> None:
        load = str(Path(__file__).with_name("load.py"))
        address = f"{site.fleet.addresses['lb']}:80"
        argv = (sys.executable, load, "http", address, "16", "36000", "0.05")
        self._process = subprocess.Popen(
            site.fleet.command(*argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def stop(self) -> dict[str, Any]:
        said, _ = self._process.communicate(timeout=120)
        found: dict[str, Any] = json.loads(said)
        return found


@pytest.fixture
def mixed(installation: Installation, pure_wheel: Path) -> Iterator[Site]:
    """Three machines, two of Debian 12 and one of 13, and a balancer."""
    newer = install(
        pure_wheel,
        debian("trixie", (*PACKAGES, "openssh-server", "python3-apt", "python3-packaging")),
    )
    with Fleet() as fleet:
        for name, made in (
            ("web1", installation),
            ("web2", newer),
            ("web3", installation),
            ("lb", installation),
        ):
            fleet.add(name, made).run("rm", "/usr/local/bin/sdactivate")
        kit = fleet.directory / "kit"
        kit.mkdir()
        for made in (newer, installation):  # one directory for both Pythons
            for wheel in wheels(made, pure_wheel).iterdir():
                shutil.copy(wheel, kit)
        yield Site(fleet, kit, ("web1", "web2", "web3"))


@pytest.mark.by_hand
def test_rolled_and_killed_under_load(mixed: Site, installation: Installation) -> None:
    site, fleet = mixed, mixed.fleet
    everywhere = site.names
    site.setup("r0")
    clients = Clients(site)
    for number in range(1, RELEASES + 1):
        batch = ("-e", f"sdactivate_batch={1 + number % 2}")
        site.release(f"r{number}", *batch)
        assert site.served() == dict.fromkeys(everywhere, f"r{number}")
    for number in range(ROLLBACKS):
        ref = f"r{RELEASES - 1 + number % 2}"
        site.rollback(ref)
        assert site.served() == dict.fromkeys(everywhere, ref)
    before = site.served()["web1"]
    sick = site.release("sick", sick=(("/health", "web2"),), check=False)
    assert sick.returncode != 0
    assert site.served() == {"web1": "sick", "web2": before, "web3": before}
    # What the machine itself does not see: its page answers 503 to the balancer's host. web3 has
    # been switched by then, and goes back with its batch
    gate = ("-e", "sdactivate_batch=2")
    sick = site.release("sicker", *gate, sick=(("/page", "web2"),), check=False)
    assert sick.returncode != 0
    assert site.served() == {"web1": "sicker", "web2": before, "web3": before}
    assert site.states() == dict.fromkeys(everywhere, "UP")
    rolling = clients.stop()
    print(f"{RELEASES} releases, {ROLLBACKS} rollbacks, two sick releases: {rolling}")
    assert rolling["failed"] == 0, rolling

    clients = Clients(site)
    fleet.kill("web3")
    lost = site.release("r99", check=False)
    assert lost.returncode != 0
    assert lost.changed == 0
    assert site.states()["web3"] == "DOWN"
    left = site.release("r99", "--limit", "!web3")
    assert "web3: left out by --limit" in left.stdout
    fleet.add("web3", installation).run("rm", "/usr/local/bin/sdactivate")
    site.setup("r99")
    assert site.served() == dict.fromkeys(everywhere, "r99")
    fleet.machines["lb"].wait(lambda: site.states()["web3"] == "UP", "web3 to be used again")
    killed = clients.stop()
    print(f"a machine killed and made anew: {killed}")
    assert killed["failed"] <= 16, killed
