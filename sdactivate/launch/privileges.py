"""Drop privileges permanently to become the application's user, and verify it.

Only this order works, since each step needs privileges that later steps give up.

1. Clear the bounding set (needs CAP_SETPCAP): no exec can bring a capability back.
2. Set supplementary groups, then group IDs, then user IDs: real, effective and saved at once, by
   setresgid(2) and setresuid(2). After this, root is gone.
3. Clear ambient and inheritable capabilities, which a change of user does not always clear.
4. Set no_new_privs: from here on setuid bits have no effect.
5. Replace the session keyring (session-keyring(7)) by a new one: a process that possesses root's
   can read root's keys under any user ID.

Then everything is read back from the kernel, and regaining root is tried. Any deviation is fatal,
before anything is executed.
"""

import errno
import grp
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass

from sdactivate.errors import Error, UsageError
from sdactivate.launch import syscalls

_NONE = 0xFFFFFFFF  # (uid_t)-1 means "no change" to setresuid(2) and chown(2)


class PrivilegesRemain(Error):
    """Privileges could not be dropped, or remained afterwards."""


@dataclass(frozen=True)
class Identity:
    """The user that a process runs as: the IDs, and the environment variables about them."""

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
    """The identity of this process now."""
    uid, gid = os.geteuid(), os.getegid()
    groups = tuple(sorted(os.getgroups()))
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Identity(str(uid), uid, gid, groups, "/", "/bin/sh")
    return Identity(entry.pw_name, uid, gid, groups, entry.pw_dir, entry.pw_shell)


def find(text: str) -> Identity:
    """Return the identity for --run-as: USER or USER:GROUP, by name or number.

    The supplementary groups are the user's in the group database, as at a login. A number without
    an account needs a group. Raises UsageError for an unknown user or group, and for root.
    """
    user, _, group = text.partition(":")
    number = _number(user, "--run-as", text)
    entry = None
    try:
        entry = pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
    except KeyError:
        if number is None:
            raise UsageError(
                f"--run-as {text}: there is no user {user!r} here. Create one with `useradd "
                "--system --no-create-home NAME`, or give numbers: UID:GID"
            ) from None
        if not group:
            raise UsageError(
                f"--run-as {text}: no user has this number here: give the group's number, too: "
                "UID:GID"
            ) from None
    uid = entry.pw_uid if entry else number or 0
    gid = group_id(group, "--run-as", text) if group else entry.pw_gid if entry else uid
    if uid == 0 or gid == 0:
        raise UsageError(
            f"--run-as {text}: that is root{'' if uid == 0 else chr(39) + 's group'}, which would "
            "keep all privileges. Give the application's own user"
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
    """Return the ID if `name` is a number, else None. The highest ID means "no change"."""
    if not (name.isascii() and name.isdigit()):
        return None
    if (number := int(name)) >= _NONE:
        raise UsageError(f"{option} {text}: the highest ID is {_NONE - 1}")
    return number


def drop(identity: Identity) -> None:
    """Make this process run as `identity`, permanently and without privileges.

    A process that is not root keeps its IDs, which must already be those of `identity`, and gives
    up its other privileges. Raises PrivilegesRemain if a step fails or has no effect.
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
    """Join a new session keyring, and verify it. Raises OSError and PrivilegesRemain.

    If keyctl(2) itself is refused, as in most containers, or missing, no key can be read, and
    nothing needs to be done.
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
    """Verify with the kernel that no privileges remain, and try to become root again.

    Raises PrivilegesRemain, which names those that remain.
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
