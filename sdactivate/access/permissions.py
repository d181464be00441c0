"""Decide who may connect: the kernel's permission check on what `path_walk` has read.

connect(2) resolves the path of a unix socket and needs write permission on the socket (unix(7)).
The kernel checks three things, in the order of the walk, and the first refusal decides:

1. search (x) on every directory in which a name is looked up, including `..` and the directories
   that a symbolic link leads through (path_resolution(7));
2. that a symbolic link as the *last* component may be followed: in a world-writable sticky
   directory only by the link's owner, or if the directory's owner made the link
   (fs.protected_symlinks, proc(5));
3. write (w) on the socket.

Each check uses *one* class of a file's permissions, never the sum of several (acl(5),
"Access check algorithm"): the owner's, else the named user's, else the groups', else the
others'. An owner without w is refused even if everyone else has it. If there is an access
control list, its mask limits what named users and all groups have.

Linux has a shortcut that acl(5) doesn't mention (fs/namei.c, acl_permission_check): it does not
read the list if the mode's group bits, which show the mask, are all clear. A named user is then
treated as one of the others.

A capability may still grant what the permissions refuse (capabilities(7)): CAP_DAC_OVERRIDE grants
both w and x, CAP_DAC_READ_SEARCH grants x on directories; in a user namespace only for files whose
owner and group are mapped there (user_namespaces(7)).

Everything here is a pure function of what `path_walk` has read.
"""

from collections.abc import Iterable
from typing import NamedTuple

READ, WRITE, SEARCH = 4, 2, 1

_STICKY_AND_OPEN = 0o1002


class Range(NamedTuple):
    """Ids mapped in a user namespace: `size` of them from `first` on, as seen from here."""

    first: int
    size: int


class Identity(NamedTuple):
    """The ids that the kernel compares, and the capabilities that bypass the comparison.

    `groups` are the supplementary groups. `override` is CAP_DAC_OVERRIDE, `search` is
    CAP_DAC_READ_SEARCH, both effective. `uids` and `gids` are those mapped in the user
    namespace, None for the initial one.
    """

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    override: bool = False
    search: bool = False
    uids: tuple[Range, ...] | None = None
    gids: tuple[Range, ...] | None = None

    def is_in(self, gid: int) -> bool:
        """Whether the kernel counts it as a member of group `gid`."""
        return gid == self.gid or gid in self.groups

    def rules_over(self, node: "Node") -> bool:
        """Whether its capabilities apply to `node`."""
        return _known(node.uid, self.uids) and _known(node.gid, self.gids)


def _known(number: int, ranges: Iterable[Range] | None) -> bool:
    return ranges is None or any(r.first <= number < r.first + r.size for r in ranges)


class Acl(NamedTuple):
    """The entries of an access control list that the mode doesn't show (acl(5))."""

    users: tuple[tuple[int, int], ...]  # named users: uid, permissions
    group: int  # the owning group, before the mask
    groups: tuple[tuple[int, int], ...]  # named groups: gid, permissions
    mask: int = 7


class Node(NamedTuple):
    """One file on the way. `kind` is a readable word: directory, symlink, socket, file …"""

    path: str
    kind: str
    uid: int
    gid: int
    mode: int  # the permission bits, with setuid, setgid and sticky
    acl: Acl | None = None
    target: str = ""  # where a symlink points to


class Step(NamedTuple):
    """One check of the walk: does `node` grant `need`?

    For a symlink `need` is 0. If it is the last component and fs.protected_symlinks is on,
    `parent` is the directory it lies in.
    """

    node: Node
    need: int
    parent: Node | None = None


class Way(NamedTuple):
    """The whole walk, and the error it ends with for everyone (0: it reaches `end`)."""

    path: str
    steps: tuple[Step, ...]
    error: int = 0

    @property
    def end(self) -> Node | None:
        """What the path leads to; None for nothing."""
        return self.steps[-1].node if self.steps and not self.error else None


class Verdict(NamedTuple):
    """Yes or no, and the one path component that decides.

    `by` names the class that decided: owner, user (named in the ACL), group, others, mask (a
    grant that the mask took away), capability, link (a symlink that may not be followed) or
    error (`error` has the number: the walk ends there for everyone). `whose` is the uid or gid
    of that class, if it has one. `has` is the permissions of that class.
    """

    allowed: bool
    node: Node | None
    need: int
    by: str
    whose: int | None = None
    has: int = 0
    error: int = 0


class _Answer(NamedTuple):
    granted: bool
    by: str
    whose: int | None
    has: int


def judge(way: Way, identity: Identity) -> Verdict:
    """Return whether `identity` may connect by `way`, and what decides it."""
    verdict = Verdict(False, None, 0, "error", error=way.error)
    for step in way.steps:
        if step.parent is not None and not _may_follow(step, identity):
            return Verdict(False, step.node, 0, "link", step.node.uid)
        answer = permission(step.node, step.need, identity)
        verdict = Verdict(answer.granted, step.node, step.need, answer.by, answer.whose, answer.has)
        if not answer.granted:
            return verdict
    if way.error:
        return verdict._replace(allowed=False, by="error", whose=None, error=way.error)
    return verdict


def _may_follow(step: Step, identity: Identity) -> bool:
    link, parent = step.node, step.parent
    assert parent is not None
    return (
        parent.mode & _STICKY_AND_OPEN != _STICKY_AND_OPEN
        or identity.uid == link.uid
        or parent.uid == link.uid
    )


def permission(node: Node, need: int, identity: Identity) -> _Answer:
    """Return whether `node` grants `need` to `identity`, and which class decides."""
    answer = _by_class(node, need, identity)
    if answer.granted or not identity.rules_over(node):
        return answer
    if identity.override or (identity.search and node.kind == "directory" and need == SEARCH):
        return _Answer(True, "capability", None, need)
    return answer


def _by_class(node: Node, need: int, identity: Identity) -> _Answer:
    owner, group, others = node.mode >> 6 & 7, node.mode >> 3 & 7, node.mode & 7
    if identity.uid == node.uid:
        return _Answer(need & ~owner == 0, "owner", node.uid, owner)
    if node.acl is not None and group:
        return _by_list(node, node.acl, need, identity)
    if identity.is_in(node.gid):
        return _Answer(need & ~group == 0, "group", node.gid, group)
    return _Answer(need & ~others == 0, "others", None, others)


def _by_list(node: Node, acl: Acl, need: int, identity: Identity) -> _Answer:
    def masked(by: str, whose: int, has: int) -> _Answer:
        hidden = need & ~has == 0 and need & ~acl.mask != 0
        granted = need & ~(has & acl.mask) == 0
        return _Answer(granted, "mask" if hidden else by, whose, has & acl.mask)

    for uid, has in acl.users:
        if uid == identity.uid:
            return masked("user", uid, has)
    entries = ((node.gid, acl.group), *acl.groups)
    mine = [(gid, has) for gid, has in entries if identity.is_in(gid)]
    if not mine:
        others = node.mode & 7
        return _Answer(need & ~others == 0, "others", None, others)
    # The first group that grants decides. If none does, a member of any of them is refused.
    gid, has = next(((gid, has) for gid, has in mine if need & ~has == 0), mine[0])
    return masked("group", gid, has)
