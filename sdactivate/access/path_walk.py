"""Walk to a path as the kernel does, and read each directory, link, mode and ACL on the way.

Nothing is opened: lstat(2), readlink(2) and the ACL's extended attribute are enough. The root can
be another process's (/proc/PID/root); its mounts and chroot then apply to the walk.
"""

import errno
import os
import stat
import struct

from sdactivate import mounts
from sdactivate.access.permissions import READ, SEARCH, WRITE, Acl, Node, Step, Way
from sdactivate.errors import Error

_MAX_LINKS = 40  # path_resolution(7)
_ST_NOSYMFOLLOW = 0x2000  # statvfs(3), since Linux 5.10; Python has no name for it
_PROTECTED_SYMLINKS = "/proc/sys/fs/protected_symlinks"

_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
    stat.S_IFREG: "file",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}

NEEDS = {"file": READ, "directory": SEARCH}
"""The permission to check if the path ends at a file (read it) or a directory (search it)."""

# linux/posix_acl_xattr.h: a version, then entries of tag, permissions, id.
_ACL_VERSION = 2
_ENTRY = struct.Struct("<HHI")
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10


def parse_acl(raw: bytes) -> Acl:
    """Return the ACL that the attribute system.posix_acl_access holds.

    Raises ValueError if it can't be parsed: another version, or truncated.
    """
    if len(raw) < 4 or (len(raw) - 4) % _ENTRY.size:
        raise ValueError(f"an access control list of {len(raw)} bytes can't be read")
    if (version := int.from_bytes(raw[:4], "little")) != _ACL_VERSION:
        raise ValueError(f"an access control list of version {version} can't be read")
    users, groups, group, mask = [], [], 0, 7
    for tag, permissions, number in _ENTRY.iter_unpack(raw[4:]):
        if tag == _USER:
            users.append((number, permissions))
        elif tag == _GROUP:
            groups.append((number, permissions))
        elif tag == _GROUP_OBJ:
            group = permissions
        elif tag == _MASK:
            mask = permissions
    return Acl(tuple(users), group, tuple(groups), mask)


def read_node(real: str, shown: str) -> Node:
    """Return the file at `real` as a Node named `shown`. Raises OSError as lstat(2) does."""
    status = os.lstat(real)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "file")
    target = os.readlink(real) if kind == "symlink" else ""
    return Node(
        shown,
        kind,
        status.st_uid,
        status.st_gid,
        stat.S_IMODE(status.st_mode),
        None if kind == "symlink" else _acl(real),
        target,
    )


def _acl(real: str) -> Acl | None:
    try:
        return parse_acl(os.getxattr(real, "system.posix_acl_access", follow_symlinks=False))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return None
        raise


def walk(path: str, root: str = "/", need: int | None = WRITE) -> Way:
    """Return the way to the absolute `path`, as a process whose root is `root` sees it.

    `need` is the permission needed on the last component: connect(2) needs w, execve(2) and
    chdir(2) need x. None: what NEEDS says for its kind, and otherwise w.

    A walk that ends early (nothing there, a loop of links) is a Way with that error and the
    steps up to it. Raises Error if `path` is not absolute, if this process can't search a
    directory on the way, or if its file system fails or does not answer (`mounts`): the result
    would be uncertain. Raises FileNotFoundError or ProcessLookupError if there is no `root`.
    """
    if not path.startswith("/"):
        raise Error(f"{path!r}: not an absolute path")
    if "\0" in path:
        return Way(path, (), errno.EINVAL)
    found = _Walk(root.rstrip("/"))
    try:
        return found.to(path, need)
    except FileNotFoundError:  # a directory that was there a moment ago
        if not os.path.lexists(root):
            raise
        return Way(path, tuple(found.steps), errno.ENOENT)
    except ProcessLookupError:  # the process whose root it was
        raise
    except OSError as error:
        # The path as the process with this root sees it, so that equal views give equal errors.
        place = (error.filename or path).removeprefix(found.root)
        raise Error(f"{path}: {place}: {error.strerror}{_hint(error)}") from None


def _hint(error: OSError) -> str:
    if not isinstance(error, PermissionError):
        return ""
    if os.geteuid():
        return f" for uid {os.geteuid()}: run as root"
    return " even for root: another user's file system (FUSE) or another host's (NFS)"


class _Walk:
    def __init__(self, root: str) -> None:
        self.root = root
        self.mounts = mounts.seen_from(root or "/")
        self.protected = _protected_symlinks()
        self.steps: list[Step] = []

    def to(self, path: str, need: int | None) -> Way:
        here: list[str] = []  # the current directory's components, from the root
        pending = _components(path)
        must_be_directory = path.endswith("/")
        links = 0
        node = self._node(here)
        while pending:
            if node.kind != "directory":
                return Way(path, tuple(self.steps), errno.ENOTDIR)
            parent = node
            self.steps.append(Step(parent, SEARCH))
            name = pending.pop(0)
            if name in (".", ".."):
                here = here[:-1] if name == ".." else here
                node = self._node(here)
                continue
            try:
                node = self._node([*here, name])
            except (FileNotFoundError, NotADirectoryError):
                return Way(path, tuple(self.steps), errno.ENOENT)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                return Way(path, tuple(self.steps), errno.ENAMETOOLONG)
            if node.kind != "symlink":
                here = [*here, name]
                continue
            links += 1
            last = not pending
            self.steps.append(Step(node, 0, parent if last and self.protected else None))
            if links > _MAX_LINKS or self._never_followed(here):
                return Way(path, tuple(self.steps), errno.ELOOP)
            must_be_directory |= last and node.target.endswith("/")
            pending = _components(node.target) + pending
            here = [] if node.target.startswith("/") else here
            node = self._node(here)
        if must_be_directory and node.kind != "directory":
            return Way(path, tuple(self.steps), errno.ENOTDIR)
        wanted = NEEDS.get(node.kind, WRITE) if need is None else need
        self.steps.append(Step(node, wanted))
        return Way(path, tuple(self.steps))

    def _node(self, names: list[str]) -> Node:
        shown = "/" + "/".join(names)
        if (mount := self.mounts.get(shown)) and not mounts.answers(mount, self.root):
            raise TimeoutError(errno.ETIMEDOUT, f"the mount does not answer ({mount.kind})", shown)
        return read_node(self.root + shown if names else (self.root or "/") + "/.", shown)

    def _never_followed(self, directory: list[str]) -> bool:
        real = self.root + "/" + "/".join(directory)
        return bool(os.statvfs(real).f_flag & _ST_NOSYMFOLLOW)


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _protected_symlinks() -> bool:
    try:
        with open(_PROTECTED_SYMLINKS, encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False
