"""Who can connect to one address: accounts and running processes, with what decides for each."""

import errno
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sdactivate.doctor import bypass, words
from sdactivate.doctor.access import Identity, Node, Verdict, Way, judge
from sdactivate.doctor.people import Person
from sdactivate.doctor.processes import Process
from sdactivate.doctor.prove import prove, reached
from sdactivate.doctor.sockdiag import Listener, behind
from sdactivate.doctor.walk import walk
from sdactivate.errors import Error

_SUN_PATH = 107  # unix(7): 108 with the NUL


class Answer(NamedTuple):
    """Whether somebody may connect: on paper and, where it was tried, as proven.

    `verdict` is None where the way can't be seen from here (`because` says why).
    """

    verdict: Verdict | None
    because: str
    proof: int | None = None

    @property
    def allowed(self) -> bool | None:
        """Yes, no, or None: not known."""
        return self.verdict.allowed if self.verdict else None

    @property
    def differs(self) -> bool:
        """Whether the proof contradicts the verdict."""
        return (
            self.proof is not None
            and self.verdict is not None
            and (self.verdict.allowed != reached(self.proof))
        )


class Team(NamedTuple):
    """The processes of one unit that get the same answer."""

    unit: str
    names: tuple[str, ...]
    pids: tuple[int, ...]
    identity: Identity
    answer: Answer


class Report(NamedTuple):
    """All that `who` says about one address."""

    address: str
    way: Way | None  # None: the address has no file, and so no permissions
    listener: Listener | None
    people: tuple[tuple[Person, Answer], ...]
    teams: tuple[Team, ...]
    own: str = ""  # the service that serves it, where it is known

    @property
    def differs(self) -> bool:
        """Whether any proof contradicts its verdict."""
        answers = [answer for _, answer in self.people] + [team.answer for team in self.teams]
        return any(answer.differs for answer in answers)


def report(
    address: str,
    people: Iterable[Person],
    processes: Sequence[Process] = (),
    *,
    proving: bool = False,
    own: str = "",
) -> Report:
    """Find out who can connect to `address`: an absolute path, @name, or anything else for TCP.

    `own` is the service that serves it. With `proving` each identity really connects once.
    Raises Error where the walk or the proof needs root.
    """
    listener = behind(address) if address[:1] in ("/", "@") else None
    if not address.startswith("/"):
        everybody = Answer(None, _NO_FILE["@" if address.startswith("@") else "tcp"])
        open_to = tuple((person, everybody) for person in people)
        return Report(address, None, listener, open_to, ())
    asker = _Asker(address, proving)
    way = asker.way("/")
    asked = tuple((person, asker.ask(person.identity)) for person in people)
    return Report(address, way, listener, asked, tuple(_teams(processes, asker)), own)


_NO_FILE = {
    "@": "an abstract address has no owner and no mode: every process of this network "
    "namespace connects (unix(7))",
    "tcp": "a TCP port has no owner and no mode: every user of this host connects",
}


class _Asker:
    """Answers for one path; each root is walked once, each identity proven once."""

    def __init__(self, path: str, proving: bool) -> None:
        self.path, self.proving = path, proving
        self.ways: dict[str, Way] = {}
        self.proofs: dict[tuple[Identity, object], int] = {}

    def way(self, root: str) -> Way:
        if len(self.path.encode()) > _SUN_PATH:
            return Way(self.path, (), errno.ENAMETOOLONG)
        return walk(self.path, root)

    def ask(self, identity: Identity, root: str = "/", view: object = None) -> Answer:
        key = str(view) if root != "/" else "/"
        if key not in self.ways:
            self.ways[key] = self.way(root)
        verdict = judge(self.ways[key], identity)
        where = "" if key == "/" else " (in its own view of the file system)"
        return Answer(verdict, words.because(verdict) + where, self._proof(identity, root, key))

    def _proof(self, identity: Identity, root: str, key: str) -> int | None:
        if not self.proving or identity.uids is not None:  # no way into a user namespace
            return None
        if (identity, key) not in self.proofs:
            self.proofs[identity, key] = prove(self.path, identity, root)
        return self.proofs[identity, key]


def _teams(processes: Sequence[Process], asker: _Asker) -> Iterable[Team]:
    teams: dict[tuple[str, Identity, Answer], list[Process]] = {}
    for process in processes:
        try:
            if process.view is None:
                raise Error("its root can't be looked at: run as root")
            answer = asker.ask(process.identity, process.root, process.view)
        except Error as error:
            answer = Answer(None, str(error))
        except OSError:  # it has left
            continue
        teams.setdefault((process.unit, process.identity, answer), []).append(process)
    for (unit, identity, answer), members in teams.items():
        names = tuple(sorted({process.name for process in members}))
        pids = tuple(process.pid for process in members)
        yield Team(unit, names, pids, identity, answer)


def goes_round(report: Report, team: Team) -> bool:
    """Whether a unit's processes can speak to the application past its front."""
    return bypass.goes_round(team.unit, team.identity, team.answer.verdict, (report.own,))


# As text


