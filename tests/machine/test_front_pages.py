"""Error pages, the maintenance switch and the access log, through Debian's own fronts.

Each front stands before a small site twice: as it is usually generated, behind a balancer; and with
a login, a mount and WebSockets, whose locations and access rules are in the way of an error page.
"""

import re
from collections.abc import Iterator

import pytest

from sdactivate.fronts import FRONTS, Front
from sdactivate.generate.fronts.lifetimes import LIFETIMES
from tests.machine.fronts import PROGRAM, SETUP
from tests.machine.machine import Machine
from tests.machine.test_fronts import GENERATOR, HTPASSWD, Running

SITE = ("--app", "small:application", "--chdir", "/srv/small")
SMALL = """
import time

TEXT = ("Content-Type", "text/plain")
BUSY = "503 Service Unavailable", [TEXT, ("Retry-After", "7")], b"too busy"
FINE = "200 OK", [TEXT], b"the site"

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/hang":
        time.sleep(60)
    if path == "/slow":
        time.sleep(0.2)
    status, headers, body = BUSY if path == "/busy" else FINE
    start_response(status, headers)
    return [body]
"""
# gen, with fronts that wait for less than an application may take to start: a test has little time.
IMPATIENT = """
from sdactivate.generate.fronts import options
options.COLD_START = 1
"""
SWITCH = "/etc/mysite.maintenance"
PAGES = ("--error-pages", "/srv/errors", "--timeout", "2s")
FILES = ("--static", "/static=/srv/files")
HANDSHAKE = (
    *("-H", "Upgrade: websocket", "-H", "Connection: upgrade"),
    *("-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
)
LOGIN = ("--auth-file", "/etc/front.htpasswd", "--mount", "/app")
BEHIND = ("--behind", "127.0.0.1")

NO_STORE = "; cache-control: no-store"
MAINTENANCE = f"503; page 503{NO_STORE}; retry-after: 300"
COMBINED = (
    r'203\.0\.113\.9 - - \[[^]]+\] "GET /slow\?hostile HTTP/1\.1" 200 8 '
    r'"(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*" '
)
LINE = {
    "nginx": COMBINED + r'request=(?P<s>\d+\.\d{3}) upstream="\d+\.\d{3}"',
    "apache": COMBINED + r"request_us=(?P<us>\d+) first_byte_us=\d+",
    "lighttpd": COMBINED + r"request_us=(?P<us>\d+)",
    "caddy": r'\{.*"X-Forwarded-For":\["203\.0\.113\.9"\].*"duration":(?P<s>\d\.\d+),.*\}',
    "haproxy": r".* 203\.0\.113\.9:\d+ .* 0/0/\d+/(?P<ms>\d+)/\d+ 200 .*",
}
"""The line of a request with hostile fields, and its time."""
HOSTILE = 'a"b\\x\xe9 upstream="9"'
CONTROL = "a\x01\x7f"

Outcomes = dict[str, str]


class Small(Running):
    """A front before the small site."""

    application = SITE
    program = IMPATIENT + GENERATOR

    def __init__(self, machine: Machine, front: Front) -> None:
        super().__init__(machine, front, front.recommended)
        # Not pinned: the site is asked over HTTP as well.
        machine.write("/etc/systemd/system/mysite.service", self.gen("service", *SITE))
        self.shell("systemctl daemon-reload")

    def configure(self, *options: str) -> None:
        """Wait until the front listens, too: lighttpd's unit is started before."""
        super().configure(*options)
        self.machine.wait(
            lambda: self.machine.succeeds("curl", "-s4", "http://localhost/x"), "a front"
        )

    def get(self, path: str, *options: str) -> str:
        """Return the status, what the body is and the fields that matter, as one line."""
        curl = ("curl", "-s4", "-m", "20", "-D", "-", *options, f"http://localhost{path}")
        head, _, body = self.machine.run(*curl).stdout.partition("\n\n")
        status = head.split()[1]
        fields = [
            line for line in head.lower().splitlines() if line.startswith(("cache-c", "retry-a"))
        ]
        page = re.search("page [0-9]{3}|the site|too busy|a file|secret", body)
        return "; ".join([status, page[0] if page else "plain", *sorted(fields)])

    def maintenance(self, found: Outcomes, prefix: str, path: str, *options: str) -> None:
        """See what is answered while the file is there: no reload comes between."""
        self.shell(f"touch {SWITCH}")
        found[f"{prefix}maintenance"] = self.get(path)
        found[f"{prefix}maintenance, POST"] = self.get(path, "-d", "x" * 20_000)
        found[f"{prefix}maintenance, static file"] = self.get("/static/file.txt", *options)
        self.shell(f"rm {SWITCH}")
        found[f"{prefix}maintenance is over"] = self.get(path, *options)

    def go_away(self) -> None:
        """Take the application and its socket away."""
        # A stop would wait for the answer to the request that hangs.
        self.machine.run("systemctl", "kill", "--signal=KILL", "mysite.service", check=False)
        self.stop_each("mysite.socket", "mysite.service")

    def all(self) -> Outcomes:
        """Return what became of each check."""
        can = self.front.not_outage
        maintenance = () if "maintenance" in can else ("--maintenance",)
        log = () if "front-log" in can else ("--front-log",)
        files = FILES if self.front.static else ()
        self.configure(*PAGES, *maintenance, *log, *files, *BEHIND)
        self.shell("systemctl start mysite.service")  # a start may take longer than the front waits
        found = {"served": self.get("/"), "its own 503": self.get("/busy")}
        found["silent"] = self.get("/hang")
        if maintenance:
            self.maintenance(found, "", "/")
        found |= self.lines()
        # Not asked for by a client: neither the pages nor what else is in their directory.
        for path in self.addresses():
            found[f"page asked for: {path}"] = self.get(path)
        self.go_away()
        found["away"] = self.get("/")
        found["away, POST"] = self.get("/", "-d", "x=1")
        self.shell("mv /srv/errors /srv/gone")
        if not self.front.pages_at_start:  # lighttpd knows a file's state for some seconds
            self.machine.wait(lambda: "page" not in self.get("/"), "an answer without the page")
        found["away, no page"] = self.get("/")
        self.shell("mv /srv/gone /srv/errors")
        self.shell("systemctl reset-failed; systemctl start mysite.socket mysite.service")
        self.protected(found, maintenance, files)
        return found

    def protected(
        self, found: Outcomes, maintenance: tuple[str, ...], files: tuple[str, ...]
    ) -> None:
        """The same with a login, a mount and WebSockets."""
        self.protocol, self.server = "http", ("--server", "uvicorn")
        login = () if self.front.name == "lighttpd" else LOGIN[:2]
        self.configure(*PAGES, *maintenance, *files, *login, *LOGIN[2:], "--max-body", "100K")
        alice = ("-u", "alice:secret")
        path = "/app/"
        found["protected: served"] = self.get(path, *alice)
        if login:
            found["protected: nobody"] = self.get(path)
        if maintenance:
            self.maintenance(found, "protected: ", path, *alice)
        self.go_away()
        found["protected: away"] = self.get(path, *alice)
        found["protected: away, WebSocket"] = self.get(path, *alice, *HANDSHAKE)[:3]

    def lines(self) -> Outcomes:
        """Send hostile fields, and return what the front has logged of them."""
        for value in (HOSTILE, CONTROL):
            said = ("-A", value, "-e", value, "-H", "X-Forwarded-For: 203.0.113.9")
            self.get(f"/slow?{'control' if value is CONTROL else 'hostile'}", *said)
        self.get("/slow?last")

        def log() -> str:
            if self.front.name == "haproxy":
                return self.machine.journal()
            return self.machine.read(f"{self.packaging.logs}/mysite-access.log")

        self.machine.wait(lambda: "/slow?last" in log(), "the last line in the log")
        return {
            f"log, {word}": "\n".join(line for line in log().split("\n") if f"/slow?{word}" in line)
            for word in ("hostile", "control")
        }

    def addresses(self) -> list[str]:
        """The addresses that the configuration has for pages, and one of another file there."""
        setup = SETUP[self.front.name]
        path = setup.path or self.packaging.config.replace("NAME", "mysite")
        text = self.machine.read(path)
        found = re.findall(r"error_page 502 (\S+);|ErrorDocument 502 \"(\S+)\"", text)
        pages = sorted({a or b for a, b in found})
        return [
            *pages,
            *(f"{page.rpartition('/')[0]}/secret.html" for page in pages if "." in page),
        ]


@pytest.fixture(scope="module")
def host(machine: Machine) -> Machine:
    """A machine with the small site, its pages and a file."""
    machine.write("/srv/small/small.py", SMALL)
    machine.write("/srv/files/file.txt", "a file\n")
    machine.write("/etc/front.htpasswd", HTPASSWD)
    machine.write("/srv/errors/secret.html", "secret\n")
    for code in (502, 503, 504):
        machine.write(f"/srv/errors/{code}.html", f"<p>page {code}</p>\n")
    return machine


@pytest.fixture(scope="module", params=SETUP)
def case(request: pytest.FixtureRequest, host: Machine) -> Iterator[tuple[str, Outcomes]]:
    """A front, and what became of each check."""
    name = request.param
    if host.run("which", PROGRAM[name], check=False).returncode:
        pytest.skip(f"the machine has no {FRONTS[name].title}")
    front = Small(host, FRONTS[name])
    try:
        yield name, front.all()
    finally:
        front.stop()


def expected(name: str) -> Outcomes:
    """What is right of each check."""
    front = FRONTS[name]
    away = 502 if name in ("nginx", "caddy") else 503
    # lighttpd's configuration has no way to say it of these; by RFC 9111, 4.2.2, none is stored.
    kept = "" if name == "lighttpd" else NO_STORE
    found = {
        "served": "200; the site",
        "its own 503": "503; too busy; retry-after: 7",
        "silent": f"504; page 504{kept}",
        "away": f"{away}; page {away}{kept}",
        "away, POST": f"{away}; page {away}{kept}",
        "away, no page": f"{away}; plain",
        "protected: served": "200; the site",
        "protected: away": f"{away}; page {away}{kept}",
        "protected: away, WebSocket": f"{away}",
    }
    if name == "nginx":
        found["away, no page"] += NO_STORE
    if front.pages_at_start:
        found["away, no page"] = found["away"]
    if name != "lighttpd":  # over http it knows of no login
        found["protected: nobody"] = "401; plain" + (
            "; cache-control: no-cache" if name == "haproxy" else ""
        )
    if "maintenance" not in front.not_outage:
        for prefix in ("", "protected: "):
            found[f"{prefix}maintenance"] = MAINTENANCE
            found[f"{prefix}maintenance, POST"] = MAINTENANCE
            kept = LIFETIMES["static"].directives(bool(prefix))
            found[f"{prefix}maintenance, static file"] = f"200; a file; cache-control: {kept}"
            found[f"{prefix}maintenance is over"] = "200; the site"
    return found


def test_pages_and_maintenance(case: tuple[str, Outcomes]) -> None:
    name, outcomes = case
    told = {what: was for what, was in outcomes.items() if not what.startswith(("log", "page"))}
    assert told == expected(name)


def test_no_page_is_an_address_of_the_site(case: tuple[str, Outcomes]) -> None:
    _, outcomes = case
    for what, was in outcomes.items():
        if what.startswith("page"):
            assert was[:3] in ("403", "404")
            assert "plain" in was


def test_a_line_has_the_times_and_no_field_ends_it(case: tuple[str, Outcomes]) -> None:
    name, outcomes = case
    found = re.fullmatch(LINE[name], outcomes["log, hostile"])
    assert found, outcomes["log, hostile"]
    unit, number = next(iter(found.groupdict().items()))
    assert float(number) >= 0.2 * {"s": 1, "ms": 1000, "us": 1_000_000}[unit]
    assert "\n" not in outcomes["log, control"]  # most fronts refuse the request


@pytest.mark.parametrize("name", sorted({*SETUP} - {"caddy", "haproxy"}))
def test_the_packages_logrotate_finds_the_log(name: str, host: Machine) -> None:
    """Caddy rotates its own; HAProxy has no file."""
    logs = FRONTS[name].packaging["debian"].logs
    assert f"{logs}/*.log " in host.read(f"/etc/logrotate.d/{PROGRAM[name]}")
