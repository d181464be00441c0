"""The front, and who else is at the door, on the running system."""

import re
from collections.abc import Iterator

from sdactivate.doctor import words
from sdactivate.doctor.access import Verdict, judge
from sdactivate.doctor.bypass import goes_round
from sdactivate.doctor.finding import Advice, Case, Command, Hit, Lines, Remedy, restart
from sdactivate.doctor.live import Facts, Here

_WRITE_OF_GROUP = 0o020


def _refusals(case: Case) -> Iterator[tuple[str, str, Here, Verdict, bool]]:
    """Yield unit, path, front and verdict where no front at all gets through to a path.

    The last says whether a running process was judged, or an account where none runs.
    """
    facts = case.running
    running = [here for here in facts.fronts if here.workers]
    for unit, path in facts.paths():
        judged = [
            (here, verdict)
            for here in running or facts.fronts
            if (verdict := _of_front(facts, path, here)) is not None
        ]
        if not any(verdict.allowed for _, verdict in judged):
            for here, verdict in judged:
                yield unit, path, here, verdict, bool(here.workers)


def _of_front(facts: Facts, path: str, here: Here) -> Verdict | None:
    if here.workers:
        verdicts = [facts.verdict(path, process) for process in here.workers]
        known = [verdict for verdict in verdicts if verdict is not None]
        return next((it for it in known if not it.allowed), known[0]) if known else None
    identity = facts.account(here)
    return judge(facts.way(path), identity) if identity else None


def _is_elsewhere(facts: Facts, path: str, verdict: Verdict) -> bool:
    return verdict.by == "error" and not facts.way(path).error


def _lacks_only_arestart(facts: Facts, path: str, here: Here, runs: bool) -> bool:
    identity = facts.account(here)
    return runs and identity is not None and judge(facts.way(path), identity).allowed


def front_refused(case: Case) -> Iterator[Hit]:
    facts = case.running
    for unit, path, here, verdict, runs in _refusals(case):
        if (
            facts.way(path).error
            or _is_elsewhere(facts, path, verdict)
            or verdict.by == "mask"
            or _lacks_only_arestart(facts, path, here, runs)
        ):
            continue  # SDA101, SDA106, SDA103, SDA104
        who = f"{here.front.title} ({here.packaging.user})"
        yield Hit(
            here.packaging.unit,
            f"{who} can't connect to {path}: {words.because(verdict)}",
            _opens(unit, here, verdict),
        )


def _opens(unit: str, here: Here, verdict: Verdict) -> Remedy:
    node = verdict.node
    assert node is not None
    group = words.group(node.gid)
    if node.kind == "directory":
        entry = f"g:{here.packaging.group}:x"
        return Command(("setfacl", "-m", entry, node.path))
    if verdict.by == "group" and not node.mode & _WRITE_OF_GROUP:
        return Lines(unit, "Socket", ("SocketMode=0660",))
    if group == "root" or here.front.drops_groups:
        return Lines(unit, "Socket", (f"SocketGroup={here.packaging.group}", "SocketMode=0660"))
    if verdict.by == "others":
        return Command(("usermod", "-aG", group, here.packaging.user))
    return Lines(unit, "Socket", ("SocketMode=0660",))


def masked(case: Case) -> Iterator[Hit]:
    for _, path, here, verdict, _ in _refusals(case):
        if verdict.by == "mask" and verdict.node is not None:
            need = "x" if verdict.node.kind == "directory" else "rw"
            argv = ("setfacl", "-m", f"m::{need}", verdict.node.path)
            yield Hit(
                here.packaging.unit,
                f"{here.front.title} can't connect to {path}: {words.because(verdict)}",
                Command(argv, True),
            )


def group_after_start(case: Case) -> Iterator[Hit]:
    facts = case.running
    for _, path, here, verdict, runs in _refusals(case):
        if verdict.by != "error" and _lacks_only_arestart(facts, path, here, runs):
            node = verdict.node
            group = words.group(node.gid) if node else ""
            yield Hit(
                here.packaging.unit,
                f"{here.packaging.user} is in group {group} now, but "
                f"{here.front.title}'s processes are older and aren't: they can't connect to "
                f"{path}",
                restart(here.packaging.unit),
            )


