"""Checks on the running system: the front, its log, and who else can connect."""

import contextlib
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sdactivate import front_config
from sdactivate.access import words
from sdactivate.access.bypass import bypasses_front, is_another_service
from sdactivate.access.permissions import SEARCH, WRITE, Verdict, judge, permission
from sdactivate.access.processes import Process
from sdactivate.doctor.checks import common, own_sockets
from sdactivate.doctor.doors import Door, by_target, concerning, doors
from sdactivate.doctor.doors import own_sockets as made_itself
from sdactivate.doctor.finding import Advice, Case, Command, Fix, Hit, Lines, restart
from sdactivate.doctor.host_state import HostState, InstalledFront, Machine
from sdactivate.doctor.private import grant
from sdactivate.front_config import Naming
from sdactivate.front_upstreams import Upstream, groups, upstreams
from sdactivate.peer_rules import PeerRule, kernel_version, needs
from sdactivate.systemd.unitfile import Unit

_WRITE_OF_GROUP = 0o020
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108


class _Refusal(NamedTuple):
    """A front that can't connect to a socket, and the kind of reason.

    elsewhere: the front sees other files. restart: its account may connect, but its processes were
    started before that. mask: an ACL's mask removes the permission. refused: any other reason.
    """

    kind: str
    door: Door
    installed: InstalledFront
    verdict: Verdict

    @property
    def unit(self) -> str:
        """The unit of the socket."""
        return self.door.unit

    @property
    def path(self) -> str:
        """The path of the socket."""
        return self.door.path


def _refusals(case: Case, kind: str) -> Iterator[_Refusal]:
    """Yield the refusals of one kind, for each path to which no front can connect.

    Checks the running fronts; if none is running, the accounts of the installed fronts. For a
    service's own socket it checks only the fronts whose configuration names it.
    """
    yield from (it for it in _all_refusals(case) if it.kind == kind)


def _all_refusals(case: Case) -> list[_Refusal]:
    """Return the refusals of every kind. Several rules use them."""
    name = case.deployment.name
    return case.running.machine.once(("refusals", name), lambda: list(_look(case)))


def _look(case: Case) -> Iterator[_Refusal]:
    host = case.running
    running = [installed for installed in host.fronts if installed.workers]
    figures = common.setting(case.service, "metrics") if case.service else None
    for door in doors(host):
        if not door.own and host.way(door.path).error:
            continue  # no socket there
        if figures and not door.own and host.property(door.unit, "FileDescriptorName") == figures:
            continue  # for monitoring, not for a front
        asked = [it.installed for it in door.askers] if door.own else running or host.fronts
        found = [
            _Refusal(_kind(host, door, installed, verdict), door, installed, verdict)
            for installed in asked
            if (verdict := _of_front(host, door.path, installed)) is not None
        ]
        if not any(it.verdict.allowed and it.kind != "elsewhere" for it in found):
            yield from found


def _of_front(host: HostState, path: str, installed: InstalledFront) -> Verdict | None:
    if installed.workers:
        verdicts = [host.verdict(path, process) for process in installed.workers]
        known = [verdict for verdict in verdicts if verdict is not None]
        return next((it for it in known if not it.allowed), known[0]) if known else None
    identity = host.account(installed)
    return judge(host.way(path), identity) if identity else None


def _kind(host: HostState, door: Door, installed: InstalledFront, verdict: Verdict) -> str:
    path = door.path
    if verdict.by == "error" or (door.own and _sees_another(host, door, installed)):
        return "elsewhere"
    identity = host.account(installed)
    if installed.workers and identity is not None and judge(host.way(path), identity).allowed:
        return "restart"
    return "mask" if verdict.by == "mask" else "refused"


def _sees_another(host: HostState, door: Door, installed: InstalledFront) -> bool:
    """Return whether a front sees a different file at the path of the service's socket."""
    if door.own is None or any(it.root != "/" for it in installed.workers):
        return False
    seen = host.listener(door.path)
    return seen is None or seen.number != door.own.number


