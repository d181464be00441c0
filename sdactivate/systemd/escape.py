r"""Escape values for unit files: specifiers, quotes, command lines.

A unit file consists of lines of `Key=value`, and what a value may hold differs from key to key.
systemd applies four steps to it, and each can change its meaning:

1. **Lines** (systemd.syntax(7)). A newline ends the value; a backslash at the end of the line
   joins the next one to it; white space around the value is stripped.
2. **Specifiers** (systemd.unit(5)). `%` starts one almost everywhere: `%n`, `%h`. `%%` is a `%`.
3. **Quoting** (systemd.syntax(7)). Settings that take a list (Environment=, StateDirectory=,
   ReadWritePaths=) split at white space and accept quotes and `\` escapes. Those that take one
   value (ListenStream=, WorkingDirectory=, Description=) take both literally.
4. **Command lines** (systemd.service(5)). ExecStart= quotes as above, and then replaces `$WORD`
   and `${WORD}` by the environment, splits at a lone `;`, and reads `@-:+!` in front of the
   program as modifiers.

So there is one function for each place: `plain` for settings with one value (`literal` for those
without specifiers), `word` for an item of a list, `command` for a command line. Each returns
an `Escaped`, and the templates refuse anything else, so no value gets into a unit unescaped. The
functions that `site.py` reads values with refuse what can't be written at all.
"""

import re
from collections.abc import Iterable

from sdactivate.errors import UsageError


class Escaped(str):
    """Text that is escaped for its place in a unit file."""

    __slots__ = ()


# Control characters, line and paragraph separators, surrogates, and Unicode's noncharacters,
# which systemd treats as invalid UTF-8.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


# No special meaning to systemd anywhere. Nearly every value is like this, so it is tried first.
_BARE = re.compile(r"[A-Za-z0-9_./:@,+=-]+")


def printable(text: str) -> str:
    """Return `text` if a unit file can hold it inside quotes.

    Raises UsageError for control characters (a newline would start a new line) and for what is
    not UTF-8.
    """
    if found := _UNPRINTABLE.search(text):
        raise UsageError(
            f"{text!r}: a unit file can't contain the character {found[0]!r}; leave it out"
        )
    return text


def one_line(text: str) -> str:
    """Return `text` if a line of a unit file can hold it as it is, without quotes.

    Raises UsageError for what `printable` refuses and for what systemd.syntax(7) would strip or
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

    Raises UsageError if a line can't hold it; see `one_line`.
    """
    return Escaped(one_line(text).replace("%", "%%"))


def literal(text: str) -> Escaped:
    """Return `text` for a setting without specifiers, such as MemoryMax=25%.

    Raises UsageError if a line can't hold it; see `one_line`.
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
            f"{path!r}: not an absolute path of a program without quotes, backslashes and $"
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
