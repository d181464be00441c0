"""Describe users, groups, modes, ACLs and verdicts in words."""

import grp
import os
import pwd

from sdactivate.access.permissions import READ, SEARCH, WRITE, Node, Verdict


def user(uid: int) -> str:
    """Return the name of an account, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group(gid: int) -> str:
    """Return the name of a group, or its number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def members(gid: int) -> list[str]:
    """Return the accounts in a group: those it lists, and those whose primary group it is."""
    try:
        listed = grp.getgrgid(gid).gr_mem
    except KeyError:
        listed = []
    return sorted({*listed, *(it.pw_name for it in pwd.getpwall() if it.pw_gid == gid)})


def bits(permissions: int) -> str:
    """Return rwx letters: 6 is rw-."""
    return "".join(
        letter if permissions & bit else "-"
        for letter, bit in (("r", READ), ("w", WRITE), ("x", SEARCH))
    )


def mode(node: Node) -> str:
    """Return the mode as ls(1) shows it, without the type: rwxr-xr-x, + for an ACL."""
    letters = [*(bits(node.mode >> 6) + bits(node.mode >> 3) + bits(node.mode))]
    for bit, place, both, alone in (
        (0o4000, 2, "s", "S"),
        (0o2000, 5, "s", "S"),
        (0o1000, 8, "t", "T"),
    ):
        if node.mode & bit:
            letters[place] = both if letters[place] == "x" else alone
    return "".join(letters) + ("+" if node.acl is not None else "")


def acl(node: Node) -> str:
    """Return the ACL's entries as getfacl(1) writes them, on one line; "" if there is no ACL."""
    if node.acl is None:
        return ""
    entries = [
        *(f"user:{user(uid)}:{bits(has)}" for uid, has in node.acl.users),
        f"group::{bits(node.acl.group)}",
        *(f"group:{group(gid)}:{bits(has)}" for gid, has in node.acl.groups),
        f"mask::{bits(node.acl.mask)}",
    ]
    return " ".join(entries)


def because(verdict: Verdict) -> str:
    """Return the reason for a verdict: the path component that decides, and how."""
    if verdict.node is None or verdict.by == "error":
        return os.strerror(verdict.error)
    return f"{verdict.node.path}: {answer(verdict)}"


def answer(verdict: Verdict) -> str:
    """Describe how the deciding component decides, without its name. There must be one."""
    assert verdict.node is not None
    has = bits(verdict.has)
    missing = bits(verdict.need & ~verdict.has).replace("-", "")
    lacks = "" if verdict.allowed else f", which lacks {missing}"
    if verdict.by == "link":
        return (
            f"{user(verdict.node.uid)} owns this link in a sticky directory, and nobody else "
            f"may follow it (fs.protected_symlinks)"
        )
    if verdict.by == "mask":
        return f"the ACL grants it, but its mask leaves {has}{lacks}"
    if verdict.by == "capability":
        return "allowed by root's capabilities (CAP_DAC_OVERRIDE)"
    whose = verdict.whose
    named = {
        "owner": lambda: f"owner {user(whose or 0)} has {has}",
        "user": lambda: f"ACL user {user(whose or 0)} has {has}",
        "group": lambda: f"group {group(whose or 0)} has {has}",
        "others": lambda: f"others have {has}",
    }
    return named[verdict.by]() + lacks
