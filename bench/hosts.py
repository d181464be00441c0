"""What a restart loses with each server that `--server` offers, on the same socket.

The runs are those of restart.py: the same load, a socket that is held. Each server is started as
`sdactivate serve --server NAME`, which is what a generated unit starts, with the settings'
defaults. `document` makes the table in docs/servers.md from the results.
"""

from itertools import product
from typing import Any

from bench import restart
from bench.load import Bench
from bench.process import Failed, python
from bench.servers import SERVERS, Case, Server, version
from sdactivate import backends, external_servers

PREFIX = "serve "
# The Django site, whose answers take a fraction of a millisecond; and one that is always waiting
APPS = {"djmw": "Django", "sleep": "waits 5 ms"}


def _rows() -> dict[str, Server]:
    """Rows for `bench.servers.SERVERS`: the servers by the names that --server knows."""
    found = {}
    for name, backend in backends.BACKENDS.items():
        attribute = "application" if backends.WSGI in backend.interfaces else "asgi"

        def argv(case: Case, name: str = name, attribute: str = attribute) -> list[str]:
            app = f"bench.apps.{case.app}:{attribute}"
            return python("-m", "sdactivate", "serve", "--server", name, app)

        package = backend.package or {"native": "sdactivate"}.get(name, name)
        protocol = backend.front_protocol("auto", ("scgi", "http"))
        reload = "HUP" if backend.in_process else external_servers.SERVERS[name].reload
        found[PREFIX + name] = Server(package, (protocol,), argv, 1, 64, reload)
    return found


def runs(bench: Bench, times: int) -> dict[str, Any]:
    """Restarts, and reloads where the server has one, of every server that can inherit."""
    rows = _rows()
    SERVERS.update(rows)
    found: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    for name, row in rows.items():
        if not version(name):
            failed[name] = "not installed"
            continue
        for action, app in product(("restart", *(["reload"] if row.reload else [])), APPS):
            try:
                found += restart.once(bench, name, row.protocols, app, action, times)
            except Failed as error:
                failed[f"{action}: {name} {app}"] = str(error)
    versions = {name.removeprefix(PREFIX): version(name) for name in rows}
    return {"times": times, "servers": versions, "rows": found, "failed": failed}


def document(result: dict[str, Any]) -> str:
    """The results as the table of docs/servers.md."""
    lines = [
        "| server | protocol | application | what | lost, on the socket | lost, through nginx "
        "| longest wait |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = result["rows"]
    for row in rows:
        if row["via"] == "socket":
            same = ("server", "app", "action")
            nginx = next(r for r in rows if all(r[k] == row[k] for k in same) and r is not row)
            name = row["server"].removeprefix(PREFIX)
            cells = [
                f"{name} {result['servers'][name]}",
                row["protocol"],
                APPS[row["app"]],
                f"{row['times']} {row['action']}s",
                *(f"{found['failed']} of {found['requests']}" for found in (row, nginx)),
                f"{max(row['max_us'], nginx['max_us']) / 1e6:.2f} s",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
