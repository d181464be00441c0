r"""systemd's own grammar, in one place: unit names, values in unit files, versions.

A unit file is lines of `Key=value`, and what a value may hold differs from key to key. Four
things happen to it on the way in, and each is a way for a value to become something else:

1. **Lines** (systemd.syntax(7)). A newline ends the value; a backslash at the end of the line
   joins the next one to it; white space around the value is cut off.
2. **Specifiers** (systemd.unit(5)). `%` starts one almost everywhere: `%n`, `%h`. `%%` is a `%`.
3. **Quoting** (systemd.syntax(7)). Settings that take a list (Environment=, StateDirectory=,
   ReadWritePaths=) split at white space and know quotes and `\` escapes. Those that take one
   value (ListenStream=, WorkingDirectory=, Description=) know neither: a quote is a quote there.
4. **Command lines** (systemd.service(5)). ExecStart= quotes as above, and then replaces `$WORD`
   and `${WORD}` by the environment, cuts at a lone `;`, and reads `@-:+!` in front of the
   program as modifiers.

So there is one function for each place: `plain` for settings with one value (`literal` where
specifiers are unknown), `word` for an item of a list, `command` for a command line. Each returns
an `Escaped`, and the templates refuse anything that is not one: a value cannot reach a unit
without having passed here. What can't be written at all is refused by the functions that
`site.py` reads values with.
"""

import os
import re
from collections.abc import Iterable

from sdactivate.errors import UsageError

OLDEST = 245
"""The oldest systemd that units are written for (Ubuntu 20.04 has it)."""

USUAL = 252
"""The systemd that a unit is written for where the host has none."""

UNIT_NAME_MAX = 255
"""Bytes of a unit's name, suffix included: systemd.unit(5)."""


class Escaped(str):
    """Text that means in a unit file what it was meant to mean."""

    __slots__ = ()


# --- values ---------------------------------------------------------------------------------

# Control characters, line and paragraph separators, surrogates, and the code points that
# Unicode promises never to assign, which systemd takes for broken UTF-8.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


# What means nothing to systemd anywhere: nearly all that is ever written, so it is tried first.
_BARE = re.compile(r"[A-Za-z0-9_./:@,+=-]+")


def printable(text: str) -> str:
    """Return `text` if a unit file can hold it inside quotes.

    Raises UsageError for control characters (a newline would start a line of its own) and for
    what is not UTF-8.
    """
    if found := _UNPRINTABLE.search(text):
        raise UsageError(
            f"{text!r}: the character {found[0]!r} can't stand in a unit file; leave it out"
        )
    return text


def one_line(text: str) -> str:
    """Return `text` if a line of a unit file can hold it as it is, without quotes.

    Raises UsageError for what `printable` refuses and for what systemd.syntax(7) would cut or
    join: spaces at either end, a backslash at the end.
    """
    if _BARE.fullmatch(text):
        return text
    if text != text.strip(" "):
        raise UsageError(f"{text!r}: spaces at the beginning or the end would be lost")
    if text.endswith("\\"):
        raise UsageError(f"{text!r}: a backslash at the end would join the next line to it")
    return printable(text)


def plain(text: str) -> Escaped:
    """Return `text` for a setting that takes one value and no quotes, such as ListenStream=.

    Raises UsageError where a line can't hold it; see `one_line`.
    """
    return Escaped(one_line(text).replace("%", "%%"))


def literal(text: str) -> Escaped:
    """Return `text` for a setting that knows no specifiers, such as MemoryMax=25%.

    Raises UsageError where a line can't hold it; see `one_line`.
    """
    return Escaped(one_line(text))


def word(text: str) -> Escaped:
    """Return `text` as one item of a setting that takes a list, such as Environment=.

    Raises UsageError for control characters and what is not UTF-8.
    """
    if _BARE.fullmatch(text):
        return Escaped(text)
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return Escaped(f'"{escaped}"')


_PROGRAM = re.compile(r"/[^\"'\\$]*")


