"""The doctor's HTML page: a drawing of a request's path, with the findings (doctor --html).

Each thing that a request passes is a door: the front, the directories, the socket, the service. A
door that a finding is about is marked with it, in words and with a link; the findings follow below,
each beneath its cause. Self-contained and readable without scripts, in print and without colours.
`_shown` escapes all text that comes from the system.
"""

import html
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sdactivate import __version__
from sdactivate.access import words
from sdactivate.access.accounts import STRANGER
from sdactivate.access.permissions import Verdict, Way, judge
from sdactivate.doctor import report
from sdactivate.doctor.checks import common
from sdactivate.doctor.exposure import measure
from sdactivate.doctor.finding import Case, Finding
from sdactivate.doctor.host_state import HostState, InstalledFront
from sdactivate.errors import Error
from sdactivate.fronts import FRONTS
from sdactivate.systemd.unitfile import Unit
from sdactivate.terminal import escape

_STYLE = Path(__file__).with_name("page.css")
_OTHERS_WRITE = 0o002
_OPEN = "anyone on this host may pass"
_GRAVEST = ("error", "warning", "note")
_DIRECTORIES = ("WorkingDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory")


Examined = Sequence[tuple[Case, Sequence[Finding]]]
"""Each deployment with what was found in it."""

Numbered = Mapping[int, Finding]
"""Findings by their number on the page."""


def write(path: str, examined: Examined) -> None:
    """Write the page for `examined` to `path`. Raises OSError if it can't be written."""
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
    ]
    sites: list[_Site] = []
    number = 0
    for case, found in examined:
        numbered = dict(enumerate(found, number + 1))
        sites.append(_Site(len(sites) + 1, case, numbered))
        number += len(found)
    body += _contents(sites) if len(sites) > 1 else []
    body.append("<main>")
    for site in sites:
        body += _site(site, several=len(sites) > 1)
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


class _Site(NamedTuple):
    """One deployment on the page, and its number there."""

    number: int
    case: Case
    findings: Numbered


def _shown(text: str) -> str:
    return html.escape(escape(text))


def _contents(sites: Sequence[_Site]) -> Iterable[str]:
    """Yield the links to several deployments on the page."""
    yield '<nav aria-label="Deployments"><ul>'
    for site in sites:
        count = report.count(list(site.findings.values())) or "nothing found"
        name = _shown(site.case.deployment.name)
        yield f'<li><a href="#site-{site.number}">{name}</a>: {_shown(count)}</li>'
    yield "</ul></nav>"


def _site(site: _Site, *, several: bool) -> Iterable[str]:
    case, number = site.case, site.number
    name = f" of {_shown(case.deployment.name)}" if several else ""
    yield f'<section id="site-{number}" aria-labelledby="path-{number}">'
    yield f'<h2 id="path-{number}">The path of a request{name}</h2>'
    for unit, address in _addresses(case):
        yield f"<h3><code>{_shown(address)}</code></h3>"
        yield '<ol class="path">'
        yield from _door("Client", ["anyone who reaches the front"])
        yield from _fronts(site, unit, address)
        yield from _way(site, unit, address)
        yield from _service(site)
        yield "</ol>"
    yield "</section>"
    yield f'<section aria-labelledby="findings-{number}">'
    yield f'<h2 id="findings-{number}">Findings{name}</h2>'
    yield from _findings(site.findings)
    yield "" if site.findings else "<p>Nothing found.</p>"
    yield "</section>"
    yield from _exposure(case, number, name)


def _addresses(case: Case) -> list[tuple[Unit, str]]:
    if case.host:
        return [(unit, it) for unit in case.sockets for it in case.host.addresses(unit.name)]
    return [(unit, it.text) for unit in case.sockets for it in common.addresses(unit)]


def _door(
    title: str,
    lines: Iterable[str],
    people: Iterable[str] = (),
    findings: Numbered | None = None,
    *,
    shut: bool = False,
) -> Iterable[str]:
    """One thing that a request passes.

    people: lines of `_passer`, for those who may or may not pass it. findings: those that are about
    it. shut: nobody gets through.
    """
    findings = findings or {}
    severities = {finding.rule.severity for finding in findings.values()}
    gravest = next((f" marked {it}" for it in _GRAVEST if it in severities), "")
    yield f'<li class="stop{" shut" if shut else ""}{gravest}"><h4>{_shown(title)}</h4>'
    for number, finding in findings.items():
        rule = finding.rule
        yield (
            f'<p class="mark {rule.severity}"><a href="#finding-{number}">{rule.severity} '
            f"{rule.id}</a> {_shown(rule.what)}</p>"
        )
    yield from (f"<p>{_shown(line)}</p>" for line in lines)
    if people := list(people):
        yield "<ul>"
        yield from people
        yield "</ul>"
    yield "</li>"


def _passer(allowed: bool, text: str) -> str:
    word, sign = ("may pass", "\u2713") if allowed else ("may not pass", "\u2717")
    return (
        f'<li class="{"yes" if allowed else "no"}" title="{word}">'
        f'<span role="img" aria-label="{word}:">{sign}</span> {_shown(text)}</li>'
    )


