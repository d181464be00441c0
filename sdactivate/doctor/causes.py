"""Causes before effects: which finding explains which, and in what order they are shown.

If one thing is broken, everything that depends on it is broken too. If the service's user can't
read the program (SDA113), the service fails (SDA110). If it fails repeatedly, its socket unit fails
(SDA109). Then the front logs that it can't connect (SDA111). These are four findings with one
cause: fixing the second, third or fourth changes nothing.

A row of `TABLE` says "rule X explains rule Y if both are about the same thing", and what that
thing is. It applies only to actual findings: two findings that do not share that thing are
independent. The rows have no cycle, so every finding leads up to one without a cause: a root.

A finding with several causes is shown below the deepest of them, because that one is nearest to
it: SDA113 above SDA110 above SDA109, although SDA113 explains both. `because_of` has all causes,
the nearest first.

Roots are sorted by three keys: first those that keep requests from being answered now, or explain
a finding that does (in the order of `OUTAGE`); then by the most severe finding among the root and
those below it; then in the order of the rules. So the first finding shown is the cause of the
outage, not one of its symptoms.

To add a rule, add a row for each rule that it explains, and one for each that explains it. Add it
to `OUTAGE` if clients get errors while it is found. Its hits need `path` if they are about a file,
and `unit` if they are about a socket unit but reported for something else (the front).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from sdactivate.doctor.checks.common import under
from sdactivate.doctor.checks.failures import ANOTHER_COMMAND
from sdactivate.doctor.finding import Finding

Shared = Callable[[Finding, Finding], bool]
"""Whether a cause and an effect are about the same thing."""


def same_socket(cause: Finding, effect: Finding) -> bool:
    """Both concern the same socket unit, directly or as something that connects to it."""
    return bool(_sockets(cause) & _sockets(effect))


def same_unit(cause: Finding, effect: Finding) -> bool:
    """Both are about the same unit."""
    return cause.subject == effect.subject


def same_path(cause: Finding, effect: Finding) -> bool:
    """Both are about the same file."""
    return bool(cause.path) and cause.path == effect.path


def another_command(cause: Finding, effect: Finding) -> bool:
    """Both are about the same service, and a command other than ExecStart= failed."""
    return same_unit(cause, effect) and effect.because.startswith(ANOTHER_COMMAND)


def behind_mode(cause: Finding, effect: Finding) -> bool:
    """The line at fault is a SocketMode= that systemd ignores, so that the unit has none."""
    return same_unit(cause, effect) and cause.text.startswith("SocketMode=")


def behind_command(cause: Finding, effect: Finding) -> bool:
    """The line at fault is a command of the service."""
    return same_unit(cause, effect) and cause.text.startswith("Exec")


def by_watchdog(cause: Finding, effect: Finding) -> bool:
    """The service failed because it did not send WATCHDOG=1."""
    return same_unit(cause, effect) and "WatchdogSec=" in effect.because


def by_name(cause: Finding, effect: Finding) -> bool:
    """The service or its requests failed because the name of its user is unknown."""
    return same_unit(cause, effect) and "uid not found" in effect.because


def by_its_file(cause: Finding, effect: Finding) -> bool:
    """The failure names a file in the directory of the cause."""
    return bool(cause.path) and f"'{cause.path.rstrip('/')}/" in effect.because


_MATTERS = (
    *("Environment", "EnvironmentFile", "ExecStartPre", "Group", "PassEnvironment", "PIDFile"),
    *("RuntimeDirectory", "StateDirectory", "Type", "User", "WorkingDirectory"),
)


def by_ignored_line(cause: Finding, effect: Finding) -> bool:
    """The service lacks what an ignored line should set: variables, a directory, a user."""
    key = cause.text.partition("=")[0]
    return same_unit(cause, effect) and (
        key in _MATTERS or any(f"write {it}=" in str(cause.fix) for it in _MATTERS)
    )


def by_sent_name(cause: Finding, effect: Finding) -> bool:
    """The refused name is the one that the front sends instead of the client's."""
    sent = re.search(r"is asked for ('[^']+')", cause.because)
    return sent is not None and f"asks for {sent[1]}" in effect.because


def by_start_limit(cause: Finding, effect: Finding) -> bool:
    """The socket failed because its service was started too often."""
    return "StartLimitBurst=" in effect.because


def on_the_way(cause: Finding, effect: Finding) -> bool:
    """The effect is about the cause's file, or a directory on the path to it."""
    return bool(cause.path and effect.path) and under(cause.path, effect.path)


def same_site(cause: Finding, effect: Finding) -> bool:
    """Always true: findings that are arranged together belong to one deployment."""
    return True