def front_refused(case: Case) -> Iterator[Hit]:
    for refusal in _refusals(case, "refused"):
        unit, path, installed, verdict = refusal.unit, refusal.path, *refusal[2:]
        yield Hit(
            installed.packaging.unit,
            f"{installed.front.title} ({installed.user}) can't connect to {path}: "
            f"{_because(path, verdict)}",
            (fix := _opens(case, refusal)),
            unit,
            _start_anew(fix, installed),
            verdict.node.path if verdict.node else "",
        )


def _because(path: str, verdict: Verdict) -> str:
    """Return which component denies access, if not the socket itself, with its permissions."""
    node = verdict.node
    assert node is not None
    where = "" if node.path == path else f"{node.path}: "
    stands = f"{words.user(node.uid)}:{words.group(node.gid)} {words.mode(node)}"
    return f"{where}{words.answer(verdict)} ({stands})"


def _start_anew(fix: Fix, installed: InstalledFront) -> str:
    """Return the restart after usermod: a running process does not get its account's new group."""
    is_new_group = isinstance(fix, Command) and fix.argv[0] == "usermod"
    return str(restart(installed.packaging.unit)) if is_new_group else ""


def _opens(case: Case, refusal: _Refusal) -> Fix:
    unit, installed, verdict = refusal.unit, refusal.installed, refusal.verdict
    if refusal.door.own and case.service:
        return own_sockets.opens(case.service, refusal.door, installed, verdict)
    node = verdict.node
    assert node is not None
    group = words.group(node.gid)
    if node.kind == "directory":
        # The kernel checks only one class: that class has to get x.
        has = words.bits(verdict.has | SEARCH).replace("-", "")
        by_class = {
            "owner": ("chmod", "u+x"),
            "user": ("setfacl", "-m", f"u:{installed.user}:{has}"),
        }
        give = by_class.get(verdict.by, ("setfacl", "-m", f"g:{installed.group}:x"))
        instead = f"{node.path} is private: move the socket out of it"
        return grant(give, node.path, f"{instead}: set ListenStream={_usual(unit)} in {unit}")
    if verdict.by == "group" and not node.mode & _WRITE_OF_GROUP:
        return Lines(unit, "Socket", ("SocketMode=0660",))
    if group in own_sockets.NOT_TO_JOIN or installed.front.drops_groups:
        return Lines(unit, "Socket", (f"SocketGroup={installed.group}", "SocketMode=0660"))
    if verdict.by == "others":
        return Command(("usermod", "-aG", group, installed.user))
    return Lines(unit, "Socket", ("SocketMode=0660",))


def _usual(unit: str) -> str:
    return common.usual_path(Unit(unit, [], []))


def masked(case: Case) -> Iterator[Hit]:
    for _, door, installed, verdict in _refusals(case, "mask"):
        unit, path, node = door.unit, door.path, verdict.node
        assert node is not None
        assert node.acl is not None
        # Keep what the mask already allows.
        mask = words.bits(node.acl.mask | verdict.need).replace("-", "")
        yield Hit(
            installed.packaging.unit,
            f"{installed.front.title} can't connect to {path}: {_because(path, verdict)}",
            grant(
                ("setfacl", "-m", f"m::{mask}"),
                node.path,
                f"{node.path} is private: move the socket out of it",
                # Not safe: every entry that the mask limited takes effect again
            ),
            unit,
            path=node.path,
        )


def group_after_start(case: Case) -> Iterator[Hit]:
    for _, door, installed, verdict in _refusals(case, "restart"):
        unit, path = door.unit, door.path
        group = words.group(verdict.node.gid) if verdict.node else ""
        yield Hit(
            installed.packaging.unit,
            f"{installed.user} is in group {group} now, but {installed.front.title}'s processes "
            f"were started before that and lack the group: they can't connect to {path}",
            restart(installed.packaging.unit),
            unit,
        )