def _about(site: _Site, *, unit: str = "", path: str = "", address: str = "") -> Numbered:
    """Return the findings about a unit or a file; with `address`, only those about this address."""

    def is_about(finding: Finding) -> bool:
        if path and finding.path == path:
            return True
        is_its = bool(unit) and finding.subject == unit
        return is_its and (not address or finding.path in ("", address))

    return {number: it for number, it in site.findings.items() if is_about(it)}


# -- the doors -----------------------------------------------------------------------------------


def _fronts(site: _Site, unit: Unit, address: str) -> Iterable[str]:
    host = site.case.host
    if host is None:
        yield from _door("Front", [_who_is_meant(unit, address)])
        return
    running = [it for it in host.fronts if it.workers]
    marked = [it for it in host.fronts if _about(site, unit=it.packaging.unit)]
    for installed in [*running, *(it for it in marked if it not in running)]:
        count, name = len(installed.workers), installed.packaging.unit
        processes = f"{count} process{'' if count == 1 else 'es'} as {installed.user}"
        lines = [f"{name}, {processes if count else 'not running'}"]
        lines += _named(host, installed, address)
        found = _about(site, unit=name)
        yield from _door(installed.front.title, lines, findings=found, shut=not count)
    if not running and not marked:
        yield from _door("Front", ["no known front runs here"], shut=True)


def _named(host: HostState, installed: InstalledFront, address: str) -> Iterable[str]:
    """Yield the files of a front's configuration that name a socket, as far as they are read."""
    inside = installed.packaging.path_inside(address)
    if not address.startswith("/") or inside is None:
        return
    configuration = host.machine.configuration(installed)
    if files := configuration.naming(inside):
        yield f"named in {', '.join(files)}"
    elif configuration.files:
        yield "its configuration does not name this socket"


def _who_is_meant(unit: Unit, address: str) -> str:
    """Return who may connect by the unit file alone: fronts that usually run in its group."""
    if not address.startswith("/"):
        return "any process that reaches the address"
    group = unit.value("SocketGroup")
    if common.mode(unit) & _OTHERS_WRITE or not group:
        return "not known from the unit files"
    packaged = {
        front.title
        for front in FRONTS.values()
        for packaging in front.packaging.values()
        if packaging.group == group
    }
    usual = f": {', '.join(sorted(packaged))}" if packaged else ""
    return f"processes in group {group}{usual}"


def _way(site: _Site, unit: Unit, address: str) -> Iterable[str]:
    case = site.case
    found = _about(site, unit=unit.name, path=address, address=address)
    if not address.startswith("/"):
        what = (
            "abstract: no owner, no mode" if address.startswith("@") else "TCP: no owner, no mode"
        )
        yield from _door("Socket", [what], _everyone(True), found)
        return
    if case.host is None:
        yield from _planned(site, unit, address, found)
        return
    try:
        way = case.host.way(address)
    except Error as error:
        yield from _door(address, [f"can't be examined: {error}"], findings=found, shut=True)
        return
    yield from _walked(site, case.host, way, found)


def _planned(site: _Site, unit: Unit, address: str, found: Numbered) -> Iterable[str]:
    """Yield a row for each directory of a socket's path and for the socket, from the unit files."""
    mode = common.mode(unit)
    made = unit.value("DirectoryMode", "0755")
    for directory in [str(it) for it in list(Path(address).parents)[-2::-1]]:
        about = _about(site, path=directory)
        lines = [] if directory in ("/run", "/var", "/tmp") else [f"created with mode {made}"]  # noqa: S108
        yield from _door(directory, lines, findings=about)
    owner = f"{unit.value('SocketUser', 'root')}:{unit.value('SocketGroup', 'root')}"
    yield from _door(
        address, [f"{owner} mode {mode:04o}"], _everyone(bool(mode & _OTHERS_WRITE)), found
    )


def _walked(site: _Site, host: HostState, way: Way, found: Numbered) -> Iterable[str]:
    """Yield the directories of a path and the socket, as they are on this host."""
    verdicts = _verdicts(host, way)
    seen: list[str] = []
    for step in way.steps:
        node = step.node
        if node.path in seen or (node.path == "/" and len(way.steps) > 1):
            continue
        seen.append(node.path)
        is_end = node == way.end
        people = list(_people(verdicts, node.path))
        shut = bool(people) and all('class="no"' in line for line in people)
        lines = [f"{words.user(node.uid)}:{words.group(node.gid)} {words.mode(node)}"]
        lines += [words.acl(node)] if node.acl else []
        lines += [f"-> {node.target}"] if node.target else []
        if is_end and (listener := host.listener(way.path)):
            lines.append(f"{listener.waiting} of {listener.backlog} waiting")
            lines += [listener.damage] if listener.damage else []
        elif is_end:
            lines.append("nothing listens here")
        everyone = _everyone(is_end and judge(way, STRANGER).allowed)
        about = found if is_end else _about(site, path=node.path)
        yield from _door(node.path, lines, [*everyone, *people], about, shut=shut)
    if way.error:
        yield from _door("End of the path", [os.strerror(way.error)], findings=found, shut=True)