def front_elsewhere(case: Case) -> Iterator[Hit]:
    facts = case.running
    for _, path, here, verdict, runs in _refusals(case):
        if runs and _is_elsewhere(facts, path, verdict):
            chroot = here.packaging.chroot
            place = f"{chroot}{path}" if chroot else f"/run/{case.deployment.name}.sock"
            yield Hit(
                here.packaging.unit,
                f"{here.front.title}'s processes don't see {path}: {_why_elsewhere(here)}",
                Advice(f"ListenStream={place} in the socket unit"),
            )


def _why_elsewhere(here: Here) -> str:
    if here.packaging.chroot:
        return f"their root is {here.packaging.chroot}"
    return "they have a file system of their own (PrivateTmp=, or another mount namespace)"


def front_log(case: Case) -> Iterator[Hit]:
    facts = case.running
    for unit, path in facts.paths():
        for here in facts.fronts:
            failures = here.front.failures
            kinds = (
                (failures.missing, "there was no socket"),
                (failures.forbidden, "it was not allowed to"),
                (failures.refused, "nothing listened behind the file"),
            )
            lines = facts.front_log(here, facts.since(unit))
            for template, meaning in kinds:
                hits = [line for line in lines if says(line, template, path)]
                if "SOCKET" not in template and here.front.name not in ("apache",):
                    continue  # the same words for every socket and every failure
                if hits:
                    yield Hit(
                        here.packaging.unit,
                        f"{here.front.title} could not connect to "
                        f"{path} {len(hits)} times in the last hour, because {meaning}: its "
                        f"clients got {failures.status}. The last: {hits[-1].strip()}",
                        Advice(
                            "the findings above say what is wrong now; where there is "
                            "none, it is over"
                        ),
                    )


def says(line: str, template: str, path: str) -> bool:
    """Whether a front's line is the failure of `template`, and about the socket at `path`.

    Longer paths that begin like it are another socket's.
    """
    about = re.search(re.escape(path) + r"(?![\w./-]*[\w/-])", line)
    return about is not None and template.replace("SOCKET", path) in line


def others_connect(case: Case) -> Iterator[Hit]:
    facts = case.running
    if _checks_its_peers(case):
        return
    own = {unit.name for unit in case.deployment.units}
    running = [here.packaging.unit for here in facts.fronts if here.workers]
    for unit, path in facts.paths():
        found: dict[str, list[str]] = {}
        for process in facts.processes if facts.listener(path) else ():
            verdict = facts.verdict(path, process)
            if verdict and goes_round(process.unit, process.identity, verdict, own):
                how = f"{words.user(process.identity.uid)}: {words.because(verdict)}"
                found.setdefault(process.unit, []).append(how)
        for service, ways in found.items():
            yield Hit(
                service,
                f"{len(ways)} of its processes can connect to {path} as {ways[0]}, and go "
                "round the front's authentication",
                _shut(case, unit, running),
            )


def _checks_its_peers(case: Case) -> bool:
    return case.service is not None and any(
        "ALLOW_PEER=" in entry.value.upper().replace("-", "_")
        and not entry.value.rstrip("\"'").endswith("=")
        for key in ("Environment", "ExecStart")
        for entry in case.service.entries_of(key)
    )


def _shut(case: Case, unit: str, fronts: list[str]) -> Remedy:
    ours = case.service is not None and any(
        "sdactivate" in entry.value for entry in case.service.entries_of("ExecStart")
    )
    if ours and case.service is not None and fronts:
        rules = ",".join(f"unit:{front}" for front in fronts)
        line = f"Environment=SDACTIVATE_ALLOW_PEER={rules}"
        return Lines(case.service.name, "Service", (line,))
    return Advice(
        f"give {unit} a group that only the front is in, or let the other service run "
        "as a user of its own"
    )
