"""What restarts and HUP lose with uvicorn, hypercorn, and granian behind systemd-socket-proxyd.

And with the native server, to compare with.

The units are those of docs/servers.md (tests/machine/proxied.py) and of `sdactivate gen`, in the
tests' own machine (tests/machine): a real systemd holds the socket. 16 clients on it and 16 through
nginx as generated, each with a pause of up to 40 ms between two requests, while the service is
restarted, or HUP is sent to it, again and again. A request that gets no whole answer is lost; a
client whose kept connection turns out to be closed before one byte has come asks again, as nginx
does. `document` makes the table in docs/servers.md from the results. Root only.
"""

import json
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.idle import wheel
from bench.process import Failed
from tests.machine import load, proxied
from tests.machine.machine import EXTRAS, Machine, asked_for, install

CLIENTS = 16
PAUSE_S = 0.04
BETWEEN_S = 0.3
ALL_REPLACED_S = 60
UNITS = "/etc/systemd/system"
# An answer takes 5 ms: there is always a request under way. The page is the one that load.py knows.
WSGI = """
import time

def application(environ, start_response):
    time.sleep(0.005)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]
"""
ASGI = """
import asyncio

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    await asyncio.sleep(0.005)
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""


class Case(NamedTuple):
    """One row: what is done to which server."""

    server: str
    workers: int
    action: str
    """"restart" or "reload", as systemctl has them, or "HUP", sent to the main process."""

    @property
    def unit(self) -> str:
        """The service that it is done to."""
        return "mysite-granian.service" if self.server == "granian" else "mysite.service"


CASES = (
    Case("native", 1, "restart"),
    Case("native", 1, "reload"),
    Case("granian", 1, "restart"),
    Case("granian", 1, "HUP"),
    *(
        Case(server, workers, action)
        for server in ("uvicorn", "hypercorn")
        for workers in (1, 2)
        for action in ("restart", "HUP")
    ),
)


def deploy(machine: Machine, case: Case) -> None:
    """Let the case's server have the socket, with nginx in front."""
    for unit in ("mysite.service", "mysite-granian.service"):
        machine.run("systemctl", "stop", unit, check=False)
    if case.server == "granian":
        proxied.deploy(machine)
        return
    interface = "wsgi" if case.server == "native" else "asgi"
    said = f"--server {case.server} --workers {case.workers} --app mysite.{interface}:application"
    said += " --protocol http"
    machine.run(
        "sh",
        "-ec",
        f"""
        sdactivate gen mysite --group www-data >{UNITS}/mysite.socket
        sdactivate gen mysite --kind service {said} --chdir /srv/mysite >{UNITS}/mysite.service
        sdactivate gen mysite --kind nginx {said} >/etc/nginx/conf.d/mysite.conf
        systemctl daemon-reload
        systemctl reset-failed
        systemctl start mysite.socket
        systemctl restart nginx
        """,
    )


@contextmanager
def clients(machine: Machine, address: str, found: dict[str, Any]) -> Any:
    """Clients for as long as the block runs; then what they saw is in `found`."""
    argv = ("/usr/bin/python3", "/srv/load.py", "http", address, str(CLIENTS), "3600", str(PAUSE_S))
    with machine.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        yield
        output, _ = running.communicate(timeout=120)
        found.update(json.loads(output))
        del found["wrong"]


def processes(machine: Machine, unit: str) -> tuple[str, set[str]]:
    """The main process of a service, and its worker processes."""
    main = machine.show(unit, "MainPID")
    # multiprocessing's resource tracker stays.
    script = f"""
        for child in $(cat /proc/{main}/task/{main}/children); do
            grep -q resource_tracker /proc/$child/cmdline || echo $child
        done
    """
    return main, set(machine.run("sh", "-c", script, check=False).stdout.split())


def hup(machine: Machine, unit: str) -> bool:
    """Send HUP; return whether the main process is still the same when all has been replaced."""
    main, before = processes(machine, unit)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit)

    def replaced() -> bool:
        now, children = processes(machine, unit)
        return now != main or (not before & children and len(children) >= len(before))

    if not before:  # one process serves
        machine.wait(lambda: processes(machine, unit)[0] not in (main, "0"), f"another {unit}")
        return False
    machine.wait(replaced, f"new processes of {unit}", timeout=ALL_REPLACED_S)
    return machine.show(unit, "MainPID") == main


def measure(machine: Machine, case: Case, times: int) -> dict[str, Any]:
    """Do it so often, under load."""
    deploy(machine, case)
    machine.curl("/")
    seen: dict[str, dict[str, Any]] = {"socket": {}, "nginx": {}}
    stayed = True
    with ExitStack() as loads:
        for via, address in (("socket", "/run/mysite.sock"), ("nginx", "80")):
            loads.enter_context(clients(machine, address, seen[via]))
        time.sleep(1)
        for _ in range(times):
            time.sleep(BETWEEN_S)
            if case.action == "HUP":
                stayed &= hup(machine, case.unit)
            else:
                machine.run("systemctl", case.action, case.unit)
            # Not in the middle of a start: what has only just been executed says nothing yet.
            machine.wait(lambda: machine.succeeds("curl", "-sf", "http://localhost/"), "an answer")
        time.sleep(1)
    return {**case._asdict(), "times": times, "stayed": stayed, **seen}


def runs(times: int) -> dict[str, Any]:
    """Every case."""
    with tempfile.TemporaryDirectory() as directory:
        installation = install(wheel(directory), asked_for(), (*EXTRAS, "servers"))
    rows, failed = [], {}
    with Machine(installation) as machine:
        machine.write("/srv/load.py", Path(load.__file__).read_text())
        for name, text in (("wsgi", WSGI), ("asgi", ASGI)):
            machine.write(f"/srv/mysite/mysite/{name}.py", text)
        for case in CASES:
            try:
                rows.append(measure(machine, case, times))
                print(rows[-1], flush=True)
            except (Failed, TimeoutError, subprocess.SubprocessError) as error:
                failed[" ".join(map(str, case))] = str(error)
                print(case, error, flush=True)
        versions = json.loads(machine.run(machine.python, "-c", VERSIONS).stdout)
        systemd = machine.run("systemctl", "--version").stdout.split()[1]
    return {"times": times, "servers": versions, "systemd": systemd, "rows": rows, "failed": failed}


VERSIONS = """
import importlib.metadata, json
names = {"native": "sdactivate", **{name: name for name in ("granian", "uvicorn", "hypercorn")}}
print(json.dumps({name: importlib.metadata.version(package) for name, package in names.items()}))
"""


def document(result: dict[str, Any]) -> str:
    """The results as the table of docs/servers.md."""
    date, *_ = result["machine"]["date"].split()
    lines = [
        f"Measured {date} with systemd {result['systemd']}, by `python -m bench hup`: 16 clients "
        "on the socket, 16 through nginx; an answer takes 5 ms.",
        "",
        "| server | worker processes | what | lost, on the socket | lost, through nginx "
        "| longest wait | main process |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        seen = (row["socket"], row["nginx"])
        stays = "" if row["action"] != "HUP" else "stays" if row["stayed"] else "ends"
        cells = [
            f"{row['server']} {result['servers'][row['server']]}",
            str(row["workers"]),
            f"{row['times']} times {row['action']}",
            *(f"{found['failed']} of {found['requests']}" for found in seen),
            f"{max(found['longest'] for found in seen):.2f} s",
            stays,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
