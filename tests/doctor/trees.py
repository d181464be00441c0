"""Random trees of directories, links, modes and ACLs with a listening socket somewhere in them."""

import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hypothesis import strategies as st

from sdactivate.access.permissions import Acl, Identity

UIDS = GIDS = (0, 20001, 20002, 20003)
BITS = st.integers(0, 7)


def encode_acl(acl: Acl, owner: int, others: int) -> bytes:
    """The extended attribute for `acl`, as linux/posix_acl_xattr.h lays it out."""
    nobody = 0xFFFFFFFF
    entries = [
        (0x01, owner, nobody),
        *((0x02, bits, uid) for uid, bits in sorted(acl.users)),
        (0x04, acl.group, nobody),
        *((0x08, bits, gid) for gid, bits in sorted(acl.groups)),
        (0x10, acl.mask, nobody),
        (0x20, others, nobody),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@dataclass(frozen=True)
class Rights:
    """Owner, group, mode and ACL of one file."""

    uid: int
    gid: int
    mode: int
    acl: Acl | None

    def give(self, path: str) -> None:
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
        if os.path.islink(path):
            return
        os.chmod(path, self.mode)
        if self.acl is not None:
            attribute = encode_acl(self.acl, self.mode >> 6 & 7, self.mode & 7)
            os.setxattr(path, "system.posix_acl_access", attribute)


def _named(ids: tuple[int, ...]) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    return st.dictionaries(st.sampled_from(ids), BITS, max_size=3).map(
        lambda entries: tuple(sorted(entries.items()))
    )


# Directories are more often open than not: a walk that always ends at the first says little.
OPEN_BITS = st.sampled_from((0o755, 0o711, 0o1777, 0o750, 0o710)) | st.integers(0, 0o1777)
SOCKET_BITS = st.sampled_from((0o660, 0o666, 0o600, 0o620)) | st.integers(0, 0o777)
ACLS = st.none() | st.builds(Acl, _named(UIDS), BITS, _named(GIDS), BITS)


def rights(modes: st.SearchStrategy[int]) -> st.SearchStrategy[Rights]:
    return st.builds(Rights, st.sampled_from(UIDS), st.sampled_from(GIDS), modes, ACLS)


@dataclass(frozen=True)
class Tree:
    """Directories one inside the other, the socket in the last, and links to it or through it.

    `links` are made in the directory of that depth, named l0, l1 …: each is (depth, target).
    `path` is what is asked.
    """

    directories: tuple[Rights, ...]
    socket: Rights
    links: tuple[tuple[int, str, Rights], ...]
    path: str


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    directories = tuple(draw(st.lists(rights(OPEN_BITS), min_size=1, max_size=4)))
    names = [f"d{depth}" for depth in range(1, len(directories))]
    links = []
    for number in range(draw(st.integers(0, 3))):
        depth = draw(st.integers(0, len(names)))
        links.append((depth, draw(_paths(names, depth, number)), draw(rights(OPEN_BITS))))
    return Tree(directories, draw(rights(SOCKET_BITS)), tuple(links), draw(_asked(names, links)))


def _paths(names: list[str], depth: int, number: int) -> st.SearchStrategy[str]:
    """Where a link in the directory of that depth leads: absolute, relative, to other links."""
    whole = "/" + "/".join(names)
    return st.sampled_from(
        [
            whole.rstrip("/") + "/s",
            whole,
            "/".join([*names[depth:], "s"]),
            "." if depth == 0 else "..",
            f"l{number - 1}" if number else "s",
            f"l{number}",  # itself
            "nowhere",
        ]
    )


def _asked(names: list[str], links: list[tuple[int, str, Rights]]) -> st.SearchStrategy[str]:
    straight = "/" + "/".join([*names, "s"])
    paths = [straight, straight + "/", straight.replace("d1", "d1/../d1/."), straight + "/x"]
    for number, (depth, _, _) in enumerate(links):
        link = "/" + "/".join([*names[:depth], f"l{number}"])
        paths += [link, link, link + "/s", link + "/", link + "/" + "/".join([*names, "s"])]
    return st.sampled_from(paths)


IDENTITIES = st.builds(
    Identity,
    st.sampled_from((*UIDS, 20004)),
    st.sampled_from((*GIDS, 20004)),
    st.frozensets(st.sampled_from(GIDS), max_size=2),
    st.sampled_from((False, False, False, True)),
    st.sampled_from((False, False, False, True)),
    st.none(),
    st.none(),
)


@contextmanager
def planted(tree: Tree) -> Iterator[str]:
    """The tree on a real file system, to be used as a root of its own."""
    root = tempfile.mkdtemp(prefix="tree-", dir="/var/tmp")
    listener = socket.socket(socket.AF_UNIX)
    try:
        places = [root]
        for depth in range(1, len(tree.directories)):
            places.append(os.path.join(places[-1], f"d{depth}"))
            os.mkdir(places[-1])
        listener.bind(end := os.path.join(places[-1], "s"))
        listener.listen(64)
        tree.socket.give(end)
        for number, (depth, target, owner) in enumerate(tree.links):
            os.symlink(target, link := os.path.join(places[depth], f"l{number}"))
            owner.give(link)
        for place, its in zip(places, tree.directories, strict=True):
            its.give(place)
        yield root
    finally:
        listener.close()
        shutil.rmtree(root)
