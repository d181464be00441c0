"""What clients see of releases and rollbacks: a site in a real systemd, behind nginx.

Each round is a release of the site (its code has changed, its requirements have not) and a
rollback. Clients keep their connections and ask for a page meanwhile; before and after they do so
for as long without releases, for their latencies to be compared with. Root only: the machine is the
tests' own (tests/machine).
"""

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from bench.idle import wheel
from tests.machine.machine import Machine, asked_for, install

CLIENTS = 8
PAUSE_S = 0.05
ALONE_S = 30.0
# Runs inside, until its standard input ends: each thread is a client that keeps its connection.
CLIENT = """
import http.client, json, random, sys, threading, time
count, pause = int(sys.argv[1]), float(sys.argv[2])
words, path = sys.argv[3].encode(), sys.argv[4]
gone, took, lost = threading.Event(), [], []

def ask():
    connection = http.client.HTTPConnection("localhost", timeout=60)
    while not gone.is_set():
        began = time.monotonic()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            if words not in answer.read() or answer.status != 200:
                lost.append(f"status {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            lost.append(repr(error))
            connection.close()
        took.append(time.monotonic() - began)
        time.sleep(random.uniform(0, pause))

crowd = [threading.Thread(target=ask) for _ in range(count)]
for one in crowd: one.start()
sys.stdin.read()
gone.set()
for one in crowd: one.join()
took.sort()
part = lambda share: round(1000 * took[int(len(took) * share)], 1)
print(json.dumps({"requests": len(took), "lost": lost, "p50_ms": part(0.5), "p99_ms": part(0.99)}))
"""
# The sites by name: what is imported, the file that changes, and how the site gets to /root/mysite.
HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "9")])
    return [b"Guestbook"]
"""
SITES = {
    "example": ("mysite.wsgi", "mysite/urls.py", "cp -r /srv/mysite /root/ && rm -r /srv/mysite"),
    "hello": ("app", "app.py", f"rm -r /srv/mysite && cat >/root/mysite/app.py <<'END'{HELLO}END"),
}
PREPARE = """
mkdir /root/mysite
{copy}
rm -rf /root/mysite/staticfiles
sdactivate release mysite /root/mysite --python /opt/sdactivate/bin/python
sdactivate install mysite --group www-data --app {module}:application \\
    --chdir /srv/mysite/current --python /opt/sdactivate/bin/python
sdactivate release mysite /root/mysite --python /opt/sdactivate/bin/python
systemctl start nginx
"""


@contextlib.contextmanager
def clients(
    machine: Machine,
    count: int = CLIENTS,
    pause: float = PAUSE_S,
    words: str = "Guestbook",
    path: str = "/",
) -> Iterator[dict[str, Any]]:
    """Clients for as long as the block runs; then what they saw is in what was given.

    count: how many. pause: the most seconds between two requests of one. words: what each page has.
    path: the page that they ask for.
    """
    found: dict[str, Any] = {}
    argv = (machine.python, "-c", CLIENT, str(count), str(pause), words, path)
    with machine.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        yield found
        output, _ = running.communicate(timeout=120)
        found.update(json.loads(output))


def rounds(times: int, site: str) -> dict[str, Any]:
    """Release and roll back so often; return what clients saw with it and without."""
    module, changes, copy = SITES[site]
    took: dict[str, list[float]] = {"release": [], "rollback": []}
    commands = {
        "release": "release mysite /root/mysite --python /opt/sdactivate/bin/python",
        "rollback": "rollback mysite",
    }
    with tempfile.TemporaryDirectory() as directory:
        installation = install(wheel(directory), asked_for())
    with Machine(installation) as machine:
        machine.run("sh", "-ec", PREPARE.format(module=module, copy=copy), timeout=600)
        alone = []
        for last in (False, True):
            with clients(machine) as seen:
                time.sleep(ALONE_S)
            alone.append(seen)
            if last:
                break
            with clients(machine) as during:
                for number in range(times):
                    line = f"echo '# {number}' >>/root/mysite/{changes}"
                    machine.run("sh", "-c", line)
                    for name, words in commands.items():
                        began = time.monotonic()
                        machine.run(*machine.sdactivate, *words.split(), timeout=600)
                        took[name].append(round(time.monotonic() - began, 2))
    seen = {"alone": alone, "during": during, "took_s": took}
    return {"site": site, "times": times, "clients": CLIENTS, **seen}
