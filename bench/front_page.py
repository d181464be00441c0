"""The section Numbers of the README: a few figures of bench/results, with links to the rest."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

RESULTS = "bench/results/README.md"
BEGIN, END = "<!-- numbers: python -m bench report -->\n", "<!-- /numbers -->\n"
# The applications with which the CPU time per request is compared
COMPARED = (
    ("an application that does nothing", "trivial", "an-application-that-does-nothing"),
    ("Django with its default middleware", "djmw", "django-default-middleware"),
)
PEERS = {"bjoern": "bjoern", "uwsgi": "uWSGI", "granian": "granian", "gunicorn-gthread": "gunicorn"}


def ratio(rows: list[Row], peer: str) -> float | None:
    """Return this server's CPU time per request as a share of a peer's, both over HTTP.

    Over closing connections, or against the peer's own protocol, if that is all that was measured;
    None if nothing was.
    """
    for ours, theirs in (("http", "http"), ("http-close", "http-close"), ("http", peer)):
        for row in rows:
            case = (row["ours"]["protocol"], row["peer"]["protocol"], row["peer"]["server"])
            if case == (ours, theirs, peer):
                return float(row["ratio"])
    return None


def figures(results: Path) -> Iterator[tuple[str, str, str]]:
    """What was measured, how much it was, and where the whole of it is: with Markdown's links."""
    parts = json.loads((results / "ratios.json").read_text())["parts"]
    for what, part, anchor in COMPARED:
        rows = parts[part]["rows"]
        shares = [(name, ratio(rows, peer)) for peer, name in PEERS.items()]
        said = ", ".join(f"{share:.2f} of {name}'s" for name, share in shares if share is not None)
        yield f"CPU time per request, {what}", said, f"[side by side]({RESULTS}#{anchor})"
    rows = json.loads((results / "leaving.json").read_text())["rows"]
    times, lost, requests = (sum(row[key] for row in rows) for key in ("times", "lost", "requests"))
    yield (
        f"requests lost in {times:,} restarts and reloads, on four protocols",
        f"{lost} of {requests:,}",
        f"[request by request]({RESULTS}#restarts-and-reloads-request-by-request)",
    )
    sites = json.loads((results / "idle.json").read_text())["sites"]
    yield (
        "an idle site, one of 1,000 on a machine",
        f"no process, {sites['pid1_kib_per_site']:.0f} KiB of systemd's memory",
        f"[idle sites]({RESULTS}#idle-sites)",
    )
    yield (
        "exposure of a generated service in `systemd-analyze security`",
        "0.2 of 10",
        "[the sandbox](docs/hardening.md)",
    )
    yield (
        "from a bare Debian to the first page, with the package, without the download",
        "15 to 32 s",
        "[packages](docs/packages.md)",
    )


def filled(text: str, results: Path) -> str:
    """Return the README `text` with its section Numbers as `results` are now."""
    lines = [f"| {what} | {much} | {how} |\n" for what, much, how in figures(results)]
    table = "| | | measured |\n|---|---|---|\n" + "".join(lines)
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: BEGIN + table + END, text, flags=re.S
    )
