"""How long a balancer takes to see a machine go, come back, and fail: HAProxy and two sites.

Both sites are in the tests' own machine, each a socket and a service of systemd's on a port, with
--ready-path and --drain-delay; HAProxy asks them every second and wants two answers of a kind. A
round stops one (which announces it), starts it again, and freezes it, which is what a machine that
is gone looks like: connections go unanswered. Root only.
"""

import tempfile
import time
from typing import Any

from bench.idle import wheel
from tests.machine.machine import Machine, asked_for, install

ANNOUNCED_S = 5
"""--drain-delay: the balancer's two checks, a second apart, and a margin."""
APP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
HAPROXY = """
global
    stats socket /run/haproxy.sock
defaults
    mode http
    timeout connect 2s
    timeout client 1m
    timeout server 1m
listen site
    bind 127.0.0.1:8080
    option httpchk GET /ready
    default-server check inter 1s fall 2 rise 2
    server one 127.0.0.1:8001
    server two 127.0.0.1:8002
"""
PREPARE = f"""
for site in one two; do
    port=800$([ $site = one ] && echo 1 || echo 2)
    sdactivate gen $site --kind all --out /etc/systemd/system --app app:application \\
        --chdir /srv/mysite --python /opt/sdactivate/bin/python --listen 127.0.0.1:$port \\
        --trust 127.0.0.1 --ready-path /ready --drain-delay {ANNOUNCED_S}
done
systemctl daemon-reload
systemctl start one.socket two.socket
curl -sSf http://127.0.0.1:8001/ http://127.0.0.1:8002/
"""


def rounds(times: int) -> dict[str, Any]:
    """Return the seconds of so many rounds: until HAProxy has seen it, and until it is over."""
    with tempfile.TemporaryDirectory() as directory:
        installation = install(wheel(directory), asked_for())
    took: dict[str, list[float]] = {"noticed": [], "drained": [], "back": [], "failed": []}
    with Machine(installation) as machine:
        machine.write("/srv/mysite/app.py", APP)
        machine.write("/etc/haproxy.cfg", HAPROXY)
        machine.run("sh", "-ec", PREPARE)
        machine.run("systemd-run", "--unit=balancer", "haproxy", "-f", "/etc/haproxy.cfg")
        machine.run("sh", "-c", "until [ -S /run/haproxy.sock ]; do sleep 0.1; done")

        def until(status: str, began: float, what: str = "one") -> float:
            machine.wait(lambda: _status(machine, what) == status, f"{what} is {status}")
            return round(time.monotonic() - began, 2)

        for name in ("one", "two"):
            until("UP", 0, name)
        for _ in range(times):
            began = time.monotonic()
            stop = machine.popen("systemctl", "stop", "one.socket", "one.service")
            took["noticed"].append(until("DOWN", began))
            assert stop.wait(60) == 0
            took["drained"].append(round(time.monotonic() - began, 2))
            began = time.monotonic()
            machine.run("systemctl", "start", "one.socket")
            took["back"].append(until("UP", began))
            began = time.monotonic()
            machine.run("systemctl", "kill", "--signal=STOP", "one.service")
            took["failed"].append(until("DOWN", began))
            machine.run("systemctl", "kill", "--signal=CONT", "one.service")
            until("UP", began)
    return {"times": times, "announced_s": ANNOUNCED_S, "took_s": took}


def _status(machine: Machine, server: str) -> str:
    ask = (
        "import socket;s=socket.socket(1);s.connect('/run/haproxy.sock');"
        "s.sendall(b'show stat\\n');print(b''.join(iter(lambda:s.recv(65536),b'')).decode())"
    )
    for line in machine.run(machine.python, "-c", ask).stdout.splitlines():
        fields = line.split(",")
        if fields[:2] == ["site", server]:
            return fields[17].partition(" ")[0]
    return ""
