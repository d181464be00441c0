"""The doctor's HTML page: a drawing of a request's path, with the findings (doctor --html).

Self-contained and readable without scripts, in print and without colours. Everything that comes
from the system goes through `_shown`.
"""

import html
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from sdactivate import __version__
from sdactivate.access import words
from sdactivate.access.permissions import Node, judge
from sdactivate.doctor import report
from sdactivate.doctor.checks import common
from sdactivate.doctor.exposure import measure
from sdactivate.doctor.finding import Case, Finding
from sdactivate.doctor.host_state import HostState
from sdactivate.errors import Error
from sdactivate.terminal import escape

_STYLE = Path(__file__).with_name("page.css")


Examined = Sequence[tuple[Case, Sequence[Finding]]]
"""Each deployment with what was found in it."""


def write(path: str, examined: Examined) -> None:
    """Write the page for `examined` to `path`. Raises OSError where it can't be written."""
    Path(path).write_text(page(examined), encoding="utf-8")


def page(examined: Examined) -> str:
    """Return the page: for each deployment the path, then its findings, then its exposure."""
    names = ", ".join(case.deployment.name for case, _ in examined)
    place = socket.gethostname() if any(case.host for case, _ in examined) else "unit files"
    findings = [finding for _, found in examined for finding in found]
    body = [
        "<header>",
        f"<h1>{_shown(names)}</h1>",
        f"<p>{_shown(report.count(findings) or 'nothing found')} · {_shown(place)}</p>",
        "</header>",
        "<main>",
    ]
    for case, found in examined:
        body += _case(case, found, several=len(examined) > 1)
    body += ["</main>", f"<footer>sdactivate doctor {__version__}</footer>"]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_shown(names)}: the path of a request</title>",
            f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style></head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def _shown(text: str) -> str:
    return html.escape(escape(text))


def _case(case: Case, findings: Sequence[Finding], *, several: bool) -> Iterable[str]:
    name = f" of {_shown(case.deployment.name)}" if several else ""
    yield f"<section><h2>The path of a request{name}</h2>"
    for address in _addresses(case):
        yield f"<h3><code>{_shown(address)}</code></h3>"
        yield '<ol class="path">'
        yield from _stop("Client", ["anyone who reaches the front"])
        yield from _front(case, address)
        yield from _path(case, address)
        yield from _service(case)
        yield "</ol>"
    yield "</section>"
    yield f"<section><h2>Findings{name}</h2>"
    yield from _findings(findings)
    yield "" if findings else "<p>Nothing found.</p>"
    yield "</section>"
    yield from _exposure(case, name)


def _addresses(case: Case) -> list[str]:
    if case.host:
        return [it for unit in case.sockets for it in case.host.addresses(unit.name)]
    return [it.text for unit in case.sockets for it in common.addresses(unit)]


def _stop(
    title: str, lines: Iterable[str], people: Iterable[str] = (), *, shut: bool = False
) -> Iterable[str]:
    yield f'<li class="stop{" shut" if shut else ""}"><h3>{_shown(title)}</h3>'
    yield from (f"<p>{_shown(line)}</p>" for line in lines)
    if people := list(people):
        yield "<ul>"
        yield from people
        yield "</ul>"
    yield "</li>"


def _passer(allowed: bool, text: str) -> str:
    word = "may pass" if allowed else "may not pass"
    return f'<li class="{"yes" if allowed else "no"}" title="{word}">{_shown(text)}</li>'


def _front(case: Case, address: str) -> Iterable[str]:
    if case.host is None:
        return
    for installed in case.host.fronts:
        if not installed.workers:
            continue
        lines = [
            f"{installed.packaging.unit}, {len(installed.workers)} processes as {installed.user}"
        ]
        yield from _stop(installed.front.title, lines)
    if not any(installed.workers for installed in case.host.fronts):
        yield from _stop("Front", ["none that is known runs here"], shut=True)


def _path(case: Case, address: str) -> Iterable[str]:
    if not address.startswith("/"):
        what = (
            "abstract: no owner, no mode" if address.startswith("@") else "TCP: no owner, no mode"
        )
        yield from _stop("Socket", [what], [_passer(True, "everyone")])
        return
    if case.host is None:
        modes = [f"mode {common.mode(unit):04o}, group {unit.value('SocketGroup', 'not set')}"
                 for unit in case.sockets
                 if any(it.text == address for it in common.paths(unit))]  # fmt: skip
        yield from _stop(address, modes)
        return
    try:
        way = case.host.way(address)
    except Error as error:
        yield from _stop(address, [f"can't be examined: {error}"], shut=True)
        return
    seen: list[str] = []
    for step in way.steps:
        node = step.node
        if node.path in seen or (node.path == "/" and len(way.steps) > 1):
            continue
        seen.append(node.path)
        people = list(_people(case.host, address, node))
        shut = bool(people) and all('class="no"' in line for line in people)
        lines = [f"{words.user(node.uid)}:{words.group(node.gid)} {words.mode(node)}"]
        lines += [words.acl(node)] if node.acl else []
        lines += [f"-> {node.target}"] if node.target else []
        if node == way.end and (found := case.host.listener(address)):
            lines.append(f"{found.waiting} of {found.backlog} waiting")
            lines += [found.damage] if found.damage else []
        elif node == way.end:
            lines.append("nothing listens here")
        yield from _stop(node.path, lines, people, shut=shut)
    if way.error:
        yield from _stop("The end", [os.strerror(way.error)], shut=True)


