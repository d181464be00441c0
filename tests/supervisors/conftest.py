"""The example site on this very machine, without systemd: nginx in front, a supervisor behind."""

import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests import example_site
from tests.reachable import as_user, reachable_python

CHECKOUT = Path(__file__).parent.parent.parent
PATIENCE = 120.0  # seconds: a guard against hanging, not an expectation
USER = "games"
STANZA = (CHECKOUT / "tests/machine/nginx.conf").read_text()


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


class House:
    """A directory of its own under /run, the site in it, and the sites's Python."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "mysite.sock"
        self.state = home / "state"
        self.state.mkdir(mode=0o700)
        shutil.chown(self.state, USER, "games")
        example_site.copy(home / "mysite")
        self.python, self.environ = reachable_python(USER, home / "lib")
        self.manage("migrate", "--verbosity=0")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def manage(self, *arguments: str) -> None:
        subprocess.run(
            [self.python, "manage.py", *arguments],
            cwd=self.home / "mysite",
            env={**self.environ, "STATE_DIRECTORY": str(self.state)},
            check=True,
            timeout=PATIENCE,
            **as_user(USER),
        )

    def generate(self, kind: str, directory: Path, *options: str) -> list[Path]:
        """Have `sdactivate gen` write the files of a kind below `directory`; returns them."""
        directory.mkdir(exist_ok=True)
        before = set(directory.rglob("*"))
        command = [sys.executable, "-m", "sdactivate", "gen", "mysite", "--kind", kind]
        command += ["--out", str(directory), "--listen", str(self.socket), "--group", "www-data"]
        command += ["--run-as", USER, "--app", "mysite.wsgi:application"]
        command += ["--chdir", str(self.home / "mysite"), "--python", self.python]
        command += ["--env", f"STATE_DIRECTORY={self.state}", *options]
        if library := self.environ.get("PYTHONPATH"):  # circus passes no environment on
            command += ["--env", f"PYTHONPATH={library}"]
        subprocess.run(command, check=True, timeout=PATIENCE)
        return sorted(path for path in set(directory.rglob("*")) - before if path.is_file())

    def get(self, path: str = "/") -> "tuple[int, str]":
        """Ask nginx for a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Host": "demo.localhost"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def serves(self) -> bool:
        return self.get()[0] == 200

    def processes(self) -> list[int]:
        """The processes of the site: those that run its application as its user.

        Other files of tests run sites as this user at the same time: ours work in its directory.
        """
        uid = pwd.getpwnam(USER).pw_uid
        ours = str(self.home / "mysite")
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                    directory = os.readlink(entry / "cwd")
                    owner = entry.stat().st_uid
                except OSError:
                    continue
                if owner == uid and b"mysite.wsgi:application" in command and directory == ours:
                    found.append(int(entry.name))
        return sorted(found)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    home = Path(tempfile.mkdtemp(prefix="sdactivate-", dir="/run"))
    home.chmod(0o755)
    try:
        house = House(home)
        with nginx(house):
            yield house
    finally:
        shutil.rmtree(home)


def nginx(house: House) -> "subprocess.Popen[bytes]":
    """nginx with workers as www-data, on a port of its own, before the house's socket."""
    directory = house.home / "nginx"
    directory.mkdir()
    stanza = STANZA.replace("/run/mysite.sock", str(house.socket))
    stanza = stanza.replace("listen 80 default_server", f"listen 127.0.0.1:{house.port}")
    configuration = directory / "nginx.conf"
    paths = "".join(
        f"{kind}_temp_path {directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration.write_text(
        f"user www-data;\npid {directory}/pid;\ndaemon off;\nerror_log {directory}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{stanza}}}\n"
    )
    process = _Nginx(["nginx", "-e", f"{directory}/error.log", "-c", str(configuration)])
    wait_until(lambda: _listens(house.port), "nginx")
    return process


class _Nginx(subprocess.Popen[bytes]):
    def __exit__(self, *exception: Any) -> None:
        self.send_signal(signal.SIGTERM)
        super().__exit__(*exception)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Load:
    """Two clients that ask for page after page until told to stop."""

    def __init__(self, house: House) -> None:
        self.statuses: list[int] = []
        self._house, self._stop = house, False
        self._threads = [Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def _run(self) -> None:
        while not self._stop:
            self.statuses.append(self._house.get("/slow?ms=20")[0])

    def wait_for(self, more: int) -> None:
        goal = len(self.statuses) + more
        wait_until(lambda: len(self.statuses) >= goal, f"{more} answers")

    def __exit__(self, *exception: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