def program(path: str) -> str:
    """Return the absolute `path` of a program if ExecStart= can name it.

    Raises UsageError for a path that is not absolute, and for quotes, backslashes (systemd
    refuses them in the program's path) and `$` (replaced in the arguments, not in the path).
    """
    if not _PROGRAM.fullmatch(one_line(path)):
        raise UsageError(
            f"{path!r}: a program is named by its absolute path, without quotes, backslashes or $"
        )
    return path


def command(argv: Iterable[str]) -> Escaped:
    """Return a line for ExecStart= that runs exactly `argv`: systemd.service(5), Command lines.

    Raises UsageError for a program whose path can't be written (see `program`) and for control
    characters.
    """
    first, *rest = argv
    return Escaped(
        " ".join([word(program(first)), *(word(arg.replace("$", "$$")) for arg in rest)])
    )


# --- unit names -----------------------------------------------------------------------------

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
        # A dot is only special in front; ":" is systemd's to keep, but see check_name.
        if char.isascii() and (char.isalnum() or char in ":_" or (char == "." and index))
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for index, char in enumerate(text)
    )


def unit_name(name: str) -> str:
    """Return `name` if it can name a unit and all that is called after it.

    That is narrower than systemd.unit(5): the same word names a descriptor (LISTEN_FDNAMES is
    separated by colons), a directory under /var/lib and a dynamic user. Letters, digits, "-",
    "_", "." and systemd's escapes (\\x2d) are left; it starts with none of "-" and ".", leaves
    room for a suffix, and has none: mysite.service would make mysite.service.socket.

    Raises UsageError otherwise, with the name as systemd-escape(1) would write it.
    """
    if not _NAME.fullmatch(name) or name[0] in ".-":
        hint = escape(name).replace(":", "\\x3a") if name else ""
        hint = "\\x2d" + hint[1:] if hint.startswith("-") else hint
        meant = f"; systemd would write it {hint}" if _NAME.fullmatch(hint) else ""
        raise UsageError(
            f"{name!r}: a name is made of letters, digits and '-', '_', '.', "
            f"and starts with a letter, a digit or '_'{meant}"
        )
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix in _TYPES:
        raise UsageError(f"{name!r}: a site is named without {dot + suffix}; is {stem} meant?")
    if len(name) > UNIT_NAME_MAX - len("@.service") - 64:
        raise UsageError(f"{name!r}: a name has at most {UNIT_NAME_MAX - 9 - 64} characters")
    return name


# --- users and groups -----------------------------------------------------------------------

_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,254}\$?")
_NO_ID = (0xFFFF, 0xFFFFFFFF)


def account(text: str) -> str:
    """Return `text` if it names a user or a group, by name or number: systemd.exec(5), User=.

    Raises UsageError for what systemd or the password file's grammar has no place for, and for
    the numbers 65535 and 4294967295, which mean "nobody in particular" to the kernel.
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


# --- versions -------------------------------------------------------------------------------


def parse_version(text: str) -> int:
    """Return the version that `text` names: "252", "v252" or the words of `systemctl --version`.

    Raises UsageError for anything else and for a version older than OLDEST.
    """
    found = re.match(r"(?:systemd )?v?([0-9]{1,4})(?![0-9])", text)
    if not found:
        raise UsageError(f"{text!r}: a version of systemd is a number such as {USUAL}")
    if (version := int(found[1])) < OLDEST:
        raise UsageError(f"{text!r}: units are written for systemd {OLDEST} and later")
    return version


def host_version() -> int:
    """Return the version of this host's systemd; USUAL where it has none or too old a one."""
    reader, writer = os.pipe()
    try:
        # By hand, since importing subprocess takes as long as the answer.
        pid = os.posix_spawnp(
            "systemctl",
            ["systemctl", "--version"],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)],
        )
    except OSError:
        os.close(reader)
        return USUAL
    finally:
        os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    try:
        return parse_version(text)
    except UsageError:
        return USUAL