def _people(host: HostState, address: str, node: Node) -> Iterable[str]:
    """Who may pass one stop: the services, each judged by what `node` is to it."""
    answers: dict[tuple[str, str], list[bool]] = {}
    for process in host.processes:
        if process.identity.override or not process.unit.endswith(".service"):
            continue
        if process.root != "/":
            continue  # it walks another way
        verdict = judge(host.way(address), process.identity)
        # Whoever was turned away before doesn't stand installed.
        stopped = verdict.node.path if verdict.node and not verdict.allowed else None
        if stopped and stopped != node.path and node.path.startswith(stopped.rstrip("/") + "/"):
            continue
        key = (process.unit, words.user(process.identity.uid))
        answers.setdefault(key, []).append(stopped != node.path)
    for (unit, user), verdicts in sorted(answers.items()):
        yield _passer(any(verdicts), f"{unit} ({user})")


def _service(case: Case) -> Iterable[str]:
    if case.service is None:
        yield from _stop("Service", ["none"], shut=True)
        return
    user = common.user(case.service)
    dynamic = " (dynamic)" if common.is_dynamic(case.service) else ""
    lines = [f"{case.service.name} as {user}{dynamic}"]
    if case.host:
        lines.append(case.host.property(case.service.name, "ActiveState"))
    yield from _stop("Service", lines, shut=common.is_root(case.service))
    sandbox = [
        f"{label}: {'yes' if case.service.is_on(key) else 'no'}"
        for key, label in (
            ("NoNewPrivileges", "no new privileges"),
            ("PrivateNetwork", "no network"),
            ("ProtectHome", "no homes"),
        )
    ]
    system = case.service.value("ProtectSystem") or ("strict" if dynamic else "no")
    yield from _stop("Sandbox", [f"system read-only: {system}", *sandbox])


def _findings(findings: Sequence[Finding]) -> Iterable[str]:
    """Each cause, and inside its box those of what follows from it."""
    opened = 0
    for finding in findings:
        yield "</article>" * max(0, opened - finding.depth)
        opened = finding.depth + 1
        yield from _finding(finding)
    yield "</article>" * opened


def _finding(finding: Finding) -> Iterable[str]:
    rule, follows = finding.rule, bool(finding.because_of)
    place = report.where(finding)
    if follows:
        yield f"<p>So, because of {_shown(finding.because_of[0].name)}:</p>"
    yield f'<article class="finding {rule.severity}">'
    yield (
        f'<h3><span class="tag">{rule.severity} {rule.id}</span> {_shown(rule.what)}: '
        f"{_shown(finding.subject)}</h3>"
    )
    yield f"<p><code>{_shown(place)}</code></p>" if place else ""
    yield f"<pre>{_shown(finding.text)}</pre>" if finding.text else ""
    yield f"<p>{_shown(finding.because)}.</p>"
    yield f"<p>{_shown(rule.why)} <cite>{_shown(rule.source)}</cite></p>"
    yield f"<p>{'After its cause, if it is still found' if follows else 'Fix it'}:</p>"
    yield f"<pre>{_shown(str(finding.fix))}</pre>"
    yield f"<p>Then:</p><pre>{_shown(finding.then)}</pre>" if finding.then else ""


def _exposure(case: Case, name: str) -> Iterable[str]:
    if case.service is None or not case.service.files:
        return
    offline = case.host is None
    target = case.service.files[0] if offline else case.service.name
    found = measure(target, offline=offline)
    if found is None:
        return
    yield f"<section><h2>Exposure{name}: {found.overall:g} of 10</h2>"
    yield "<table><tr><th>line</th><th>what it leaves open</th><th>points</th></tr>"
    for gap in found.gaps:
        meter = f'<meter min="0" max="1" value="{gap.points:g}">{gap.points:g}</meter>'
        yield (
            f"<tr><td><code>{_shown(gap.name)}</code></td><td>{_shown(gap.what)}</td>"
            f"<td>{gap.points:g} {meter}</td></tr>"
        )
    yield "</table></section>"
