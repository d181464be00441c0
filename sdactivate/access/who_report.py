"""Format the result of `who` as text and as JSON."""

import errno
import os
from collections.abc import Sequence
from typing import Any

from sdactivate.access import words
from sdactivate.access.permissions import Node, Way
from sdactivate.access.security_modules import sentence
from sdactivate.access.who import Answer, Report, UnitProcesses, bypasses_front
from sdactivate.terminal import escape

_ANEW = "Stop its service, then `systemctl restart` its socket unit (`systemctl list-sockets`)"


_QUESTIONS = {"file": "read it", "directory": "reach what is in it"}
_PROVEN = {"file": "read", "directory": "entered"}


def as_text(report: Report) -> str:
    """Return the report as text: the path as a tree, then who may connect."""
    address = escape(report.address)
    lines = [f"{address}{_listening(report)}", ""]
    if report.way is None:
        verdicts = dict.fromkeys(answer.because for _, answer in report.people)
        return "\n".join([*lines, *verdicts, *_not_asked(report)]) + "\n"
    lines += [*_tree(report.way), *_members_of(report.way.end), ""]
    done = _done(report)
    if report.people:
        lines += [
            "Accounts",
            *_table([(_yes(a), p.name, p.why, _reason(a, done)) for p, a in report.people]),
            "",
        ]
    by_root = [row for row in report.processes if row.identity.override and row.answer.allowed]
    others = [row for row in report.processes if row not in by_root]
    if report.processes:
        lines.append("Running processes")
        rows = [
            (
                _yes(t.answer),
                t.unit or "no unit",
                _members(t),
                _reason(t.answer, done)
                + ("; it can bypass the front" if bypasses_front(report, t) else ""),
            )
            for t in others
        ]
        if by_root:
            count = sum(len(row.pids) for row in by_root)
            units = len({row.unit for row in by_root})
            rows.append(
                ("yes", "root's", f"{count} in {units} units", "CAP_DAC_OVERRIDE passes everywhere")
            )
        lines += [*_table(rows), ""]
    if said := _not_asked(report):
        lines += [*said, ""]
    return "\n".join(lines)


def _not_asked(report: Report) -> list[str]:
    said = sentence(report.not_asked) if report.says_yes else ""
    return [said] if said else []


def _listening(report: Report) -> str:
    listener, end = report.listener, report.way.end if report.way else None
    if report.address[:1] not in ("/", "@"):
        return ""
    if listener:
        damage = f"; {listener.damage}. {_ANEW}" if listener.damage else ""
        return f": listening, {listener.waiting} of {listener.backlog} waiting{damage}"
    if end and end.kind in _QUESTIONS:
        return f": a {end.kind}, and who can {_QUESTIONS[end.kind]}"
    what = f"not a socket but a {end.kind}" if end and end.kind != "socket" else ""
    return ": nothing listens here" + (f", {what}" if what else "")


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
        lines.append(f"  the walk ends here: {os.strerror(way.error)}")
    return lines


def _members_of(node: Node | None) -> list[str]:
    """Who is in the socket's group: they can connect after their next login or restart."""
    if node is None or node.gid == 0 or node.kind != "socket":
        return []
    return [f"  group {words.group(node.gid)}: {', '.join(words.members(node.gid)) or 'nobody'}"]


def _yes(answer: Answer) -> str:
    return {True: "yes", False: "no", None: "?"}[answer.allowed]


def _done(report: Report) -> str:
    """The word for what a proof did if nothing refused it."""
    end = report.way.end if report.way else None
    return _PROVEN.get(end.kind if end else "", "connected")


def _reason(answer: Answer, done: str) -> str:
    if answer.proof is None:
        return answer.because
    outcome = done if not answer.proof else errno.errorcode.get(answer.proof, "?")
    if answer.differs:
        return f"{answer.because}; BUT PROVEN OTHERWISE: {outcome}"
    return f"{answer.because}; proven: {outcome}"


def _members(row: UnitProcesses) -> str:
    count = len(row.pids)
    who = words.user(row.identity.uid)
    names = ", ".join(row.names[:3]) + (" …" if len(row.names) > 3 else "")
    return f"{count} {'process' if count == 1 else 'processes'} ({names}) as {who}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    rows = [tuple(map(escape, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


# As JSON


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values, with the keys of docs/who.md."""
    done = _done(report)
    return {
        "address": report.address,
        "listening": report.listener is not None,
        "waiting": report.listener.waiting if report.listener else None,
        "backlog": report.listener.backlog if report.listener else None,
        "damage": (report.listener.damage if report.listener else "") or None,
        "error": errno.errorcode.get(report.way.error) if report.way else None,
        "not_asked": list(report.not_asked),
        "members": words.members(report.way.end.gid) if report.way and report.way.end else [],
        "way": [_node(step.node) for step in report.way.steps] if report.way else [],
        "accounts": [
            {"name": person.name, "why": person.why, **_answer(answer, done)}
            for person, answer in report.people
        ],
        "processes": [
            {
                "unit": row.unit or None,
                "names": list(row.names),
                "pids": list(row.pids),
                "uid": row.identity.uid,
                "gid": row.identity.gid,
                "groups": sorted(row.identity.groups),
                **_answer(row.answer, done),
                "bypasses_front": bypasses_front(report, row),
                "goes_round": bypasses_front(report, row),  # 0.1.0's name, deprecated
            }
            for row in report.processes
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


def _answer(answer: Answer, done: str) -> dict[str, Any]:
    verdict = answer.verdict
    return {
        "allowed": answer.allowed,
        "decided_by": verdict.node.path if verdict and verdict.node else None,
        "class": verdict.by if verdict else None,
        "because": answer.because,
        "proof": None if answer.proof is None else errno.errorcode.get(answer.proof, done),
        "differs": answer.differs,
    }
