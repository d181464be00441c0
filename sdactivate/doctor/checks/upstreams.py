"""Checks on the running system: the front connects to a socket where nothing listens."""

import re
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import SequenceMatcher
from functools import partial

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.live_fronts import says
from sdactivate.doctor.checks.own_sockets import BINDS
from sdactivate.doctor.doors import asked, ipv4_ports, listening_ports, naming, own_sockets, texts
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.host_state import HostState, InstalledFront
from sdactivate.front_upstreams import Upstream, bare
from sdactivate.systemd.unitfile import Unit

_ALIKE = 0.8
_SUFFIX = re.compile(r"\.s\w{1,6}$")  # .sock, .socket, or how it was misspelt


def nobody_listens(case: Case) -> Iterator[Hit]:
    host = case.running
    yield from _of_another_family(case)
    own = {name: host.addresses(name) for name in (it.name for it in case.sockets)}
    if not any(own.values()) and case.service:  # it makes its socket itself
        own = {case.service.name: [it.address for it in own_sockets(host)]}
    if not any(own.values()) or any("@." in name for name in own):
        return
    addresses = [address for held in own.values() for address in held]
    running = [it for it in host.fronts if it.workers] or host.fronts
    if any(_names(host, installed, addresses) for installed in running):
        return  # the other upstreams are other deployments'
    unit = next(name for name, held in own.items() if held)
    for installed in running:
        for upstream, failures in astray(
            asked(host, installed),
            [case.deployment.name, *(it.prefix for it in case.sockets)],
            partial(_is_there, host),
            partial(_failures, host, installed, unit),
        ):
            packaging, front = installed.packaging, installed.front
            times = f"; it has failed {common.times(failures)} in the last hour" if failures else ""
            is_below = upstream.path and upstream.root
            root = f" in its chroot {upstream.root}" if is_below else ""
            yield Hit(
                packaging.unit,
                f"{front.title} connects to {upstream.name}{root} ({upstream.file}, line "
                f"{upstream.line}), where nothing listens{times}; {unit} listens on "
                f"{', '.join(own[unit])}",
                Advice(
                    f"{_in_one_place(upstream, own[unit][0], unit, case.service)}, then `systemctl "
                    f"{front.renew} {packaging.unit}`"
                ),
                unit,
                path=upstream.path,
            )


def _of_another_family(case: Case) -> Iterator[Hit]:
    """Fronts that connect to localhost, which is ::1, while the service listens on IPv4 only."""
    host = case.running
    known = host.machine.once("IPv4 ports", ipv4_ports)
    ports = {it.port for it in own_sockets(host) if it.port in known} if case.service else set()
    for port in sorted(ports):
        for installed in [it for it in host.fronts if it.workers]:
            front, packaging = installed.front, installed.packaging
            look = partial(_named_localhost, host, installed)
            places = host.machine.once(("localhost", packaging.unit), look).get(port, [])
            families = host.machine.once("localhost", _families) if places else set()
            if socket.AF_INET6 not in families:
                continue
            lines = [
                it
                for it in host.front_log(installed, host.since(packaging.unit))
                if f"[::1]:{port}" in it and "refused" in it.lower()
            ]
            if socket.AF_INET in families and not lines:
                continue
            times = common.times(len(lines))
            seen = f"; it has been refused {times} in the last hour" if lines else ""
            for file, line in places:
                yield Hit(
                    packaging.unit,
                    f"{front.title} connects to localhost:{port} ({file}, line {line}), which is "
                    f"::1 on this host, but {case.deployment.name} listens on IPv4 only{seen}",
                    Advice(
                        f"in {file}, write 127.0.0.1:{port} instead of localhost:{port}, then "
                        f"`systemctl {front.renew} {packaging.unit}`"
                    ),
                )


_LOCALHOST = re.compile(r"\blocalhost:(\d{1,5})\b")


def _named_localhost(
    host: HostState, installed: InstalledFront
) -> dict[int, list[tuple[str, int]]]:
    """Return the places where a front's configuration names a port of localhost, by the port."""
    found: dict[int, list[tuple[str, int]]] = {}
    for file, text in texts(host, installed).items():
        plain = bare(text)
        for hit in _LOCALHOST.finditer(plain):
            place = (file, plain.count("\n", 0, hit.start()) + 1)
            found.setdefault(int(hit[1]), []).append(place)
    return found


