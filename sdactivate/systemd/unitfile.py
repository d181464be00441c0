"""Parse unit files as systemd does: systemd.syntax(7).

Parsing never fails: for any text it returns the assignments that systemd would see, each with its
file and line, and skips what systemd would skip with a warning.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

_IGNORE = re.compile(r"sdactivate:\s*ignore=([^\s,]+(?:\s*,\s*[^\s,]+)*)(?:\s+(.*))?$")
_GENERATED = re.compile(r"^# \S+, written by sdactivate\.", re.MULTILINE)
_MARK = re.compile("^\ufeff", re.MULTILINE)
_SPACE = " \t\r"  # what systemd strips; it strips no other control character
_SPACES = re.compile(f"[{_SPACE}\n]+")
_QUOTES = re.compile("[\"'\\\\]")
_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
# The values that systemd can parse. It skips any other value, the empty one included, with a
# warning, and the previous value stays in effect. Other directives are reset by an empty value.
_BOOLEAN = re.compile("1|yes|true|on|y|t|0|no|false|off|n|f", re.IGNORECASE)
_OCTAL = re.compile("0*[0-7]{1,4}")
_NUMBER = re.compile("0|[1-9][0-9]{0,9}")
READABLE = {
    **dict.fromkeys(("Accept", "FlushPending", "RemoveOnStop", "DynamicUser"), _BOOLEAN),
    **dict.fromkeys(("SocketMode", "DirectoryMode"), _OCTAL),
    **dict.fromkeys(
        ("Backlog", "MaxConnections", "MaxConnectionsPerSource", "TriggerLimitBurst"), _NUMBER
    ),
}
"""The values that systemd can parse for these directives; any other is ignored."""
_NUMBERED = re.compile(r"x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})")


class Entry(NamedTuple):
    """One assignment. `line` counts from 1 and is the first of several continued ones."""

    section: str
    key: str
    value: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


class Ignore(NamedTuple):
    """A comment that silences a rule: # sdactivate: ignore=SDA012 reason."""

    rule: str
    reason: str
    file: str
    line: int


class Parsed(NamedTuple):
    """What one file holds."""

    entries: tuple[Entry, ...]
    ignores: tuple[Ignore, ...]
    is_generated: bool = False
    """Whether a comment says that sdactivate wrote it."""


def parse(text: str, file: str) -> Parsed:
    """Return the assignments of a unit file's `text`, called `file`. Never fails."""
    entries: list[Entry] = []
    ignores: list[Ignore] = []
    section = ""
    for number, line in _logical(text, file, ignores):
        if line.startswith("["):
            if not line.endswith("]"):
                break  # systemd refuses the whole file
            section = line[1:-1]
            continue
        key, equals, value = line.partition("=")
        if equals and section:
            entries.append(Entry(section, key.rstrip(_SPACE), value.strip(_SPACE), file, number))
    return Parsed(tuple(entries), tuple(ignores), _GENERATED.search(text) is not None)


def reads_alike(one: str, other: str) -> bool:
    """Return whether two texts of a unit set the same values, whatever their comments."""
    read = [[it[:3] for it in parse(text, "").entries] for text in (one, other)]
    return read[0] == read[1]


def _logical(text: str, file: str, ignores: list[Ignore]) -> Iterator[tuple[int, str]]:
    """Yield logical lines: continued lines joined, without comments and empty lines.

    A comment between continued lines is dropped, and doesn't end them.
    """
    pending, start = "", 0
    # A byte order mark is removed from the first line that begins with one, wherever it is.
    if "\ufeff" in text:
        text = _MARK.sub("", text, count=1)
    for number, raw in _physical(text):
        line = raw.lstrip(_SPACE)
        if line[:1] in ("#", ";"):
            if "sdactivate" in line:
                ignores += _ignores(line, file, number)
            continue
        if not pending:
            start = number
        line = pending + (raw if pending else line)
        if _is_continued(line):
            pending = line[:-1] + " "
            continue
        pending = ""
        if line := line.strip(_SPACE):
            yield start, line
    if pending := pending.strip(_SPACE):
        yield start, pending


