"""Find out who can connect to one address or read one file: accounts, processes, and why."""

import errno
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sdactivate.access import bypass, words
from sdactivate.access.accounts import Person
from sdactivate.access.connect import prove, reached
from sdactivate.access.path_walk import NEEDS, walk
from sdactivate.access.permissions import Identity, Verdict, Way, judge
from sdactivate.access.processes import Process
from sdactivate.access.security_modules import in_force
from sdactivate.access.sock_diag import Listener, behind
from sdactivate.errors import Error

_SUN_PATH = 107  # unix(7): 108 with the NUL


class Answer(NamedTuple):
    """Whether a user or process may connect: by the permissions and, if tried, as proven.

    `verdict` is None if the path can't be examined from here (`because` says why).
    """

    verdict: Verdict | None
    because: str
    proof: int | None = None

    @property
    def allowed(self) -> bool | None:
        """True, False, or None if unknown."""
        return self.verdict.allowed if self.verdict else None

    @property
    def differs(self) -> bool:
        """Whether the proof contradicts the verdict."""
        return (
            self.proof is not None
            and self.verdict is not None
            and (self.verdict.allowed != reached(self.proof))
        )


class UnitProcesses(NamedTuple):
    """The processes of one unit that get the same answer."""

    unit: str
    names: tuple[str, ...]
    pids: tuple[int, ...]
    identity: Identity
    answer: Answer


class Report(NamedTuple):
    """Everything that `who` reports about one address."""

    address: str
    way: Way | None  # None: the address has no file, and so no permissions
    listener: Listener | None
    people: tuple[tuple[Person, Answer], ...]
    processes: tuple[UnitProcesses, ...]
    own: str = ""  # the service that serves it, if known
    not_asked: tuple[str, ...] = ()  # security modules that may still refuse a "yes"

    @property
    def says_yes(self) -> bool:
        """Whether anyone may connect; to an address without a file everyone may."""
        answers = [answer for _, answer in self.people] + [row.answer for row in self.processes]
        return self.way is None or any(answer.allowed for answer in answers)

    @property
    def differs(self) -> bool:
        """Whether any proof contradicts its verdict."""
        answers = [answer for _, answer in self.people] + [row.answer for row in self.processes]
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

    If the path leads to a file, the question is who can read it, and for a directory who can
    reach what is in it. `own` is the service that serves it. With `proving`, each identity really
    connects once (or reads, or enters). Raises Error if the walk or the proof needs root.
    """
    if not address.startswith("/"):
        listener = behind(address) if address.startswith("@") else None
        everyone = Answer(None, _NO_FILE["@" if address.startswith("@") else "tcp"])
        open_to = tuple((person, everyone) for person in people)
        return Report(address, None, listener, open_to, (), not_asked=in_force())
    asker = _Asker(address, proving)
    way = asker.way("/")  # first of all, since it raises Error if a mount does not answer
    listener = behind(address)
    asked = tuple((person, asker.ask(person.identity)) for person in people)
    rows = tuple(_by_unit(processes, asker))
    return Report(address, way, listener, asked, rows, own, in_force())


_NO_FILE = {
    "@": "an abstract address has no owner or mode: every process in this network namespace "
    "can connect (unix(7))",
    "tcp": "a TCP port has no owner or mode: every user of this host can connect",
}


class _Asker:
    """Answer who may access one path. Walk each root once, test each identity once."""

    def __init__(self, path: str, proving: bool) -> None:
        self.path, self.proving = path, proving
        self.ways: dict[str, Way] = {}
        self.proofs: dict[tuple[Identity, object], int] = {}

    def way(self, root: str) -> Way:
        way = walk(self.path, root, need=None)
        is_socket = way.end is None or way.end.kind not in NEEDS
        if is_socket and len(os.fsencode(self.path)) > _SUN_PATH:
            return Way(self.path, (), errno.ENAMETOOLONG)
        return way

    def ask(self, identity: Identity, root: str = "/", view: object = None) -> Answer:
        key = str(view) if root != "/" else "/"
        if key not in self.ways:
            self.ways[key] = self.way(root)
        verdict = judge(self.ways[key], identity)
        where = "" if key == "/" else " (in its own view of the file system)"
        return Answer(verdict, words.because(verdict) + where, self._proof(identity, root, key))

    def _proof(self, identity: Identity, root: str, key: str) -> int | None:
        if not self.proving or identity.uids is not None:  # a user namespace can't be entered
            return None
        if (identity, key) not in self.proofs:
            end = self.ways[key].end
            self.proofs[identity, key] = prove(
                self.path, identity, root, end.kind if end else "socket"
            )
        return self.proofs[identity, key]


def _by_unit(processes: Sequence[Process], asker: _Asker) -> Iterable[UnitProcesses]:
    same: dict[tuple[str, Identity, Answer], list[Process]] = {}
    for process in processes:
        try:
            if process.view is None:
                why = "it does not answer" if os.geteuid() == 0 else "run as root"
                raise Error(f"can't examine its root directory: {why}")
            answer = asker.ask(process.identity, process.root, process.view)
        except Error as error:
            answer = Answer(None, str(error))
        except OSError:  # it has exited
            continue
        same.setdefault((process.unit, process.identity, answer), []).append(process)
    for (unit, identity, answer), members in same.items():
        names = tuple(sorted({process.name for process in members}))
        pids = tuple(process.pid for process in members)
        yield UnitProcesses(unit, names, pids, identity, answer)


def bypasses_front(report: Report, row: UnitProcesses) -> bool:
    """Whether a unit's processes can bypass the front and connect to the application."""
    if report.way and report.way.end and report.way.end.kind in NEEDS:
        return False
    return bypass.bypasses_front(row.unit, row.identity, row.answer.verdict, (report.own,))