def _sockets(finding: Finding) -> set[str]:
    """Return the socket units of a finding, or the service that creates its own socket."""
    return {it for it in (finding.subject, finding.unit) if it.endswith(".socket")} or (
        {finding.unit} - {""}
    )


class Row(NamedTuple):
    """`cause` explains each of `effects` if `shared` returns true for both."""

    cause: str
    effects: tuple[str, ...]
    shared: Shared


TABLE: tuple[Row, ...] = (
    # A socket to which others can connect
    Row("SDA001", ("SDA105",), same_socket),
    Row("SDA002", ("SDA105",), same_socket),
    Row("SDA114", ("SDA105",), same_path),
    Row("SDA031", ("SDA001",), behind_mode),
    # A socket that can't be created, is missing, or is not the unit's
    Row("SDA004", ("SDA109", "SDA116"), same_unit),
    Row("SDA007", ("SDA109", "SDA114"), same_unit),
    Row("SDA037", ("SDA109",), same_unit),
    Row("SDA009", ("SDA101", "SDA111"), same_path),
    Row("SDA026", ("SDA111", "SDA116"), same_site),
    Row("SDA032", ("SDA116", "SDA122"), same_unit),
    Row("SDA027", ("SDA101", "SDA114"), same_path),
    Row("SDA028", ("SDA101", "SDA114"), same_path),
    Row("SDA122", ("SDA109", "SDA111"), same_socket),
    Row("SDA101", ("SDA111",), same_socket),
    Row("SDA172", ("SDA101", "SDA106", "SDA111"), same_site),
    Row("SDA109", ("SDA111",), same_socket),
    Row("SDA116", ("SDA111",), same_socket),
    Row("SDA117", ("SDA107", "SDA111"), same_socket),
    # The path to the socket
    Row("SDA003", ("SDA102",), same_socket),
    Row("SDA008", ("SDA106",), same_socket),
    Row("SDA016", ("SDA102",), same_path),
    Row("SDA114", ("SDA102", "SDA103"), same_path),
    Row("SDA102", ("SDA111",), same_socket),
    Row("SDA103", ("SDA111",), same_socket),
    Row("SDA104", ("SDA111",), same_socket),
    Row("SDA106", ("SDA111", "SDA126"), same_socket),
    Row("SDA115", ("SDA111",), same_socket),
    # The backlog
    Row("SDA015", ("SDA107",), same_unit),
    Row("SDA108", ("SDA107",), same_unit),
    Row("SDA123", ("SDA107",), same_socket),
    # The service, and what fails with it
    Row("SDA019", ("SDA110",), same_unit),
    Row("SDA025", ("SDA110",), same_unit),
    Row("SDA027", ("SDA110",), same_unit),
    Row("SDA028", ("SDA110",), another_command),
    Row("SDA029", ("SDA110",), same_unit),
    Row("SDA031", ("SDA110",), behind_command),
    Row("SDA033", ("SDA110",), by_watchdog),
    Row("SDA022", ("SDA110",), same_unit),
    Row("SDA022", ("SDA113",), on_the_way),
    Row("SDA113", ("SDA110",), same_unit),
    Row("SDA129", ("SDA110", "SDA145"), by_name),
    Row("SDA130", ("SDA145",), by_its_file),
    Row("SDA114", ("SDA110",), same_unit),
    Row("SDA110", ("SDA107", "SDA109", "SDA125"), same_site),
    Row("SDA014", ("SDA109",), same_unit),
    Row("SDA034", ("SDA109",), by_start_limit),
    # A server that runs but does not serve
    Row("SDA140", ("SDA142",), same_site),
    Row("SDA140", ("SDA111",), same_socket),
    Row("SDA126", ("SDA111",), same_socket),
    Row("SDA141", ("SDA125", "SDA145"), same_unit),
    Row("SDA141", ("SDA106", "SDA111"), same_site),
    # Lines that systemd ignores, and units that it does not load
    Row("SDA031", ("SDA147",), same_unit),
    Row("SDA038", ("SDA147",), same_unit),
    Row("SDA038", ("SDA110", "SDA113", "SDA145"), by_ignored_line),
    Row("SDA039", ("SDA147", "SDA110"), same_unit),
    Row("SDA147", ("SDA109", "SDA110", "SDA111", "SDA116", "SDA122", "SDA126"), same_site),
    Row("SDA151", ("SDA102", "SDA106", "SDA111", "SDA126"), same_site),
    Row("SDA149", ("SDA150",), by_sent_name),
    Row("SDA142", ("SDA153",), same_site),  # a worker that is killed for a timeout does not answer
    # A file system that does not answer: the files on it seem to be gone
    Row("SDA146", ("SDA110", "SDA112", "SDA113", "SDA126", "SDA128", "SDA143"), same_site),
)  # fmt: skip