def _physical(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines, numbered as editors do. For systemd, a lone CR or NUL also ends a line."""
    if "\r" not in text and "\0" not in text:
        yield from enumerate(text.split("\n"), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip("\r\0")
        for piece in re.split("[\r\0]", line) if "\r" in line or "\0" in line else (line,):
            yield number, piece


def _is_continued(line: str) -> bool:
    """Whether the line ends in an odd number of backslashes: then the last one is not escaped."""
    return line.endswith("\\") and (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _ignores(line: str, file: str, number: int) -> Iterator[Ignore]:
    if found := _IGNORE.search(line):
        for rule in found[1].replace(",", " ").split():
            yield Ignore(rule, (found[2] or "").strip(), file, number)


def split(value: str) -> list[str]:
    """Return the words of `value`: quotes removed, escapes resolved (systemd.syntax(7)).

    An unclosed quote ends with the value; an unknown escape stays as it is written.
    """
    return list(_split(value))


@lru_cache(maxsize=8192)  # hundreds of sites have the same lines
def _split(value: str) -> tuple[str, ...]:
    if not _QUOTES.search(value):
        return tuple(word for word in _SPACES.split(value) if word)
    words: list[str] = []
    word: list[str] = []
    quote, inside, index = "", False, 0
    while index < len(value):
        letter = value[index]
        index += 1
        if letter == "\\" and index < len(value):
            text, used = _escape(value[index:])
            word.append(text)
            inside, index = True, index + used
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word.append(letter)
        elif letter in "\"'" and not inside:
            quote, inside = letter, True
        elif letter in _SPACE + "\n":
            if inside:
                words.append("".join(word))
            word, inside = [], False
        else:
            word.append(letter)
            inside = True
    return (*words, "".join(word)) if inside else tuple(words)


def _escape(rest: str) -> tuple[str, int]:
    if found := _NUMBERED.match(rest):
        digits = next(group for group in found.groups() if group)
        code = int(digits, 8 if found[2] else 16)
        if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000:
            return chr(code), len(found[0])
    return (_ESCAPES[rest[0]], 1) if rest[0] in _ESCAPES else (f"\\{rest[0]}", 1)


class Unit:
    """A unit with all its files: the main one and its drop-ins, in the order systemd reads them."""

    def __init__(self, name: str, parts: Sequence[Parsed], files: Sequence[str]) -> None:
        self.name = name
        self.files = tuple(files)
        self.entries = tuple(entry for part in parts for entry in part.entries)
        self.ignores = tuple(ignore for part in parts for ignore in part.ignores)
        self._by_key: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            self._by_key.setdefault((entry.section, entry.key), []).append(entry)
        self.is_generated = any(part.is_generated for part in parts)
        self.kind = name.rpartition(".")[2]
        """socket, service …"""
        self.section = self.kind.capitalize()
        """The section named after its kind: Socket, Service."""

    @property
    def prefix(self) -> str:
        """The name without suffix and instance: web for web@1.service."""
        return self.name.rpartition(".")[0].partition("@")[0]

    def entry(self, key: str, section: str = "") -> Entry | None:
        """Return the assignment in effect for a directive with one value: the last.

        None if there is none, or if the last is empty, which restores the default. Lines that
        systemd can't parse are ignored.
        """
        entries = self._all(key, section)
        if readable := READABLE.get(key):
            entries = [entry for entry in entries if readable.fullmatch(entry.value)]
        return entries[-1] if entries and entries[-1].value else None

    def entries_of(self, key: str, section: str = "") -> list[Entry]:
        """Return the assignments in effect for a list: those since the last empty one."""
        held: list[Entry] = []
        for entry in self._all(key, section):
            if entry.value:
                held.append(entry)
            else:
                held.clear()
        return held

    def value(self, key: str, default: str = "", section: str = "") -> str:
        """Return the value of a directive with one value."""
        entry = self.entry(key, section)
        return entry.value if entry else default

    def words(self, key: str, section: str = "") -> list[str]:
        """Return the words of a list."""
        return [word for entry in self.entries_of(key, section) for word in split(entry.value)]

    def names(self, key: str, section: str = "") -> list[str]:
        """Return the units that a list names, with escapes, which are part of a unit's name."""
        values = (entry.value.replace("\\", "\\\\") for entry in self.entries_of(key, section))
        return [word for value in values for word in split(value)]

    def is_on(self, key: str, default: bool = False) -> bool:
        """Return a boolean directive as systemd.syntax(7) reads it."""
        value = self.value(key).lower()
        if value in ("1", "yes", "true", "on", "y", "t"):
            return True
        return False if value in ("0", "no", "false", "off", "n", "f") else default

    def _all(self, key: str, section: str) -> list[Entry]:
        return self._by_key.get((section or self.section, key), [])
