"""Who besides root can change what a path leads to: by writing it, or by putting a link there."""

import os
import stat
from collections.abc import Iterator

from sdactivate.access.path_walk import walk
from sdactivate.access.permissions import READ, Node


def others_on(path: str) -> Iterator[tuple[Node, str]]:
    """Yield each part of the absolute `path`, links followed, that others can change, and who can.

    Others than root and than who runs this. What is not there yet has nobody. Raises Error as
    `walk` does, where a directory can't be searched.
    """
    for step in walk(path, need=READ).steps:
        if why := _changed_by(step.node):
            yield step.node, why


def _changed_by(node: Node) -> str:
    """Who besides root can change the file or directory; "": nobody."""
    if node.uid not in (0, os.geteuid()):
        return f"uid {node.uid} owns it"
    # In a sticky directory only an owner can put something else in a file's place: inode(7).
    if node.kind == "symlink" or (node.kind == "directory" and node.mode & stat.S_ISVTX):
        return ""
    if node.mode & 0o002:
        return "everyone can write to it"
    if node.mode & 0o020 and (node.gid or node.acl):  # the bits of a list's mask, too: acl(5)
        return f"gid {node.gid} can write to it" if not node.acl else "its ACL lets others write"
    return ""
