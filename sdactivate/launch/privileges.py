"""Drop privileges: become the application's user for good, and prove it.

The order is the only one that works: each step still needs what the next gives up.

1. The bounding set goes (needs CAP_SETPCAP): no exec can bring a capability back.
2. Supplementary groups, then group IDs, then user IDs: real, effective and saved at once,
   setresgid(2) and setresuid(2). After the last, root is gone.
3. Ambient and inheritable capabilities, which a change of user does not always clear.
4. no_new_privs: setuid programs are ordinary programs from here on.
5. The session keyring (session-keyring(7)): who has it reads root's keys, by possession and not by
   a user ID. A new one takes its place.

Then everything is read back from the kernel, and coming back is tried. What is not as it
must be is fatal, and nothing has been executed yet.
"""

import errno
import grp
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass

from sdactivate.errors import Error, UsageError
from sdactivate.launch import syscalls

_NONE = 0xFFFFFFFF  # (uid_t)-1: setresuid(2), chown(2) leave what is


class PrivilegesRemain(Error):
    """`sdactivate launch`: root's privileges could not be dropped, or some were left afterwards."""


@dataclass(frozen=True)
class Identity:
    """Who a process runs as: the IDs, and what the environment says of them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that systemd sets for User= (systemd.exec(5))."""
        return {
            "USER": self.name,
            "LOGNAME": self.name,
            "HOME": self.home,
            "SHELL": self.shell,
        }


def current() -> Identity:
    """Who this process runs as now."""
    uid, gid = os.geteuid(), os.getegid()
    groups = tuple(sorted(os.getgroups()))
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Identity(str(uid), uid, gid, groups, "/", "/bin/sh")
    return Identity(entry.pw_name, uid, gid, groups, entry.pw_dir, entry.pw_shell)


def find(text: str) -> Identity:
    """Return the identity that --run-as names: USER, or USER:GROUP, by name or number.

    The groups are those of the user in the group database, as at a log-in; a number that has no
    account needs its group said. Raises UsageError for a user or group that is not there, and for
    root itself.
    """
    user, _, group = text.partition(":")
    number = _number(user, "--run-as", text)
    entry = None
    try:
        entry = pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
    except KeyError:
        if number is None:
            raise UsageError(
                f"--run-as {text}: there is no user {user!r} here. Make one with `useradd --system "
                "--no-create-home NAME`, or give numbers: UID:GID"
            ) from None
        if not group:
            raise UsageError(
                f"--run-as {text}: no user has this number here, so give its group, too: UID:GID"
            ) from None
    uid = entry.pw_uid if entry else number or 0
    gid = group_id(group, "--run-as", text) if group else entry.pw_gid if entry else uid
    if uid == 0 or gid == 0:
        raise UsageError(
            f"--run-as {text}: that is root{'' if uid == 0 else chr(39) + 's group'}, and nothing "
            "would be given up. Name the application's own user"
        )
    if entry is None:
        return Identity(user, uid, gid, (gid,), "/", "/bin/sh")
    groups = set(os.getgrouplist(entry.pw_name, gid)) - {0}
    return Identity(entry.pw_name, uid, gid, tuple(sorted(groups)), entry.pw_dir, entry.pw_shell)


def user_id(text: str, option: str) -> int:
    """Return the number of the user `text`, a name or a number. Raises UsageError."""
    if (number := _number(text, option, text)) is not None:
        return number
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise UsageError(
            f"{option} {text}: there is no user {text!r} here (`getent passwd`)"
        ) from None


def group_id(group: str, option: str, text: str = "") -> int:
    """Return the number of `group`, a name or a number, that `option` has in `text` (default:
    alone). Raises UsageError.
    """
    if (number := _number(group, option, text or group)) is not None:
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(
            f"{option} {text or group}: there is no group {group!r} here (`getent group`)"
        ) from None


def _number(name: str, option: str, text: str) -> int | None:
    """Return the ID that `name` is, None where it is a name. The last one means "no change"."""
    if not (name.isascii() and name.isdigit()):
        return None
    if (number := int(name)) >= _NONE:
        raise UsageError(f"{option} {text}: IDs end at {_NONE - 1}")
    return number


def drop(identity: Identity) -> None:
    """Turn this process into one of `identity`, without any privilege, for good.

    A process that is not root keeps its IDs, which must be `identity`'s already, and gives up
    what it has. Raises PrivilegesRemain where any step fails or does not hold.
    """
    was_root = os.geteuid() == 0
    try:
        if was_root:
            syscalls.drop_bounding_set()
            os.setgroups(identity.groups)
            os.setresgid(identity.gid, identity.gid, identity.gid)
            os.setresuid(identity.uid, identity.uid, identity.uid)
        syscalls.clear_ambient_set()
        syscalls.clear_capabilities()
        syscalls.set_no_new_privileges()
        if was_root:
            _leave_session_keyring()
    except OSError as error:
        raise PrivilegesRemain(
            f"privileges could not be dropped ({error}); nothing was started. In a container, "
            "the launcher needs CAP_SETUID, CAP_SETGID and CAP_SETPCAP"
        ) from None
    verify(identity, no_bounding_set=was_root)


def _leave_session_keyring() -> None:
    """Join a new session keyring, and make sure of it. Raises OSError and PrivilegesRemain.

    Where keyctl(2) itself is refused, as in most containers, or missing, no key can be read at
    all: there is nothing to leave.
    """
    try:
        before = syscalls.session_keyring()
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return
        before = 0  # revoked or expired: pam_keyinit(8) does that at the end of a session
    joined = syscalls.join_session_keyring()
    if joined == before or syscalls.session_keyring() != joined:
        raise PrivilegesRemain(
            f"privileges remain: session keyring {before} instead of a new one. Nothing was started"
        )


def held_groups() -> list[int]:
    """Return the groups of this process: its own and the supplementary ones."""
    return sorted({os.getegid(), *os.getgroups()})


def verify(identity: Identity, *, no_bounding_set: bool) -> None:
    """Read back from the kernel that nothing is left, and try to become root again.

    Raises PrivilegesRemain, naming what is left.
    """
    ids: tuple[tuple[str, object, object], ...] = (
        ("user IDs", os.getresuid(), (identity.uid,) * 3),
        ("group IDs", os.getresgid(), (identity.gid,) * 3),
        ("supplementary groups", held_groups(), sorted({identity.gid, *identity.groups})),
        ("file system IDs", syscalls.file_system_ids(), (identity.uid, identity.gid)),
        ("capabilities", syscalls.capabilities(), 0),
        ("ambient capabilities", syscalls.ambient_set(), []),
        ("bounding set", syscalls.bounding_set() if no_bounding_set else [], []),
        ("no_new_privs", syscalls.no_new_privileges(), True),
    )
    left = [f"{what} {found} instead of {wanted}" for what, found, wanted in ids if found != wanted]
    ways_back: tuple[tuple[str, Callable[[], None]], ...] = (
        ("setresuid", lambda: os.setresuid(0, 0, 0)),
        ("setuid", lambda: os.setuid(0)),
        ("setresgid", lambda: os.setresgid(-1, 0 if identity.gid else 1, -1)),
        ("setgroups", lambda: os.setgroups([])),
    )
    for name, way_back in ways_back:
        try:
            way_back()
        except PermissionError:
            continue
        left.append(f"{name} still works")
    if left:
        raise PrivilegesRemain(f"privileges remain: {'; '.join(left)}. Nothing was started")
