"""Valid names of units, users and groups."""

import os
import re

from sdactivate.errors import UsageError

UNIT_NAME_MAX = 255
"""Bytes of a unit's name, suffix included: systemd.unit(5)."""

_NAME = re.compile(r"(?:[A-Za-z0-9_.-]|\\x[0-9a-f]{2})+")
_TYPES = (
    *(".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount", ".swap"),
    *(".device", ".slice", ".scope"),
)


def escape(text: str) -> str:
    """Return `text` as a part of a unit's name, as systemd-escape(1) does."""
    return "".join(
        "-"
        if char == "/"
        else char
        # A dot is special only at the start; systemd keeps ":", which unit_name refuses.
        if char.isascii() and (char.isalnum() or char in ":_" or (char == "." and index))
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for index, char in enumerate(text)
    )


_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")


def unescape(text: str) -> str:
    """Return what a part of a unit's name stands for: the inverse of `escape`."""
    parts = _ESCAPED.split(text)  # every second one is a byte's number
    return b"".join(
        bytes([int(part, 16)]) if index % 2 else os.fsencode(part.replace("-", "/"))
        for index, part in enumerate(parts)
    ).decode("utf-8", "surrogateescape")


def unit_name(name: str) -> str:
    """Return `name` if it can name a unit and everything that is named after the unit.

    That is narrower than systemd.unit(5): the same word names a descriptor (LISTEN_FDNAMES is
    separated by colons), a directory under /var/lib and a dynamic user. Allowed are letters,
    digits, "-", "_", "." and systemd's escapes (\\x2d). It must not start with "-" or ".", must
    leave room for a suffix, and must not have one: mysite.service would give mysite.service.socket.

    Raises UsageError otherwise, with the name as systemd-escape(1) would write it.
    """
    if not _NAME.fullmatch(name) or name[0] in ".-":
        hint = escape(name).replace(":", "\\x3a") if name else ""
        hint = "\\x2d" + hint[1:] if hint.startswith("-") else hint
        meant = f"; systemd would write it {hint}" if _NAME.fullmatch(hint) else ""
        raise UsageError(
            f"{name!r}: a name consists of letters, digits and '-', '_', '.', "
            f"and starts with a letter, a digit or '_'{meant}"
        )
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix in _TYPES:
        raise UsageError(f"{name!r}: a site is named without {dot + suffix}; did you mean {stem}?")
    if len(name) > UNIT_NAME_MAX - len("@.service") - 64:
        raise UsageError(f"{name!r}: a name has at most {UNIT_NAME_MAX - 9 - 64} characters")
    return name


_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,254}\$?")
_NO_ID = (0xFFFF, 0xFFFFFFFF)


def account(text: str) -> str:
    """Return `text` if it names a user or a group, by name or number: systemd.exec(5), User=.

    Raises UsageError for what systemd or the format of the password file does not allow, and for
    the numbers 65535 and 4294967295, which mean "no id" to the kernel.
    """
    if text.isascii() and text.isdigit():
        if text != str(int(text)) or int(text) > 0xFFFFFFFF or int(text) in _NO_ID:
            raise UsageError(f"{text!r}: no user or group can have this number")
    elif not _ACCOUNT.fullmatch(text):
        raise UsageError(
            f"{text!r}: a user or a group is a number, or a name of letters, digits and "
            f"'_', '-', '.', '@' that starts with a letter or '_'"
        )
    return text