_NOT_REACHED = (
    "SDA146",  # every process that accesses it waits
    *("SDA147", "SDA151"),  # nothing is started
    *("SDA032", "SDA122", "SDA116", "SDA109", "SDA101", "SDA117"),  # nothing listens
    *("SDA004", "SDA037"),
    *("SDA019", "SDA025", "SDA027", "SDA029", "SDA113", "SDA110", "SDA141"),  # nothing answers
    *("SDA161", "SDA162"),
    *(
        "SDA172",
        "SDA106",
        "SDA126",
        "SDA104",
        "SDA103",
        "SDA102",
        "SDA140",
        "SDA121",
    ),  # the front's access
    "SDA154",
)
LOGGED_BY_FRONTS = frozenset(
    (*_NOT_REACHED, "SDA111", "SDA142", "SDA143", "SDA148", "SDA153", "SDA156", "SDA168")
)
"""Rules that are broken while the front gets errors, and logs them."""
LAST_RESORTS = ("SDA167", "SDA171")
"""The rules about an error in the front's log, and about a page that fails. They have the symptom,
and are left out if one of those above is broken: that explains them."""

OUTAGE = (
    *_NOT_REACHED,
    *("SDA150", "SDA148", "SDA153", "SDA152", "SDA155", "SDA164"),  # refused on the way
    *("SDA163", "SDA166", "SDA168", "SDA169", "SDA170"),
    *(
        "SDA120",
        "SDA124",
        "SDA145",
        "SDA125",
        "SDA142",
        "SDA143",
        "SDA156",
        "SDA165",
        *LAST_RESORTS,
    ),
    *("SDA144", "SDA157", "SDA158", "SDA160", "SDA111", "SDA159"),
)
"""Rules that are broken while clients get errors, or a response that is not the site's; the most
certain first. The front's rules are less certain if it isn't running: only its account is known."""

_GRAVEST = ("error", "warning", "note")


def arrange(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings of one deployment, each with its causes, in the order to show them.

    Each finding comes after its first cause, and before the findings that it explains.
    """
    if any(it.rule.id in LOGGED_BY_FRONTS for it in findings):
        findings = [it for it in findings if it.rule.id not in LAST_RESORTS]
    explained = _explained(findings)
    children: dict[int, list[int]] = {}
    for place, causes in explained.items():
        children.setdefault(causes[0] if causes else -1, []).append(place)

    def beneath(place: int) -> Iterator[int]:
        yield place
        for child in children.get(place, ()):
            yield from beneath(child)

    def urgency(root: int) -> tuple[int, int, int]:
        rules = [findings[place].rule for place in beneath(root)]
        return (
            min((OUTAGE.index(it.id) for it in rules if it.id in OUTAGE), default=len(OUTAGE)),
            min(_GRAVEST.index(rule.severity) for rule in rules),
            root,
        )

    made: dict[int, Finding] = {}
    order = [place for root in sorted(children.get(-1, ()), key=urgency) for place in beneath(root)]
    return [_make(place, findings, explained, made) for place in order]


def _make(
    place: int,
    findings: Sequence[Finding],
    explained: dict[int, list[int]],
    made: dict[int, Finding],
) -> Finding:
    """Return the finding at `place` with its causes, which are made first."""
    if place not in made:
        causes = tuple(_make(it, findings, explained, made) for it in explained[place])
        made[place] = findings[place]._replace(because_of=causes)
    return made[place]


def _explained(findings: Sequence[Finding]) -> dict[int, list[int]]:
    """Return, for the index of each finding, the indexes of its causes, the nearest first."""
    by_rule: dict[str, list[int]] = {}
    for place, finding in enumerate(findings):
        by_rule.setdefault(finding.rule.id, []).append(place)
    causes: dict[int, dict[int, None]] = {place: {} for place in range(len(findings))}
    for row in TABLE:
        for cause in by_rule.get(row.cause, ()):
            for effect in (it for rule in row.effects for it in by_rule.get(rule, ())):
                if row.shared(findings[cause], findings[effect]):
                    causes[effect][cause] = None
    depths: dict[int, int] = {}

    def depth(place: int) -> int:
        if place not in depths:
            depths[place] = max((1 + depth(it) for it in causes[place]), default=0)
        return depths[place]

    return {place: sorted(found, key=lambda it: -depth(it)) for place, found in causes.items()}
