"""Refuse a file that root must trust if users other than root could change it.

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
"""The largest file that is read, in bytes."""


def refuse_unfit(path: Path) -> None:
    """Raise Error if users other than root and the calling user can change what `path` says.

    Also for a file that would block the reader: a FIFO, a device, an endless file.
    """
    with suppress(OSError):  # reading it will fail with the same error
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise Error(f"{path}: not a regular file, nor a link to one")
        if about.st_size > LARGEST:
            raise Error(f"{path}: it has {about.st_size} bytes, and the limit is {LARGEST}")
    for node, why in others_on(str(path.absolute())):
        fix = f"chown root:root {node.path} && chmod go-w {node.path}"
        raise Error(f"{path}: users other than root can change {node.path} ({why}): {fix}")


def others_on(path: str) -> Iterator[tuple[Node, str]]:
    """Yield each part of the absolute `path`, links followed, that others can change, and who can.

    Others are users other than root and the calling user. Parts that do not exist yet are left
    out. Raises Error as `walk` does, if a directory can't be searched.
    """
    for step in walk(path, need=READ).steps:
        if why := changed_by(step.node):
            yield step.node, why


def changed_by(node: Node, *, sticky: bool = True) -> str:
    """Return who besides root can change the file or directory; "": nobody.

    sticky: whether to accept a sticky directory. There only the owner can replace a file
    (inode(7)), but anyone can create one.
    """
    if node.uid not in (0, os.geteuid()):
        return f"uid {node.uid} owns it"
    if node.kind == "symlink":
        return ""
    if sticky and node.kind == "directory" and node.mode & stat.S_ISVTX:
        return ""
    if node.mode & 0o002:
        return "everyone can write to it"
    if node.mode & 0o020 and (node.gid or node.acl):  # with an ACL these bits are its mask: acl(5)
        return "its ACL lets other users write" if node.acl else f"gid {node.gid} can write to it"
    return ""