def front_elsewhere(case: Case) -> Iterator[Hit]:
    for _, door, installed, _ in _refusals(case, "elsewhere"):
        unit, path, chroot = door.unit, door.path, installed.packaging.chroot
        place = f"{chroot}{path}" if chroot else f"/run/{case.deployment.name}.sock"
        why = _why_elsewhere(installed)
        fix: Fix = Advice(f"set ListenStream={place} in the socket unit")
        if door.own and case.service:
            why, fix = _own_elsewhere(case.service, door, installed)
        yield Hit(
            installed.packaging.unit,
            f"{installed.front.title}'s processes don't see {path}: {why}",
            fix,
            unit,
        )


def _own_elsewhere(service: Unit, door: Door, installed: InstalledFront) -> tuple[str, Fix]:
    """Return why a front doesn't see a service's own socket, and the fix."""
    lies = Advice(own_sockets.elsewhere(service, door))
    if common.has_private_tmp(service) and common.under(door.path, *_TEMPORARY):
        return f"{service.name} has a private /tmp (PrivateTmp=)", lies
    if all(it.root == "/" for it in installed.workers):
        gone = f"the file that {service.name} created is gone, or was replaced by another"
        return gone, restart(service.name, safe=False)
    return _why_elsewhere(installed), lies


def _why_elsewhere(installed: InstalledFront) -> str:
    if installed.packaging.chroot:
        return f"they run in the chroot {installed.packaging.chroot}"
    return "they have another view of the file system (PrivateTmp=, or another mount namespace)"


def front_log(case: Case) -> Iterator[Hit]:
    host = case.running
    for unit, path, own, _ in doors(host):
        made = _made(path) if own else 0.0
        for installed in host.fronts:
            failures = installed.front.failures
            if failures.missing == failures.refused:
                continue  # this front logs the same text for every failure and every socket
            kinds = (
                (failures.missing, "there was no socket"),
                (failures.forbidden, "it was not allowed to"),
                (failures.refused, "nothing listened on the socket"),
            )
            since = max(made, host.since(unit, installed.packaging.unit))
            lines = host.front_log(installed, since, path)
            for template, meaning in kinds:
                hits = [line for line in lines if says(line, template, path)]
                if hits:
                    times = common.times(len(hits))
                    yield Hit(
                        installed.packaging.unit,
                        f"{installed.front.title} could not connect to {path} {times} in the last "
                        f"hour, because {meaning}: its clients got {failures.status}. The last "
                        f"line: {_shortened(hits[-1], template, path)}",
                        Advice(
                            "fix the other findings; if there are none, the problem is over, and "
                            "this finding will disappear"
                        ),
                        unit,
                        path=path,
                    )


def _made(path: str) -> float:
    """Return when a server created its socket, 0 if unknown. Earlier failures came from the start.

    One second is added, because fronts log whole seconds.
    """
    try:
        return os.lstat(path).st_mtime + 1
    except OSError:
        return 0.0


