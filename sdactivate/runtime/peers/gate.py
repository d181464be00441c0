"""Check a peer against --allow-peer when it connects.

The mode and group of the socket decide who can connect. That is enough unless the socket is made
accessible by mistake, or PHP runs as the front's user. Then --allow-peer still protects it: a
connection is served if its peer matches one of the rules, and closed otherwise. `user:` and
`group:` compare the ids that the kernel recorded when the peer connected; in a user namespace of
our own (PrivateUsers=yes) every other id is 65534. `units` decides `unit:`.

Whether the check works is tested once, at the start, on a socket pair of our own. A rule that can't
be checked is an error then, and never lets a peer in.
"""

import contextlib
import grp
import pwd
import socket
import time
from _socket import socket as raw_socket
from collections.abc import Iterable, Iterator

from sdactivate import log
from sdactivate.errors import Error
from sdactivate.peer_rules import PeerRule, parse_rule
from sdactivate.runtime.peers import peercred
from sdactivate.runtime.peers.units import Check, unit_check
from sdactivate.systemd import cgroup

_SECONDS_BETWEEN_LINES = 60


class Gate:
    """Accepts the peers that the rules allow.

    Args:
        rules: those of --allow-peer; a peer that matches any of them is accepted, and every peer
            if there are no rules.
        sockets: the listening sockets that the connections come from.

    Raises UsageError for an invalid rule, and Error if a rule can't be checked: an unknown user or
    group, a socket that isn't AF_UNIX, a sandbox or kernel that hides the peer.
    """

    def __init__(self, rules: Iterable[str], sockets: Iterable[socket.socket] = ()) -> None:
        self.rules = tuple(parse_rule(text) for text in rules)
        if self.rules:
            for listening in sockets:
                if listening.family != socket.AF_UNIX:
                    raise Error(
                        f"allow-peer: {listening.getsockname()} is not a unix socket, and only "
                        "unix sockets identify their peers: use the path of a unix socket instead"
                    )
        self._checks = tuple(_checks(self.rules))
        self._refused = 0
        self._said = -float(_SECONDS_BETWEEN_LINES)

    def admits(self, fd: int) -> bool:
        """Return whether the peer of the accepted connection `fd` may be served; `fd` stays open.

        A refusal is logged, at most once a minute. Never raises: a peer that has disconnected or
        can't be identified is refused.
        """
        if not self._checks:
            return True
        # The C base class with all arguments, which makes no system call.
        connection = raw_socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        try:
            for check in self._checks:
                try:
                    if check(connection):
                        return True
                except (OSError, ValueError):  # the peer has disconnected, or its data is invalid
                    continue
            self._refuse(connection)
            return False
        finally:
            connection.detach()

    def _refuse(self, connection: raw_socket) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        count, self._refused, self._said = self._refused, 0, now
        more = f", and {count - 1} others since the last such line" if count > 1 else ""
        log.say(
            log.WARNING,
            f"refused a connection from {_describe(connection)}{more}: only "
            f"{' '.join(map(str, self.rules))} may connect (allow_peer)",
        )


def _checks(rules: tuple[PeerRule, ...]) -> Iterator[Check]:
    """Yield one check for each kind of rule, after testing that it works here."""
    names = {
        kind: [rule.name for rule in rules if rule.kind == kind]
        for kind in ("unit", "user", "group")
    }
    if names["unit"]:
        yield unit_check(names["unit"])
    if names["user"]:
        uids = frozenset(_seen(rule, "uid_map") for rule in rules if rule.kind == "user")
        yield lambda connection: peercred.credentials(connection)[1] in uids
    if names["group"]:
        gids = frozenset(_seen(rule, "gid_map") for rule in rules if rule.kind == "group")
        yield (
            lambda connection: (
                peercred.credentials(connection)[2] in gids
                or not gids.isdisjoint(peercred.groups(connection))
            )
        )


def _seen(rule: PeerRule, mapping: str) -> int:
    """Return the id that `rule` names, after testing that this process sees peers by that id."""
    number = _id(rule)
    with open(f"/proc/self/{mapping}", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    if not any(
        inside == outside and inside <= number < inside + size for inside, outside, size in ranges
    ):
        raise Error(
            f"allow-peer {rule}: in this sandbox every other {rule.kind} is seen as nobody. Set "
            "PrivateUsers=no in the service unit, or use a unit: rule instead"
        )
    return number


def _id(rule: PeerRule) -> int:
    try:
        if rule.name.isdigit():
            return int(rule.name)
        if rule.kind == "user":
            return pwd.getpwnam(rule.name).pw_uid
        return grp.getgrnam(rule.name).gr_gid
    except KeyError:
        raise Error(
            f"allow-peer {rule}: this host has no such {rule.kind}; create it first, or give its "
            "number"
        ) from None


def _describe(connection: raw_socket) -> str:
    words = []
    try:
        pid, uid, gid = peercred.credentials(connection)
        words += [f"process {pid}" if pid else "a process of another namespace"]
        words += [f"uid {uid}, gid {gid}"]
    except OSError:
        words.append("an unidentified process")
    with contextlib.suppress(OSError, LookupError):
        words.append(f"unit {cgroup.unit_with(peercred.cgroup_id(connection))}")
    return ", ".join(words)
