"""WebSockets, events and long polls: ASGI servers on their socket unit, behind every front.

As in test_fronts.py: the distribution's own packages, with what `sdactivate gen` prints and no
more; `asgi_client.py` asks from inside. What differs from "ok" is a row of `asgi.DEVIATIONS`.

By hand: every server behind every front, and a WebSocket that is silent for longer than a request
may be, which takes a quarter of a minute a front.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdactivate import fronts, trust
from tests.machine import front_results, test_fronts
from tests.machine.asgi import ALL_CASES, CASES, CHECKS, CLIENT, NOT_TRIED, deviation
from tests.machine.front_results import Version
from tests.machine.fronts import CLIENT as FRONT_CLIENT
from tests.machine.fronts import PROGRAM, is_right
from tests.machine.machine import CHECKOUT, EXTRAS, Installation, Machine, asked_for, install
from tests.machine.test_fronts import LOGIN, TLS, Outcomes
from tests.machine.test_guide import Block, blocks

APPLICATION = "probe.asgi:application"
ROOT = ("--server-name", "a.test")
IDLE = ("--timeout", "10s", "--websocket-timeout", "30s")
PARAMS = [
    pytest.param(case, id="-".join(case), marks=() if case in CASES else pytest.mark.by_hand)
    for case in ALL_CASES
]
# They wait so long at a stop while a WebSocket is open
GRACEFUL = dict.fromkeys(("gunicorn", "hypercorn"), ("--graceful-timeout", "2s"))


@pytest.fixture(scope="module")
def installation(fitting_wheel: Path) -> Installation:
    """With all the servers, as for test_servers.py, and a client."""
    return install(fitting_wheel, asked_for(), (*EXTRAS, "servers"))


@pytest.fixture(scope="module")
def furnished(machine: Machine) -> Machine:
    """A machine with the client, a certificate and a password."""
    for directory in ("tests", "tests/machine"):
        machine.write(f"/srv/{directory}/__init__.py", "")
    for file in (CLIENT, FRONT_CLIENT):
        machine.write(f"/srv/tests/machine/{file.name}", file.read_text())
    machine.write("/etc/front.htpasswd", test_fronts.HTPASSWD)
    machine.run("sh", "-c", test_fronts.CERTIFICATE)
    return machine


class Running(test_fronts.Running):
    """A front in the machine, before an ASGI server."""

    def __init__(self, machine: Machine, front: str, server: str) -> None:
        self.name = server
        self.server = ("--server", server, "--app", APPLICATION)
        self.application = ("--chdir", "/srv/mysite", *GRACEFUL.get(server, ()))
        super().__init__(machine, fronts.FRONTS[front], "http")

    def answers(self, shape: str, *words: str) -> Outcomes:
        """Return the outcomes of the client's checks of a shape."""
        client = (self.machine.python, "-m", "tests.machine.asgi_client", shape, self.name, *words)
        command = ("env", "-C", "/srv", *client)
        done = self.machine.run(*command, timeout=300, check=False)
        if done.returncode == -signal.SIGSEGV:  # seen once, in the client's own interpreter
            done = self.machine.run(*command, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        outcomes: Outcomes = json.loads(done.stdout)
        return outcomes

    def all(self) -> Outcomes:
        """Go through both configurations; return what became of each check."""
        self.configure(*ROOT)
        found = self.answers("root", *trust.FORGEABLE)
        version = front_results.version(front_results.installed(self.machine, self.front.name))
        closes = deviation(self.front.name, self.name, "front reloaded", version)
        found |= self.answers("ends", self.packaging.unit, "yes" if closes else "no")
        no_login = self.front.name == "lighttpd"
        self.configure(*TLS, "--mount", "/app", *(() if no_login else LOGIN))
        return found | self.answers("tls", *trust.FORGEABLE)


def started(machine: Machine, front: str, server: str) -> Running:
    if machine.run("which", PROGRAM[front], check=False).returncode:
        pytest.skip(f"the machine has no {fronts.FRONTS[front].title}")
    return Running(machine, front, server)


def test_five_hundred_at_once(furnished: Machine) -> None:
    """Each takes two of nginx's connections; Debian allows 768 to a process."""
    running = started(furnished, "nginx", "uvicorn")
    try:
        furnished.run("sed", "-i", "s/worker_connections .*;/worker_connections 2000;/",
                      "/etc/nginx/nginx.conf")  # fmt: skip
        running.configure(*ROOT)
        assert running.answers("many") == {"500 at once": "ok"}
    finally:
        running.stop()


def follow(machine: Machine, block: Block) -> str:
    """Do what a block of the page says, and return what it prints."""
    if block.language == "python":
        name, _, where = block.text.partition("\n")[0].removeprefix("# ").partition(",")
        before = machine.read(name) if where else ""
        machine.write(name, before + block.text)
        return ""
    return machine.run("sh", "-ec", block.text).stdout


def test_the_page_is_followed_to_its_end(furnished: Machine) -> None:
    """docs/asgi.md: Django with Channels, from nothing to an echo and events."""
    furnished.run("rm", "-f", "/etc/nginx/sites-enabled/default")
    page = (CHECKOUT / "docs" / "asgi.md").read_text()
    said = "".join(
        follow(furnished, block)
        for block in blocks(page)
        if block.language in ("console", "python")
    )
    furnished.run("systemctl", "stop", "nginx", "mysite.socket", "mysite.service")
    assert "\nhello\n" in said
    assert "data: 0\n\ndata: 1\n\ndata: 2\n\n" in said


@pytest.mark.by_hand
@pytest.mark.parametrize("front", PROGRAM)
def test_a_websocket_may_be_silent_for_longer_than_a_request(
    furnished: Machine, front: str
) -> None:
    """By hypercorn, which sends no pings."""
    running = started(furnished, front, "hypercorn")
    try:
        running.configure(*ROOT, *IDLE)
        assert running.answers("idle", "15") == {"silent for 15 s": "ok"}
    finally:
        running.stop()


# The last: their fixture stays to the end of the module, and holds the ports


@pytest.fixture(scope="module", params=PARAMS)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A front and a server."""
    front, server = request.param
    return front, server


@pytest.fixture(scope="module")
def outcomes(furnished: Machine, case: tuple[str, str]) -> Iterator[Outcomes]:
    """What became of each check, for one front and server: all is done here, once."""
    running = started(furnished, *case)
    try:
        found = running.all()
        front_results.keep(furnished, "asgi", case, found)
        yield found
    finally:
        running.stop()


def test_every_check_is_in_one_column(outcomes: Outcomes) -> None:
    assert sorted(outcomes) == sorted(CHECKS)


@pytest.fixture(scope="module")
def version(furnished: Machine, case: tuple[str, str]) -> Version:
    """The version of the front."""
    return front_results.version(front_results.installed(furnished, case[0]))


@pytest.mark.parametrize("check", CHECKS)
def test_it_works(outcomes: Outcomes, case: tuple[str, str], version: Version, check: str) -> None:
    if outcomes[check] == NOT_TRIED:
        pytest.skip(f"the machine has {NOT_TRIED}")
    expected = deviation(*case, check, version)
    assert is_right(outcomes[check], expected), (outcomes[check], expected)
