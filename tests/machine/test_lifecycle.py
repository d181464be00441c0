"""Nothing is lost at start, reload, idle exit, crash or stop: under a real systemd, under load."""

import json
import re
import subprocess
from functools import partial
from typing import Any

import pytest

from tests.machine.clients import asking
from tests.machine.machine import Machine

SOCKET = "/run/life.sock"
PROTOCOLS = ("scgi", "fastcgi", "uwsgi", "http")
# Seconds between two requests of a client: so that restarts, and not clients, have the CPU
# Of each transition under load, for one worker and for two: `bench leaving` does hundreds
TIMES = 15
APPLICATION = """
import os, time

RELEASE = {release!r}
{more}

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/release":
        body = RELEASE.encode()
    elif path == "/pid":
        body = str(os.getpid()).encode()
    elif path == "/directory":
        body = __file__.encode()
    elif path.startswith("/sleep/"):
        time.sleep(float(path[7:]))
        body = b"slept"
    elif path == "/crash":
        os.kill(os.getpid(), 11)
    elif path == "/spin":
        sum(range(10**14))
    else:
        body = b"Hello, world!"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""
FRONT = """
user www-data;
events {{}}
pid /run/front.pid;
error_log /var/log/front.log;
http {{
    access_log off;
    # One each: kept connections are the upstream's, and each is of one protocol
    upstream fastcgi {{ server unix:{socket}; keepalive 8; }}
    upstream http {{ server unix:{socket}; keepalive 8; }}
    server {{
        listen 127.0.0.1:8000;
        location / {{
            fastcgi_pass fastcgi;
            fastcgi_keep_conn on;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param PATH_INFO $document_uri;
            fastcgi_param CONTENT_LENGTH $content_length;
        }}
    }}
    server {{
        listen 127.0.0.1:8001;
        location / {{
            scgi_pass unix:{socket};
            scgi_param REQUEST_METHOD $request_method;
            scgi_param PATH_INFO $document_uri;
        }}
    }}
    server {{
        listen 127.0.0.1:8002;
        location / {{
            proxy_pass http://http;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


class Site:
    """A small site on its socket unit."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.write("/etc/front.conf", FRONT.format(socket=SOCKET))
        machine.run("nginx", "-c", "/etc/front.conf")
        self._cursor = ""

    def release(self, name: str, more: str = "") -> None:
        self.machine.write("/srv/life/app.py", APPLICATION.format(release=name, more=more))

    def deploy(self, *options: str) -> None:
        """Generate the units with these options, and start afresh."""
        machine = self.machine
        self.release("first")
        gen = [*machine.sdactivate, "gen", "life"]
        socket = machine.run(*gen, "--group", "www-data").stdout
        app = ["--kind", "service", "--app", "app:application", "--chdir", "/srv/life"]
        service = machine.run(*gen, *app, *options).stdout
        for unit in ("life.service", "life.socket"):  # one unknown unit would stop none
            machine.run("systemctl", "stop", unit, check=False)
        shown = machine.run("journalctl", "--no-pager", "--lines=0", "--show-cursor").stdout
        self._cursor = shown.partition("cursor: ")[2].strip()
        machine.write("/etc/systemd/system/life.socket", socket)
        machine.write("/etc/systemd/system/life.service", service)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "reset-failed", "life.service", "life.socket", check=False)
        machine.run("systemctl", "start", "life.socket")

    def get(self, path: str, *options: str) -> str:
        url = f"http://localhost{path}"
        return self.machine.run("curl", "-sSf", *options, "--unix-socket", SOCKET, url).stdout

    def journal(self) -> str:
        """What the service has logged since it was deployed."""
        self.machine.run("journalctl", "--sync")
        after = f"--after-cursor={self._cursor}"
        return self.machine.run("journalctl", "--no-pager", "--unit=life.service", after).stdout

    def reload(self, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.reload("life.service", check=check)

    def show(self, name: str) -> str:
        return self.machine.show("life.service", name)


@pytest.fixture(scope="module")
def site(machine: Machine) -> Site:
    return Site(machine)


DIRECT = tuple((protocol, SOCKET) for protocol in PROTOCOLS)
THROUGH_NGINX = (("http", "8000"), ("http", "8001"), ("http", "8002"))


def failures(found: dict[str, Any]) -> dict[str, Any]:
    assert all(figures["requests"] for figures in found.values())
    return {name: figures for name, figures in found.items() if figures["failed"]}


@pytest.mark.parametrize("workers", [1, 2])
def test_restarts_lose_no_request(site: Site, workers: int) -> None:
    site.deploy("--workers", str(workers))
    with asking(site.machine, *DIRECT, *THROUGH_NGINX) as found:
        for _ in range(TIMES):
            site.machine.run("systemctl", "restart", "life.service")
    assert failures(found) == {}
    assert site.show("Result") == "success"


def has_release(site: Site, name: str) -> bool:
    return site.get("/release") == name


@pytest.mark.parametrize("workers", [1, 2])
def test_reloads_lose_no_request(site: Site, workers: int) -> None:
    site.deploy("--workers", str(workers))
    site.get("/")
    with asking(site.machine, *DIRECT, *THROUGH_NGINX) as found:
        for number in range(TIMES):
            site.release(f"number {number}")
            site.reload()
            site.machine.wait(partial(has_release, site, f"number {number}"), "it")
    assert failures(found) == {}
    assert site.show("NRestarts") == "0"
    assert site.show("ActiveState") == "active"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_soon_after_a_reload_loses_no_request(site: Site, workers: int) -> None:
    # What the process before has accepted is its own, and KillMode=mixed spares only the main one
    site.deploy("--workers", str(workers))
    site.get("/")
    slow = site.machine.popen(
        *("curl", "-sSf", "--unix-socket", SOCKET, "http://localhost/sleep/3"),
        stdout=subprocess.PIPE,
    )
    site.machine.wait(lambda: "ready: 1 of" in site.show("StatusText"), "it is being served")
    site.reload()
    site.machine.run("systemctl", "restart", "life.service")
    out, _ = slow.communicate(timeout=60)
    assert out == "slept"
    assert site.show("Result") == "success"


def test_a_reload_that_fails_changes_nothing_and_says_why(site: Site) -> None:
    site.deploy()
    before = site.get("/pid")
    site.release("broken", more="import no_such_thing")
    machine = site.machine
    result = machine.run(*machine.sdactivate, "reload", "life", check=False)
    assert result.returncode == 1
    assert "No module named 'no_such_thing'" in result.stderr
    assert site.get("/pid") == before
    assert site.get("/release") == "first"
    assert "reload failed (1)" in site.show("StatusText")
    assert "No module named 'no_such_thing'" in site.show("StatusText")
    journal = site.journal()
    assert "the old code still serves" in journal
    site.release("mended")
    site.reload()
    assert site.get("/release") == "mended"


def test_a_service_reloads_no_process_of_another(site: Site) -> None:
    """$MAINPID may be another process's by now: a signal there is not the unit's to send."""
    site.deploy()
    before, machine = site.get("/pid"), site.machine
    other = ("systemd-run", "--pipe", "--wait", "--quiet", "--unit=other.service")
    result = machine.run(*other, *machine.sdactivate, "reload", before, check=False)
    assert result.returncode == 1
    assert f"process {before} belongs to life" in result.stderr
    assert site.get("/pid") == before


def test_a_reload_to_code_that_is_not_healthy_changes_nothing(site: Site) -> None:
    site.deploy("--health", "/up", "--server-name", "example.org")
    before = site.get("/pid")
    text = APPLICATION.format(release="unhealthy", more="")
    text = text.replace('environ["PATH_INFO"]', "environ['NONE']")
    site.machine.write("/srv/life/app.py", text)
    result = site.reload(check=False)
    assert result.returncode != 0
    assert site.get("/pid") == before
    said = site.show("StatusText")
    assert said.startswith(
        "reload failed (1): health check: GET http://example.org/up was answered"
    )
    assert "KeyError: 'NONE'" in said
    site.release("fixed")
    site.reload()
    assert site.get("/release") == "fixed"
    assert site.get("/pid") != before


def test_a_reload_names_the_files_that_need_a_restart(site: Site) -> None:
    machine, key, env = site.machine, "/etc/life/key", "/etc/life.env"
    machine.write(key, "hush-one")
    machine.run("chmod", "0600", key)
    machine.write(env, "TOKEN=hush-two\n")
    site.deploy("--credential", f"key={key}", "--env-file", env)
    site.get("/")
    doctor = (*machine.sdactivate, "doctor", "life", "--format", "json")
    systemctl = machine.run("systemctl", "--version").stdout.split()[1]
    refreshed = int(systemctl) >= 260

    def found() -> str:
        text = machine.run(*doctor, check=False).stdout
        assert "hush" not in text
        return "".join(it["because"] for it in json.loads(text) if it["rule"] == "SDA119")

    site.reload()
    assert "restart needed" not in site.show("StatusText")
    assert key not in found()
    machine.write(key, "hush-three")
    machine.write(env, "TOKEN=hush-four\n")
    assert env in found()
    site.reload()
    said = f"restart needed to read {env}" + ("" if refreshed else f", {key}") + " again; "
    machine.wait(lambda: site.show("StatusText").startswith(said), said)
    assert f"not read again by a reload: {env}" in site.journal()
    assert "hush" not in site.journal() + site.show("StatusText")
    machine.run("systemctl", "restart", "life.service")
    assert "restart needed" not in site.show("StatusText")
    assert env not in found()
    # Nobody but root and the service's user reads the secret, which is nowhere else
    units = machine.run("sh", "-c", "stat -c %a /etc/systemd/system/life.*").stdout.split()
    assert set(units) == {"644"}
    where = machine.run("sh", "-c", "grep -rl hush-three /etc /var/lib /var/cache", check=False)
    assert where.stdout.split() == [key]
    read = ("cat", "/run/credentials/life.service/key")
    assert machine.run(*read, user="www-data", check=False).returncode != 0
    assert machine.run(*read).stdout == "hush-three"


def test_a_successor_that_hangs_is_given_up(site: Site) -> None:
    site.deploy("--start-timeout", "2")
    before = site.get("/pid")
    site.release("hangs", more="time.sleep(60)")
    result = site.reload(check=False)
    assert result.returncode != 0
    assert "start_timeout" in site.show("StatusText")
    assert site.get("/pid") == before
    processes = site.machine.run("pgrep", "-cf", "sdactivate serve app").stdout
    assert processes.strip() == "1"


def test_a_second_reload_overtakes_the_first_and_a_stop_ends_it(site: Site) -> None:
    site.deploy()
    site.get("/")
    site.release("slow", more="time.sleep(5)")
    pid = site.show("MainPID")
    site.machine.run("kill", "-HUP", pid)
    site.machine.wait(lambda: "reloading" in site.show("StatusText"), "the reload has begun")
    site.release("quick")
    site.reload()
    assert site.get("/release") == "quick"
    site.release("slow", more="time.sleep(30)")
    site.machine.run("kill", "-HUP", site.show("MainPID"))
    site.machine.wait(lambda: "reloading" in site.show("StatusText"), "the reload has begun")
    site.machine.run("systemctl", "stop", "life.service")
    assert site.machine.run("pgrep", "-f", "serve app", check=False).stdout == ""
    assert site.show("Result") == "success"


def test_a_reload_during_the_start_is_not_lost(site: Site) -> None:
    """systemd drops a reload that it merges into the start that is under way."""
    site.deploy()
    site.release("old", more="print('imports', flush=True); time.sleep(3)")
    site.machine.run("systemctl", "start", "--no-block", "life.service")
    site.machine.wait(lambda: "imports" in site.journal(), "the import has begun")
    assert site.show("ActiveState") == "activating"
    site.release("new")
    site.machine.run(*site.machine.sdactivate, "reload", "life")
    assert site.get("/release") == "new"


def test_a_reload_follows_a_symbolic_link_to_the_new_release(site: Site) -> None:
    machine = site.machine
    for name in ("one", "two"):
        path = f"/srv/releases/{name}/app.py"
        machine.write(path, APPLICATION.format(release=name, more=""))
    machine.run("ln", "-sfn", "/srv/releases/one", "/srv/releases/current")
    site.deploy("--chdir", "/srv/releases/current")
    assert site.get("/release") == "one"
    machine.run("ln", "-sfn", "/srv/releases/two", "/srv/releases/current")
    site.reload()
    machine.wait(lambda: site.get("/release") == "two", "the new release")


def test_a_reload_follows_a_symbolic_link_to_a_new_environment(site: Site) -> None:
    machine = site.machine
    make = """
        for name in one two; do
            /usr/bin/python3 -m venv --without-pip /srv/venvs/$name
            packages=$(echo /srv/venvs/$name/lib/python3*/site-packages)
            echo /opt/sdactivate/lib/python3*/site-packages >$packages/sdactivate.pth
            echo "name = '$name'" >$packages/which.py
        done
        ln -sfn one /srv/venvs/current
    """
    machine.run("sh", "-ec", make)
    site.deploy("--python", "/srv/venvs/current/bin/python")
    site.release("ignored", more="import which")
    machine.write(
        "/srv/life/app.py", machine.read("/srv/life/app.py").replace("RELEASE.e", "which.name.e")
    )
    assert site.get("/release") == "one"
    machine.run("ln", "-sfn", "two", "/srv/venvs/current")
    site.reload()
    machine.wait(lambda: site.get("/release") == "two", "the new environment")


def test_a_kill_in_the_middle_of_a_reload(site: Site) -> None:
    site.deploy()
    site.get("/")
    site.release("slow", more="time.sleep(2)")
    site.machine.run("kill", "-HUP", site.show("MainPID"))
    site.machine.wait(lambda: "reloading" in site.show("StatusText"), "the reload has begun")
    site.machine.run("kill", "-KILL", site.show("MainPID"))
    assert site.get("/release") == "slow"  # it waits, and is served by the next
    site.machine.wait(
        lambda: site.machine.run("pgrep", "-cf", "sdactivate serve app").stdout == "1\n",
        "nothing is left of the old process and its successor",
    )
    site.machine.wait(lambda: site.show("ActiveState") == "active", "systemd knows that it serves")


def test_a_kill_of_the_process_after_a_reload_is_noticed(site: Site) -> None:
    site.deploy()
    site.get("/")
    site.reload()
    pid = site.show("MainPID")
    site.machine.run("kill", "-KILL", pid)
    site.machine.wait(lambda: site.show("NRestarts") == "1", "systemd starts it again")
    assert site.get("/") == "Hello, world!"
    assert site.show("MainPID") != pid


def test_an_idle_site_leaves_and_comes_back(site: Site) -> None:
    site.deploy("--idle-timeout", "1")
    first = site.get("/pid")
    site.machine.wait(lambda: site.show("ActiveState") == "inactive", "the idle site has left")
    assert site.show("Result") == "success"
    assert site.get("/pid") != first


def test_connections_at_the_moment_of_leaving_are_served(site: Site) -> None:
    # Requests at about the interval after which the process leaves: most of them meet it
    # leaving, or starting. (The margin is tiny: no clock decides whether this passes.)
    site.deploy("--idle-timeout", "100ms")
    script = (
        "import http.client, socket, time\n"
        "for round in range(60):\n"
        "    connection = socket.socket(socket.AF_UNIX)\n"
        "    connection.settimeout(60)\n"
        f"    connection.connect({SOCKET!r})\n"
        "    connection.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n"
        "    answer = b''\n"
        "    while data := connection.recv(4096):\n"
        "        answer += data\n"
        "    assert b'Hello' in answer, (round, answer)\n"
        "    time.sleep(0.095 + (round % 20) / 1000)\n"
    )
    site.machine.run(site.machine.python, "-c", script)
    assert "left" not in site.show("Result")
    assert site.show("Result") == "success"


def test_an_application_that_cannot_be_imported(site: Site) -> None:
    site.deploy()
    site.release("broken", more="import no_such_thing")
    answer = site.machine.run(
        *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", SOCKET),
        "http://localhost/",
    ).stdout
    assert answer == "503"
    site.machine.wait(
        lambda: "No module named 'no_such_thing'" in site.show("StatusText"), "the reason"
    )
    site.machine.wait(
        lambda: "No module named 'no_such_thing'" in site.journal(), "the reason in the journal"
    )
    # However often it fails, the socket stays, and a mended application is served
    for _ in range(30):
        site.machine.run(
            *("curl", "-s", "-m", "1", "--unix-socket", SOCKET, "http://localhost/"), check=False
        )
        if site.machine.show("life.socket", "ActiveState") != "active":
            break
    assert site.machine.show("life.socket", "ActiveState") == "active"
    site.release("mended")
    assert site.get("/release", "--retry", "8", "--retry-all-errors") == "mended"


def test_a_worker_that_crashes_is_replaced(site: Site) -> None:
    site.deploy("--workers", "2")
    site.get("/")
    with asking(site.machine, ("http", SOCKET), clients=2) as found:
        site.machine.run(
            "curl", "-s", "--unix-socket", SOCKET, "http://localhost/crash", check=False
        )
        site.machine.wait(
            lambda: "was killed by SIGSEGV" in site.journal(),
            "the death is in the journal",
        )
        site.machine.wait(lambda: "in 2 workers" in site.show("StatusText"), "it is replaced")
    # Those in flight in the crashed process are lost with it; nobody else's
    assert found[f"http {SOCKET}"]["failed"] <= 2
    assert "Fatal Python error" in site.journal()
    assert site.show("NRestarts") == "0"


def test_a_killed_main_process_takes_its_workers_along(site: Site) -> None:
    # As docs/lifecycle.md says of KillMode=mixed; the next answer comes from the next start
    site.deploy("--workers", "2")
    before = site.get("/pid")
    site.machine.run("kill", "-KILL", site.show("MainPID"))
    site.machine.wait(lambda: site.show("NRestarts") == "1", "the next start")
    assert site.get("/pid") != before
    assert site.machine.run("test", "-e", f"/proc/{before}", check=False).returncode != 0
    assert re.search(rf"Killing process {before} .* with signal SIGKILL", site.journal())


def test_workers_that_cannot_live_fail_the_service(site: Site) -> None:
    site.deploy("--workers", "2")
    site.get("/")
    for _ in range(12):
        site.machine.run(
            "curl", "-s", "-m", "5", "--unix-socket", SOCKET, "http://localhost/crash", check=False
        )
    site.machine.wait(lambda: "workers died within" in site.journal(), "it gives up")
    assert site.get("/", "--retry", "8", "--retry-all-errors") == "Hello, world!"


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_are_replaced_after_so_many_requests(site: Site, workers: int) -> None:
    site.deploy("--workers", str(workers), "--max-requests", "200")
    first = site.get("/pid")
    with asking(site.machine, ("scgi", SOCKET), ("http", SOCKET), clients=2) as found:
        site.machine.wait(
            lambda: (
                "max_requests" in site.journal()
                and first not in {site.get("/pid") for _ in range(5)}
            ),
            "another process serves",
        )
    assert failures(found) == {}
    assert site.show("NRestarts") == "0"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stuck_request_is_shown_and_its_process_replaced(site: Site, workers: int) -> None:
    site.deploy("--workers", str(workers), "--worker-timeout", "1", "--graceful-timeout", "2")
    site.get("/")
    stuck = site.machine.popen("curl", "-s", "--unix-socket", SOCKET, "http://localhost/sleep/300")
    site.machine.wait(
        lambda: "a request has taken more than 1 s" in site.journal(),
        "its stack is logged",
    )
    assert "time.sleep(float(path[7:]))" in site.journal()
    assert stuck.wait(timeout=60) is not None  # cut after the graceful timeout
    assert site.get("/") == "Hello, world!"
    assert site.show("NRestarts") == "0"


@pytest.mark.parametrize("stuck", ["/sleep/300", "/spin"], ids=["threads", "all of Python"])
def test_the_watchdog_kills_what_makes_no_progress(site: Site, stuck: str) -> None:
    site.deploy("--threads", "1")
    unit = site.machine.read("/etc/systemd/system/life.service")
    assert "WatchdogSec=" in unit
    dropin = "[Service]\nWatchdogSec=2\n"
    site.machine.write("/etc/systemd/system/life.service.d/watchdog.conf", dropin)
    site.machine.run("systemctl", "daemon-reload")
    try:
        assert site.get("/") == "Hello, world!"
        client = site.machine.popen(
            "curl", "-s", "--unix-socket", SOCKET, f"http://localhost{stuck}"
        )
        site.machine.wait(lambda: site.show("NRestarts") == "1", "the watchdog has bitten")
        assert client.wait(timeout=60) is not None
        assert site.get("/") == "Hello, world!"
        assert "in application" in site.journal()  # where it was stuck
    finally:
        site.machine.run("rm", "-r", "/etc/systemd/system/life.service.d")
        site.machine.run("systemctl", "daemon-reload")


def test_a_stop_finishes_what_was_accepted(site: Site) -> None:
    site.deploy()
    site.get("/")
    slow = site.machine.popen(
        *("curl", "-sSf", "--unix-socket", SOCKET, "http://localhost/sleep/2"),
        stdout=subprocess.PIPE,
    )
    site.machine.wait(lambda: "1 of" in site.show("StatusText"), "it is being served")
    site.machine.run("systemctl", "stop", "life.service")
    out, _ = slow.communicate(timeout=60)
    assert out == "slept"
    assert site.show("Result") == "success"


@pytest.mark.parametrize("workers", [1, 2])
def test_status_tells(site: Site, workers: int) -> None:
    site.deploy("--workers", str(workers), "--protocol", "http")
    site.get("/")
    site.machine.wait(lambda: "1 served" in site.show("StatusText"), "the request is counted")
    status = site.show("StatusText")
    threads = 8 * workers
    for part in (f"ready: 0 of {threads} threads busy", "requests/s", "0 failed"):
        assert part in status
    assert "protocol http" in status
    _, _, since = status.partition("up since ")
    assert re.fullmatch(r"20[0-9-]{8} [0-9:]{8} UTC", since)
    assert ("in 2 workers" in status) == (workers == 2)
    site.reload()
    site.machine.wait(lambda: "reloaded 20" in site.show("StatusText"), "the reload is told")
    assert f"up since {since}, reloaded" in site.show("StatusText")