_CONFIGURATION = {
    "nginx": "/etc/nginx", "Apache": "/etc/apache2", "Caddy": "/etc/caddy",
    "HAProxy": "/etc/haproxy",
}  # fmt: skip
_HEADERS = r"(X-Forwarded-Host|X-Forwarded-Port|Forwarded|X-Script-Name)"
# How each front sets a header field of a request; a line that removes one does not match
_SETS = re.compile(
    rf"""^\s*(?:
        proxy_set_header\s+{_HEADERS}\s+(?!["']["'])
        | RequestHeader\s+(?:set|add|append|merge)\s+"?{_HEADERS}\b
        | http-request\s+(?:set|add)-header\s+{_HEADERS}\s
        | header_up\s+\+?{_HEADERS}\s+\S
    )""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_MOST_FILES, _MOST_BYTES = 500, 1 << 20


def headers_not_believed(case: Case) -> Iterator[Hit]:
    if case.service is None or not common.is_ours(case.service):
        return
    believed = (common.setting(case.service, "trust_headers") or "").replace(",", " ").lower()
    for unit, path in case.running.paths():
        for installed in case.running.fronts:
            for file, text in _setting_fields(case.running.machine, installed, path):
                said = [it for it in fields_set(text, path) if it.lower() not in believed.split()]
                if said:
                    names = " ".join(dict.fromkeys([*believed.split(), *said]))
                    yield Hit(
                        installed.packaging.unit,
                        f"{file} sets {', '.join(said)}, which {case.service.name} does not trust "
                        "over HTTP. With the other protocols this has no effect",
                        Advice(
                            f"in [Service] of {case.service.name}, set "
                            f'Environment="SDACTIVATE_TRUST_HEADERS={names}" if that front '
                            "sets them in every request, whatever its client sent"
                        ),
                        unit,
                    )


def own_servers(
    case: Case,
) -> Iterator[tuple[InstalledFront, front_config.Server, str, Upstream]]:
    """Yield each front's server that passes requests to the deployment, the unit, the upstream."""
    for installed, unit, upstream, own in at_fronts(case):
        for server in sorted(own, key=lambda it: (it.file, it.line)):
            yield installed, server, unit, upstream


def at_fronts(
    case: Case,
) -> Iterator[tuple[InstalledFront, str, Upstream, set[front_config.Server]]]:
    """Yield each front, the unit of each socket, and the servers that pass requests to it."""
    host = case.running
    at = [(unit, path, 0) for unit, path in host.paths()]
    if case.service:
        at += [(case.service.name, it.path, it.port) for it in made_itself(host)]
    for unit, path, port in at:
        for installed in host.fronts:
            seen = installed.packaging.path_inside(path) if path else path
            if seen is not None:
                upstream = Upstream("", 0, seen, port)
                at_door = ("servers", installed.packaging.unit, upstream)
                own = host.machine.once(at_door, partial(_servers, host, installed, upstream))
                yield installed, unit, upstream, own


def _servers(
    host: HostState, installed: InstalledFront, upstream: Upstream
) -> set[front_config.Server]:
    """Return the servers that pass requests to a socket, directly or by an upstream group."""
    machine, front = host.machine, installed.front.name
    servers = machine.configuration(installed).servers
    if upstream.path:
        found = set(machine.servers_of(installed, upstream.path))
    else:
        found = {
            server
            for server in servers
            if any(it.port == upstream.port for it in _upstreams(machine, front, server))
        }
    if front == "nginx":
        passing = machine.once(
            ("servers by target", installed.packaging.unit),
            lambda: by_target(servers, lambda it: it.text),
        )
        for name in groups(concerning(host, installed, upstream), upstream):
            found.update(passing.get(name, ()))
    return found


def _upstreams(machine: Machine, front: str, server: front_config.Server) -> list[Upstream]:
    return machine.once(("upstreams", server), lambda: upstreams(front, {"": server.text}))


def _setting_fields(
    machine: Machine, installed: InstalledFront, path: str
) -> list[tuple[Path, str]]:
    """Return the files of a front's configuration that set such a field and name the socket."""
    top = _CONFIGURATION.get(installed.front.title, "")
    index: Naming[tuple[Path, str]] = machine.once(
        ("sets fields", top),
        lambda: Naming((it, it[1]) for it in _configuration(top) if _SETS.search(it[1])),
    )
    return index.of(path)


def _configuration(top: str) -> Iterator[tuple[Path, str]]:
    """Yield the files below `top`, each once, with their contents."""
    seen: set[Path] = set()
    for directory, _, names in os.walk(top) if top else ():
        for name in sorted(names):
            file = Path(directory, name).resolve()
            if file in seen or len(seen) >= _MOST_FILES or not file.is_file():
                continue
            seen.add(file)
            with contextlib.suppress(OSError), open(file, "rb") as opened:
                yield file, opened.read(_MOST_BYTES).decode(errors="replace")


def fields_set(text: str, path: str) -> list[str]:
    """Return the header fields that a front's configuration sets, if it names the socket `path`."""
    if not front_config.names_socket(text, path):
        return []
    found = (next(filter(None, it.groups())) for it in _SETS.finditer(text))
    return list(dict.fromkeys(found))


def says(line: str, template: str, path: str) -> bool:
    """Return whether a front's log line reports the failure `template` for the socket at `path`.

    A longer path that begins with it is another socket.
    """
    return front_config.names_socket(line, path) and template.replace("SOCKET", path) in line


def _shortened(line: str, template: str, path: str) -> str:
    """Return a log line without the text after the failure, such as the request and client."""
    found = template.replace("SOCKET", path)
    end = line.index(found) + len(found)
    about = re.search(re.escape(path), line)
    end = max(end, about.end() if about else 0)
    return line[:end].strip() + (" …" if line[end:].strip() else "")


def _not_refused(host: HostState, path: str) -> list[Process]:
    """Return the processes of services other than fronts that may write to the socket's file.

    The file is the same in every mount namespace. Only for these processes the whole path has to be
    checked.
    """
    machine = host.machine
    services = machine.once(
        "services' processes",
        lambda: [it for it in host.processes if is_another_service(it.unit, it.identity)],
    )
    identities = machine.once(
        "services' identities", lambda: {process.identity for process in services}
    )
    end = host.way(path).end if host.listener(path) else None
    if end is None:
        return []
    granted = {it for it in identities if permission(end, WRITE, it).granted}
    return [it for it in services if it.identity in granted] if granted else []


def others_connect(case: Case) -> Iterator[Hit]:
    host = case.running
    if _checks_its_peers(case):
        return
    own = {unit.name for unit in case.deployment.units}
    running = [installed.packaging.unit for installed in host.fronts if installed.workers]
    for unit, path in host.paths():
        found: dict[str, list[str]] = {}
        for process in _not_refused(host, path):
            verdict = host.verdict(path, process)
            if verdict and bypasses_front(process.unit, process.identity, verdict, own):
                how = f"{words.user(process.identity.uid)}: {_because(path, verdict)}"
                found.setdefault(process.unit, []).append(how)
        fix = _shut(case, unit, running)
        # A line that the next install would otherwise not know of
        rules = ",".join(f"unit:{front}" for front in running)
        option = f"; with gen or install: --allow-peer {rules}" if isinstance(fix, Lines) else ""
        for service, ways in found.items():
            number = f"{len(ways)} of its processes" if len(ways) > 1 else "its process"
            yield Hit(
                service,
                f"{number} can connect to {path} and bypass the front's authentication: {ways[0]}"
                f"{option}",
                fix,
                unit,
                path=path,
            )


def _checks_its_peers(case: Case) -> bool:
    return case.service is not None and allows_peers(case.service)


def allows_peers(service: Unit) -> bool:
    """Return whether a service has a rule for peers, as a variable or as an option."""
    return bool(common.setting(service, "allow_peer"))


def _shut(case: Case, unit: str, fronts: list[str]) -> Fix:
    if case.service is not None and common.is_ours(case.service) and fronts:
        lines = allowing(fronts, kernel_version(os.uname().release))
        return Lines(case.service.name, "Service", lines)
    return Advice(
        f"set SocketGroup= of {unit} to a group that only the front is in, or run the other "
        "service as a user of its own"
    )


def allowing(fronts: list[str], kernel: tuple[int, int]) -> tuple[str, ...]:
    """Return the lines that make `sdactivate serve` serve only these units, on Linux `kernel`."""
    rules = [PeerRule("unit", front) for front in fronts]
    line = f"Environment=SDACTIVATE_ALLOW_PEER={','.join(map(str, rules))}"
    # An older kernel does not report a peer's unit: it is read from /proc.
    return (line, "ProtectProc=default") if needs(rules, kernel) else (line,)