def _families() -> set[int]:
    """Return the address families that localhost has on this host."""
    try:
        return {int(it[0]) for it in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def astray(
    asked: Sequence[Upstream],
    names: Collection[str],
    is_there: Callable[[Upstream], bool],
    failures: Callable[[Upstream], int],
) -> Iterator[tuple[Upstream, int]]:
    """Yield upstreams that are probably meant to be the deployment, and how often they failed.

    asked: the front's upstreams; the deployment's own socket is not one of them. names: the names
    of the deployment and its sockets. is_there: whether something listens there, or another unit
    will. failures: how often the front has logged that it could not connect.

    An upstream is probably meant to be the deployment if their names are alike, or if it is the
    front's only one and has failed.
    """
    for upstream in asked:
        if is_there(upstream):
            continue
        count = failures(upstream)
        if any(is_like(upstream.path, name) for name in names) or (count and len(asked) == 1):
            yield upstream, count


def _in_one_place(upstream: Upstream, own: str, unit: str, service: Unit | None) -> str:
    """Return what to change so that the front finds the socket: its configuration or the unit."""
    if own.startswith("/") and upstream.root and not own.startswith(f"{upstream.root}/"):
        # In a chroot it can reach no path outside, whatever its configuration names.
        if service and unit == service.name:
            inside = f"/{service.prefix}/web.sock"
            bind = BINDS.get(common.server(service), "the path {}").format(upstream.root + inside)
            return (
                f"run install -d -o {common.user(service)} {upstream.root}/{service.prefix}, set "
                f"{unit} to create its socket there ({bind}), write {inside} instead of "
                f"{upstream.name.removeprefix(upstream.root)} in {upstream.file}, line "
                f"{upstream.line}, then `systemctl restart {unit}`"
            )
        place = upstream.path or f"{upstream.root}{own}"
        listen = f"set ListenStream={place} in {unit}, and run `systemctl restart {unit}`"
        if upstream.path:
            return listen
        return f"{listen}; in {upstream.file}, write {own} instead of {upstream.name}"
    seen = own.removeprefix(upstream.root)
    return f"in {upstream.file}, write {seen} instead of {upstream.name}"


def is_like(path: str, name: str) -> bool:
    """Return whether a socket's path is probably meant for the deployment `name`.

    It contains the name (/run/NAME/web.sock), or is spelt much like it (/run/my-site.sock).
    """
    *directories, last = path.split("/")
    wanted, stem = _plain(name), _plain(_SUFFIX.sub("", last))
    if not wanted or not stem:
        return False
    return wanted in (_plain(it) for it in (*directories, last)) or (
        SequenceMatcher(None, stem, wanted).ratio() >= _ALIKE
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _names(host: HostState, installed: InstalledFront, addresses: Sequence[str]) -> bool:
    """Return whether a front's configuration names one of the deployment's own sockets."""
    known = asked(host, installed)
    ports = {int(it.rpartition(":")[2]) for it in addresses if it.rpartition(":")[2].isdecimal()}
    if any(it.path in addresses or it.port in ports for it in known):
        return True
    if any(it.root for it in known):
        return False  # in a chroot, the paths in its configuration are other files
    return any(naming(host, installed, it) for it in addresses if it.startswith("/"))


def _is_there(host: HostState, upstream: Upstream) -> bool:
    """Return whether something listens there, or a unit of that name is loaded."""
    if upstream.port:
        return upstream.port in host.machine.once("ports", listening_ports).values()
    if host.listener(upstream.path) is not None:
        return True
    stem = _SUFFIX.sub("", upstream.path.rpartition("/")[2])
    named = {it.name for it in host.deployment.units}
    units = [name for name in (f"{stem}.socket", f"{stem}.service") if name not in named]
    is_name = re.fullmatch(r"[A-Za-z0-9:_.@-]+", stem) is not None
    return is_name and any(host.property(it, "LoadState") == "loaded" for it in units)


def _failures(host: HostState, installed: InstalledFront, unit: str, upstream: Upstream) -> int:
    """Return how often a front has recently logged that it could not connect there."""
    since = host.since(unit, installed.packaging.unit)
    if upstream.server:
        # SC--: a request could not connect; is DOWN: a health check could not
        marks = (f" {upstream.server} ", f"Server {upstream.server} is DOWN")
        lines = host.front_log(installed, since)
        return sum((marks[0] in it and " SC--" in it) or marks[1] in it for it in lines)
    lines = host.front_log(installed, since, upstream.path)
    if upstream.port:
        refused = re.compile(rf"(?:127\.0\.0\.1|::1\]?|localhost):{upstream.port}\b")
        return sum("refused" in it.lower() and refused.search(it) is not None for it in lines)
    known = installed.front.failures
    templates = (known.missing, known.refused)
    return sum(any(says(line, it, upstream.path) for it in templates) for line in lines)
