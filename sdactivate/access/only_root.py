"""Refuse a file that root must trust if other users than root could change it.

A user who can write a file of sites can have systemd run any program as any user. So can a user
who can replace that file, or a directory or link on the way to it.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sdactivate.access.path_walk import walk
from sdactivate.access.permissions import READ, Node
from sdactivate.errors import Error

LARGEST = 16 << 20
"""Bytes of the largest file that is read."""


def refuse_unfit(path: Path) -> None:
    """Raise Error where others than root, or than who runs this, can change what `path` says.

    Also for what would block the reader: a FIFO, a device, a file without end.
    """
    with suppress(OSError):  # reading it will say the same
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise Error(f"{path}: not a regular file, nor a link to one")
        if about.st_size > LARGEST:
            raise Error(f"{path}: it has {about.st_size} bytes, and the limit is {LARGEST}")
    for node, why in others_on(str(path.absolute())):
        fix = f"chown root:root {node.path} && chmod go-w {node.path}"
        raise Error(f"{path}: other users than root can change {node.path} ({why}): {fix}")


def others_on(path: str) -> Iterator[tuple[Node, str]]:
    """Yield each part of the absolute `path`, links followed, that others can change, and who can.

    Others than root and than who runs this. What is not there yet has nobody. Raises Error as
    `walk` does, where a directory can't be searched.
    """
    for step in walk(path, need=READ).steps:
        if why := changed_by(step.node):
            yield step.node, why


def changed_by(node: Node, *, sticky: bool = True) -> str:
    """Return who besides root can change the file or directory; "": nobody.

    sticky: whether a sticky directory is excepted. There only an owner can put something else in a
    file's place (inode(7)), but anyone can make a file.
    """
    if node.uid not in (0, os.geteuid()):
        return f"uid {node.uid} owns it"
    if node.kind == "symlink":
        return ""
    if sticky and node.kind == "directory" and node.mode & stat.S_ISVTX:
        return ""
    if node.mode & 0o002:
        return "everyone can write to it"
    if node.mode & 0o020 and (node.gid or node.acl):  # the bits of a list's mask, too: acl(5)
        return "its ACL lets other users write" if node.acl else f"gid {node.gid} can write to it"
    return ""
