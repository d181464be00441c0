"""Checks on the running system: files that a front serves itself but can't reach."""

import re
from collections.abc import Iterator, Mapping
from functools import partial

from sdactivate.access import words
from sdactivate.access.permissions import SEARCH, Verdict, judge
from sdactivate.access.processes import Process
from sdactivate.doctor.checks.live_fronts import own_servers
from sdactivate.doctor.finding import Case, Hit
from sdactivate.doctor.host_state import HostState, InstalledFront
from sdactivate.doctor.private import grant
from sdactivate.errors import Error

_SERVES: Mapping[str, re.Pattern[str]] = {
    "nginx": re.compile(r"(?:^|[;{])\s*(?:alias|root)\s+[\"']?(/[^;\"'$]+)", re.MULTILINE),
    "apache": re.compile(r"^\s*(?:Alias\s+\S+|DocumentRoot)\s+\"?(/[^\s\"$]+)", re.MULTILINE),
    "caddy": re.compile(r"^\s*root\s+(?:\*\s+)?(/[^\s{}]+)", re.MULTILINE),
}
"""How each front's configuration names a directory of files."""


def served_by_fronts(case: Case) -> Iterator[tuple[InstalledFront, str, str, int, str]]:
    """Yield each directory whose files a front serves itself.

    Only of servers that also pass requests to the deployment. Yields the front, the directory, the
    file and line that name it, and the deployment's unit.
    """
    for installed, server, unit, _ in own_servers(case):
        pattern = _SERVES.get(installed.front.name)
        for found in pattern.finditer(server.text) if pattern else ():
            line = server.line + server.text.count("\n", 0, found.start(1))
            yield installed, found[1].strip(), server.file, line, unit


def unreadable(case: Case) -> Iterator[Hit]:
    told: set[tuple[str, str]] = set()
    for installed, path, file, line, unit in served_by_fronts(case):
        verdict = next(
            filter(None, map(partial(_refusal, case.running, path), installed.workers)), None
        )
        if verdict is None or verdict.node is None:
            continue
        if (place := (installed.packaging.unit, verdict.node.path)) not in told:
            told.add(place)
            yield _unreadable(installed, path, verdict, file, line, unit)


def _refusal(host: HostState, path: str, process: Process) -> Verdict | None:
    try:
        verdict = judge(host.way(path, process.root, SEARCH), process.identity)
    except (Error, OSError):
        return None
    return None if verdict.allowed or verdict.by == "error" else verdict


def _unreadable(
    installed: InstalledFront, path: str, verdict: Verdict, file: str, line: int, unit: str
) -> Hit:
    front, packaging, node = installed.front, installed.packaging, verdict.node
    assert node is not None
    stands = f"{words.user(node.uid)}:{words.group(node.gid)} {words.mode(node)}"
    return Hit(
        packaging.unit,
        f"{front.title} ({installed.user}) can't reach the files in {path} that it has to serve "
        f"({file}, line {line}): {node.path}: {words.answer(verdict)} ({stands})",
        grant(
            ("setfacl", "-m", f"g:{installed.group}:x"),
            node.path,
            f"{node.path} is private: move the files elsewhere, such as "
            f"/var/www/{unit.rpartition('.')[0]} (Django: STATIC_ROOT, then collectstatic), write "
            f"that directory in {file}, line {line}, then systemctl {front.renew} {packaging.unit}",
        ),
        unit,
        path=node.path,
    )