def as_text(report: Report) -> str:
    """Return the report for people: the way as a tree, then who may pass."""
    lines = [f"{report.address}{_listening(report.listener, report.address)}", ""]
    if report.way is None:
        verdicts = dict.fromkeys(answer.because for _, answer in report.people)
        return "\n".join([*lines, *verdicts]) + "\n"
    lines += [*_tree(report.way), *_members_of(report.way.end), ""]
    if report.people:
        lines += [
            "Accounts",
            *_table([(_yes(a), p.name, p.why, _reason(a)) for p, a in report.people]),
            "",
        ]
    rooted = [team for team in report.teams if team.identity.override and team.answer.allowed]
    teams = [team for team in report.teams if team not in rooted]
    if report.teams:
        lines.append("Running processes")
        rows = [
            (
                _yes(t.answer),
                t.unit or "no unit",
                _members(t),
                _reason(t.answer) + ("; it goes round the front" if goes_round(report, t) else ""),
            )
            for t in teams
        ]
        if rooted:
            count = sum(len(team.pids) for team in rooted)
            units = len({team.unit for team in rooted})
            rows.append(
                ("yes", "root's", f"{count} in {units} units", "CAP_DAC_OVERRIDE passes everywhere")
            )
        lines += [*_table(rows), ""]
    return "\n".join(lines)


def _listening(listener: Listener | None, address: str) -> str:
    if address[:1] not in ("/", "@"):
        return ""
    if listener is None:
        return ": nothing listens here"
    return f": listening, {listener.waiting} of {listener.backlog} waiting"


def _tree(way: Way) -> list[str]:
    rows: list[tuple[str, str, str, str]] = []
    depth = 0
    for number, step in enumerate(way.steps):
        node = step.node
        if any(node.path == earlier.node.path for earlier in way.steps[:number]):
            continue
        name = node.path.rsplit("/", 1)[-1] or "/"
        pointing = f" -> {node.target}" if node.target else ""
        branch = "   " * (depth - 1) + "└─ " if depth else ""
        owner = f"{words.user(node.uid)}:{words.group(node.gid)}"
        rows.append((f"{branch}{name}{pointing}", owner, words.mode(node), words.acl(node)))
        depth += 1
    lines = _table(rows)
    if way.error:
        lines.append(f"  the walk ends here: {words.because(_ended(way))}")
    return lines


def _members_of(node: Node | None) -> list[str]:
    """Who is in the socket's group: they connect, once they have logged in or restarted."""
    if node is None or node.gid == 0 or node.kind != "socket":
        return []
    return [f"  group {words.group(node.gid)}: {', '.join(words.members(node.gid)) or 'nobody'}"]


def _ended(way: Way) -> Verdict:
    return Verdict(False, None, 0, "error", error=way.error)


def _yes(answer: Answer) -> str:
    return {True: "yes", False: "no", None: "?"}[answer.allowed]


def _reason(answer: Answer) -> str:
    if answer.proof is None:
        return answer.because
    outcome = "connected" if not answer.proof else errno.errorcode.get(answer.proof, "?")
    if answer.differs:
        return f"{answer.because}; BUT PROVEN OTHERWISE: {outcome}"
    return f"{answer.because}; proven: {outcome}"


def _members(team: Team) -> str:
    count = len(team.pids)
    who = words.user(team.identity.uid)
    names = ", ".join(team.names[:3]) + (" …" if len(team.names) > 3 else "")
    return f"{count} {'process' if count == 1 else 'processes'} ({names}) as {who}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


# As JSON


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values; the names of docs/who.md."""
    return {
        "address": report.address,
        "listening": report.listener is not None,
        "waiting": report.listener.waiting if report.listener else None,
        "backlog": report.listener.backlog if report.listener else None,
        "error": errno.errorcode.get(report.way.error) if report.way else None,
        "members": words.members(report.way.end.gid) if report.way and report.way.end else [],
        "way": [_node(step.node) for step in report.way.steps] if report.way else [],
        "accounts": [
            {"name": person.name, "why": person.why, **_answer(answer)}
            for person, answer in report.people
        ],
        "processes": [
            {
                "unit": team.unit or None,
                "names": list(team.names),
                "pids": list(team.pids),
                "uid": team.identity.uid,
                "gid": team.identity.gid,
                "groups": sorted(team.identity.groups),
                **_answer(team.answer),
                "goes_round": goes_round(report, team),
            }
            for team in report.teams
        ],
    }


def _node(node: Node) -> dict[str, Any]:
    return {
        "path": node.path,
        "kind": node.kind,
        "owner": words.user(node.uid),
        "group": words.group(node.gid),
        "mode": f"{node.mode:04o}",
        "acl": words.acl(node) or None,
        "target": node.target or None,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    verdict = answer.verdict
    return {
        "allowed": answer.allowed,
        "decided_by": verdict.node.path if verdict and verdict.node else None,
        "class": verdict.by if verdict else None,
        "because": answer.because,
        "proof": None if answer.proof is None else errno.errorcode.get(answer.proof, "connected"),
        "differs": answer.differs,
    }
