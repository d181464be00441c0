"""The tables of docs/fronts.md, asgi.md and troubleshooting.md, from what the tests hold true.

What was found on each Debian is in tests/machine/results (see front_results.py); why it differs is
in fronts.DEVIATIONS and asgi.DEVIATIONS.

    python -m tests.machine.front_docs

writes them between their marks; tests/test_front_docs.py fails where they are not up to date.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sdactivate import fronts, trust
from sdactivate.backends import BACKENDS
from sdactivate.fronts import DISTRIBUTIONS, FRONTS, HOPS
from sdactivate.generate.fronts.lifetimes import LIFETIMES
from tests.machine import asgi, front_files, front_results
from tests.machine.fronts import CASES, SETUP, TOPICS, Deviation, deviation

DOCS = Path(__file__).parent.parent.parent / "docs"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def protocols() -> str:
    """Which protocols each front can have, the recommended one first."""
    return table(
        ("front", "recommended", "others", "refused"),
        (
            (
                front.title,
                f"**{front.recommended}**: {front.protocols[front.recommended]}",
                "; ".join(f"{name}: {what}" for name, what in list(front.protocols.items())[1:]),
                "; ".join(f"{name}: {why}" for name, why in front.refused.items()) or "",
            )
            for front in FRONTS.values()
        ),
    )


SYSTEMS = {name: found for name in front_results.TITLES if (found := front_results.read(name))}
"""What was found on each Debian that the tests of the fronts have run on."""

Differs = Callable[[str, str, str, str], Deviation | None]
"""What differs, by front, protocol, check and system."""


def versions() -> str:
    """The versions that were tried: of each front, on each Debian, and when."""
    days = ("tried on", *(found["date"] for found in SYSTEMS.values()))
    return table(
        ("front", *(front_results.TITLES[name] for name in SYSTEMS)),
        (
            *(
                (FRONTS[front].title, *(_version(name, front, True) for name in SYSTEMS))
                for front in SETUP
            ),
            days,
        ),
    )


def _version(system: str, front: str, whole: bool = False) -> Any:
    """The version of a front on a system, as a tuple; whole: as its text."""
    text = SYSTEMS[system]["versions"][front]
    found = front_results.version(text)
    return ".".join(map(str, found)) if whole else found


def with_notes(
    head: Iterable[str],
    cases: Iterable[tuple[tuple[str, ...], str, str]],
    topics: Mapping[str, Iterable[str]],
    differs: Differs,
) -> str:
    """Return a table of what works, by kind of check, and the notes where something differs.

    cases: the first cells of a row, the front, and what `differs` takes besides. A note names the
    systems where it does not hold on all of them.
    """
    notes: dict[str, dict[str, None]] = {}
    rows = []
    for cells, front, other in cases:
        row = list(cells)
        for checks in topics.values():
            whys: dict[str, None] = {}
            for check in checks:
                for system in SYSTEMS:
                    if found := differs(front, other, check, system):
                        whys[found.why] = None
                        notes.setdefault(found.why, {})[system] = None
            numbers = list(notes)
            row.append(", ".join(f"[{numbers.index(why) + 1}]" for why in whys) or "yes")
        rows.append(row)
    listed = []
    for number, (why, systems) in enumerate(notes.items(), 1):
        where = ", ".join(front_results.TITLES[name] for name in SYSTEMS if name in systems)
        listed.append(f"{number}. {why}{f' ({where})' if len(systems) < len(SYSTEMS) else ''}.")
    return table((*head, *topics), rows) + "\n\n" + "\n".join(listed)


def results() -> str:
    """What works, by front and protocol, and the notes where something differs."""

    def differs(front: str, protocol: str, check: str, system: str) -> Deviation | None:
        return deviation(front, protocol, check, _version(system, front))

    cases = [((FRONTS[name].title, protocol), name, protocol) for name, protocol in CASES]
    return with_notes(("front", "protocol"), cases, TOPICS, differs)


def packaging() -> str:
    """Whom each front runs as, and where things are, by distribution."""
    return table(
        ("front", "distribution", "unit", "user:group", "configuration", "private /tmp"),
        (
            (
                front.title,
                DISTRIBUTIONS[distribution],
                f"`{packaged.unit}`",
                f"`{packaged.user}:{packaged.group}`"
                + (f", root directory `{packaged.chroot}`" if packaged.chroot else ""),
                f"`{packaged.config}`",
                "yes" if packaged.private_tmp else "no",
            )
            for front in FRONTS.values()
            for distribution, packaged in front.packaging.items()
        ),
    )


def traps() -> str:
    """What to know of each front when a configuration is written by hand."""
    lines = [f"- **{front.title}**: {trap}" for front in FRONTS.values() for trap in front.traps]
    return "\n".join(
        [*lines, *(f"- **{name}** is refused: {why}." for name, why in fronts.REFUSED.items())]
    )


def trusted() -> str:
    """What is trusted in a request, from whom, over which protocol."""
    columns = ("what a front may report", "SCGI, FastCGI, uwsgi", "HTTP", "trusted over HTTP")
    rows = []
    for claim in trust.CLAIMS:
        option = f"--{claim.setting.replace('_', '-')}"
        words = {"": "yes", "remote_user": f"with `{option} yes`"}
        variables = ", ".join(f"`{name}`" for name in claim.variables)
        setting = words.get(claim.setting, f"with `{option} {claim.field}`")
        rows.append((claim.what, variables, f"`{claim.field}`", setting))
    return table(columns, rows)


def peers() -> str:
    """Who may speak for a client, and what is spoken where nothing is pinned."""
    return table(
        ("peer", "what it reports about its client", "protocol, unless one is set"),
        (
            (
                peer.who,
                "trusted" if peer.believed else "not trusted: the peer counts as the client",
                "determined by each connection's first byte"
                if peer.protocol == "auto"
                else peer.protocol,
            )
            for peer in trust.PEERS
        ),
    )


def hops() -> str:
    """What can be in front of each front."""
    return table(
        ("front", *(f"`--behind {form}`" for form in ("ADDRESS", "unix", "proxy:ADDRESS"))),
        (
            (front.title, *(front.not_behind.get(form, "yes").partition(";")[0] for form in HOPS))
            for front in FRONTS.values()
        ),
    )


def outage() -> str:
    """Which front has error pages, a maintenance switch and a log with times."""
    options = ("error-pages", "maintenance", "front-log")
    return table(
        ("front", *(f"`--{option}`" for option in options)),
        (
            (front.title, *(front.not_outage.get(option, "yes") for option in options))
            for front in FRONTS.values()
        ),
    )


def files() -> str:
    """What works of files, by front, and the notes where something differs."""
    notes: list[str] = []
    rows = []
    for front in front_files.SERVING:
        protocol = front_files.PROTOCOL.get(front, "")
        row = [FRONTS[front].title + (f" ({protocol})" if protocol else "")]
        for checks in front_files.TOPICS.values():
            found = [front_files.deviation(front, check) for check in checks]
            whys = dict.fromkeys(each.why for each in found if each)
            notes += [why for why in whys if why not in notes]
            row.append(", ".join(f"[{notes.index(why) + 1}]" for why in whys) or "yes")
        rows.append(row)
    listed = "\n".join(f"{number}. {why}." for number, why in enumerate(notes, 1))
    return table(("front", *front_files.TOPICS), rows) + "\n\n" + listed


def lifetimes() -> str:
    """How long each kind of file may be kept."""
    return table(
        ("file", "Cache-Control", "with `--auth-file`", "because"),
        (
            (row.what, f"`{row.directives(False)}`", f"`{row.directives(True)}`", row.why)
            for row in LIFETIMES.values()
        ),
    )


def logs() -> str:
    """Where each front logs, and what it does while the backlog is full."""
    return table(
        ("front", *(f"log on {title}" for title in DISTRIBUTIONS.values()), "backlog full"),
        (
            (
                front.title,
                *(
                    f"`{front.packaging[name].log_command}`" if front.packaging else ""
                    for name in DISTRIBUTIONS
                ),
                front.failures.full,
            )
            for front in FRONTS.values()
        ),
    )


def websockets() -> str:
    """What works with ASGI servers: by front, and the notes of a front's own."""

    def differs(front: str, server: str, check: str, system: str) -> Deviation | None:
        tried = SYSTEMS[system]["asgi"]
        if asgi.NOT_TRIED in (found.get(check) for case, found in tried.items() if front in case):
            return None
        return asgi.deviation(front, server, check, _version(system, front))

    cases = [((FRONTS[name].title,), name, "") for name in SETUP]
    return with_notes(("front",), cases, asgi.TOPICS, differs)


def asgi_servers() -> str:
    """What ASGI servers do otherwise, behind every front."""
    return "\n".join(
        f"- {row.why}." for (name, _), row in asgi.DEVIATIONS.items() if name in BACKENDS
    )


TABLES = {
    "asgi.md": (websockets, asgi_servers),
    "fronts.md": (
        *(protocols, versions, results, trusted, peers, hops, outage, lifetimes, files),
        *(packaging, traps),
    ),
    "troubleshooting.md": (logs,),
}


def filled(name: str) -> str:
    """Return the page `name` with its tables as they should be."""
    text = (DOCS / name).read_text(encoding="utf-8")
    for make in TABLES[name]:
        before, begin, rest = text.partition(f"<!-- {make.__name__} -->\n")
        _, end, after = rest.partition("<!-- / -->")
        if not (begin and end):
            raise ValueError(f"docs/{name} has no place for {make.__name__}")
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for page in TABLES:
        (DOCS / page).write_text(filled(page), encoding="utf-8")