def _everyone(is_open: bool) -> list[str]:
    # Marked differently from the others who may pass, because it is a risk
    return [f'<li class="open">! {_OPEN}</li>'] if is_open else []


def _verdicts(host: HostState, way: Way) -> dict[tuple[str, str], list[Verdict]]:
    """Return, for each service and user, the verdicts on its processes' access to this path."""
    found: dict[tuple[str, str], list[Verdict]] = {}
    for process in host.processes:
        # In a process with another root directory, the path is another file
        if process.identity.override or process.root != "/":
            continue
        if process.unit.endswith(".service"):
            key = (process.unit, words.user(process.identity.uid))
            found.setdefault(key, []).append(judge(way, process.identity))
    return found


def _people(verdicts: Mapping[tuple[str, str], Sequence[Verdict]], path: str) -> Iterable[str]:
    """Yield who may pass one door, without those who were refused at an earlier one."""
    for (unit, user), theirs in sorted(verdicts.items()):
        stops = [it.node.path if it.node and not it.allowed else None for it in theirs]
        here = [it for it in stops if it is None or not _lies_before(it, path)]
        if here:
            yield _passer(any(it != path for it in here), f"{unit} ({user})")


def _lies_before(stop: str, path: str) -> bool:
    return stop != path and path.startswith(stop.rstrip("/") + "/")


def _service(site: _Site) -> Iterable[str]:
    case = site.case
    service = case.service
    if service is None:
        yield from _door("Service", ["none"], shut=True)
        return
    dynamic = " (dynamic)" if common.is_dynamic(service) else ""
    lines = [f"{service.name} as {common.user(service)}{dynamic}"]
    if case.host:
        lines.append(case.host.property(service.name, "ActiveState"))
    for key in _DIRECTORIES:
        lines += [f"{key}={common.resolve(it, service)}" for it in service.words(key)]
    is_root = common.is_root(service)
    yield from _door("Service", lines, findings=_about(site, unit=service.name), shut=is_root)
    sandbox = [
        f"{label}: {'yes' if service.is_on(key) else 'no'}"
        for key, label in (
            ("NoNewPrivileges", "no new privileges"),
            ("PrivateNetwork", "no network"),
            ("ProtectHome", "no homes"),
        )
    ]
    system = service.value("ProtectSystem") or ("strict" if dynamic else "no")
    yield from _door("Sandbox", [f"system read-only: {system}", *sandbox])


# -- the findings --------------------------------------------------------------------------------


def _findings(findings: Numbered) -> Iterable[str]:
    """Yield each finding, with its consequences inside its box."""
    opened = 0
    for number, finding in findings.items():
        yield "</article>" * max(0, opened - finding.depth)
        opened = finding.depth + 1
        yield from _finding(number, finding)
    yield "</article>" * opened


def _finding(number: int, finding: Finding) -> Iterable[str]:
    rule, follows = finding.rule, bool(finding.because_of)
    place = report.where(finding)
    level = min(3 + finding.depth, 6)
    if follows:
        yield f"<p>Consequence of {_shown(finding.because_of[0].name)}:</p>"
    yield f'<article class="finding {rule.severity}" id="finding-{number}" tabindex="-1">'
    yield (
        f'<h{level}><span class="tag">{rule.severity} {rule.id}</span> {_shown(rule.what)}: '
        f"{_shown(finding.subject)}</h{level}>"
    )
    yield f"<p><code>{_shown(place)}</code></p>" if place else ""
    yield f"<pre>{_shown(finding.text)}</pre>" if finding.text else ""
    yield f"<p>{_shown(finding.because)}.</p>"
    yield f"<p>{_shown(rule.why)} <cite>{_shown(rule.source)}</cite></p>"
    yield f"<p>{'Fix it after its cause, if it is still found' if follows else 'Fix it'}:</p>"
    yield f"<pre>{_shown(str(finding.fix))}</pre>"
    yield f"<p>Then:</p><pre>{_shown(finding.then)}</pre>" if finding.then else ""


def _exposure(case: Case, number: int, name: str) -> Iterable[str]:
    if case.service is None or not case.service.files:
        return
    offline = case.host is None
    target = case.service.files[0] if offline else case.service.name
    found = measure(target, offline=offline)
    if found is None:
        return
    yield f'<section aria-labelledby="exposure-{number}">'
    yield f'<h2 id="exposure-{number}">Exposure{name}: {found.overall:g} of 10</h2>'
    yield '<table><thead><tr><th scope="col">line</th><th scope="col">what it leaves open</th>'
    yield '<th scope="col">points</th></tr></thead><tbody>'
    for gap in found.gaps:
        meter = f'<meter min="0" max="1" value="{gap.points:g}" aria-hidden="true"></meter>'
        yield (
            f"<tr><td><code>{_shown(gap.name)}</code></td><td>{_shown(gap.what)}</td>"
            f"<td>{gap.points:g} {meter}</td></tr>"
        )
    yield "</tbody></table></section>"
