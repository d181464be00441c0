r"""Escape values for unit files: specifiers, quotes, command lines.

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

import re
from collections.abc import Iterable

from sdactivate.errors import UsageError


class Escaped(str):
    """Text that means in a unit file what it was meant to mean."""

    __slots__ = ()


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
