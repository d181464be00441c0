"""Read sites from a TOML or JSON file, with every option by its long name.

    [defaults]                       # for all of them
    group = "www-data"
    python = "/opt/venv/bin/python"

    [sites.mysite]
    app = "mysite.wsgi:application"
    chdir = "/srv/mysite"
    threads = 4
    command = ["clearsessions"]

    [sites.mysite.worker.mail]       # a background worker, with its own options
    command = "celery -A mysite worker"
    count = 2
    network = "local"

    [sites."example.org"]
    kind = ["socket"]                # default: every file that the options call for

In a pyproject.toml the same tables are under [tool.sdactivate]. A key's value is what the option
takes on the command line: a string, a list of strings for an option that may be repeated, true for
a flag, a number for a numeric setting of the runtime. A mode is a string: TOML's 0o660 is the
number 432.

Programs that keep the description of sites elsewhere (in Ansible's variables, for example) can
write JSON but not TOML. So a text that begins with a brace, which is never TOML, is read as JSON
(RFC 8259) with the same tables. Messages about it name the key but no line, since it was not
written by hand.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sdactivate.errors import Error, UsageError
from sdactivate.generate.build import kind_name, known_options
from sdactivate.generate.options import Option
from sdactivate.suggest import meant
from sdactivate.systemd import names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Keys = tuple[str, ...]
_TYPES = {str: "a string", bool: "true or false", int: "a number", float: "a number"}


class Entry(NamedTuple):
    """One site of the file."""

    kinds: tuple[str, ...]
    """Empty if the file has no `kind`."""
    given: dict[str, Any]
    """Values by field, as the options' parsers return them."""


class Tables:
    """A sites file whose defaults are valid; its sites are checked when they are used.

    Raises Error if the file can't be read, and UsageError, with the line, if it is neither TOML nor
    JSON, has an unknown table, or its defaults are not valid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_bytes().decode()
            self._is_json = self._text.lstrip().startswith("{")
            data = _json(self._text) if self._is_json else tomllib.loads(self._text)
        except OSError as error:
            raise Error(f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{path}: not valid UTF-8, which TOML requires") from None
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}:{error.lineno}: JSON: {error.msg}") from None
        except RecursionError:
            raise UsageError(f"{path}: its values are nested too deeply") from None
        except tomllib.TOMLDecodeError as error:
            what, _, where = str(error).partition(" (at line ")
            line = where.partition(",")[0] or len(self._text.splitlines())
            raise UsageError(f"{path}:{line}: {what}") from None
        self._at: Keys = ()
        if path.name == "pyproject.toml":
            self._at = ("tool", "sdactivate")
            data = self._table(self._table(data, "tool", ()), "sdactivate", ("tool",))
        for key in data:
            if key not in ("defaults", "sites"):
                raise self._error((*self._at, key), self._unknown(key, ["defaults", "sites"]))
        self._sites = self._table(data, "sites", self._at)
        defaults = self._table(data, "defaults", self._at)
        self._defaults = self._read((*self._at, "defaults"), defaults)

    @property
    def names(self) -> list[str]:
        """The sites' names, in their order in the file."""
        return list(self._sites)

    def entry(self, name: str) -> Entry:
        """Return the site `name`, the defaults included.

        Raises UsageError, with the file and the line, if the name or a value is not valid, and
        Error if the file has no such site.
        """
        if name not in self._sites:
            raise Error(f"{self.path}: there is no [sites.{name}]; {meant(name, self._sites)}")
        at = (*self._at, "sites", name)
        try:
            names.unit_name(name)
        except UsageError as error:
            raise self._error(at, str(error)) from None
        own = self._read(at, self._table(self._sites, name, at[:-1]))
        given = {**self._defaults.given, **own.given}
        # A false flag is dropped here: it has already overridden a true one of the defaults.
        given = {field: value for field, value in given.items() if value is not False}
        return Entry(own.kinds or self._defaults.kinds, given)

    def header(self, name: str) -> str:
        """Return the header of the table of the site `name` in this file."""
        return ".".join((*self._at, "sites", name))

    def place(self, name: str) -> str:
        """Return the place of the site `name` for a message: file, line (in TOML), key."""
        return f"{self._place((*self._at, 'sites', name))}: {self.header(name)}"

    def _read(self, at: Keys, table: Mapping[str, Any]) -> Entry:
        kinds: tuple[str, ...] = ()
        if "kind" in table:
            try:
                kinds = tuple(map(kind_name, _texts(table["kind"], (str,), many=True)))
            except UsageError as error:
                raise self._error((*at, "kind"), str(error)) from None
        return Entry(kinds, self._values(at, table, _by_name(), ("kind",)))

    def _values(
        self,
        at: Keys,
        table: Mapping[str, Any],
        known: Mapping[str, Option],
        beside: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """Return the `known` options' values in `table`; other code reads the keys `beside`."""
        given: dict[str, Any] = {}
        for key, value in table.items():
            if key in beside:
                continue
            option = known.get(key)
            if option and option.make and isinstance(value, dict):
                given[option.field] = self._named((*at, key), value, option)
                continue
            try:
                if option is None:
                    raise UsageError(self._unknown(key, [*known, *beside]))
                given[option.field] = _parse(option, value)
            except UsageError as error:
                raise self._error((*at, key), str(error)) from None
        return given

    def _named(self, at: Keys, tables: Mapping[str, Any], option: Option) -> tuple[Any, ...]:
        """Return the values of an option's tables by name; a string sets a table's first key."""
        made = []
        rows = {row.name: row for row in option.rows}
        assert option.make is not None
        for name, value in tables.items():
            table = {option.rows[0].name: value} if isinstance(value, str) else value
            given = self._values((*at, name), self._table({name: table}, name, at), rows)
            try:
                made.append(option.make(name, given))
            except UsageError as error:
                raise self._error((*at, name), str(error)) from None
        return tuple(made)

    def _table(self, parent: Mapping[str, Any], key: str, at: Keys) -> Mapping[str, Any]:
        table = parent.get(key, {})
        if not isinstance(table, dict):
            raise self._error((*at, key), "not a table")
        return table

    def _unknown(self, key: str, known: list[str]) -> str:
        return f"there is no such key; {meant(key.replace('_', '-'), known)}"

    def _error(self, at: Keys, what: str) -> UsageError:
        return UsageError(f"{self._place(at)}: {'.'.join(at)}: {what}")

    def _place(self, at: Keys) -> str:
        """Return the file, with the line of `at` if it is TOML."""
        return f"{self.path}" if self._is_json else f"{self.path}:{line_of(self._text, at)}"


def _json(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`. Raises JSONDecodeError, also for a duplicate key.

    NaN and Infinity, which RFC 8259 does not allow, are refused, and so are lone surrogates.
    """

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in made if keys.count(key) > 1)
            raise json.JSONDecodeError(f"the key {twice!r} occurs twice", text, text.find(twice))
        return made

    def refuse(word: str) -> None:
        raise json.JSONDecodeError(f"{word} is not a value", text, text.find(word))

    found: dict[str, Any] = json.loads(text, object_pairs_hook=table, parse_constant=refuse)
    if half := re.search("[\ud800-\udfff]", json.dumps(found, ensure_ascii=False)):
        escaped = json.dumps(half[0])[1:-1]
        raise json.JSONDecodeError(f"{escaped} is not a character", text, text.find("\\u"))
    return found


def _by_name() -> dict[str, Option]:
    return {option.name: option for option in known_options().values()}


def _parse(option: Option, value: object) -> Any:
    """Return the value of `option`: True or False for a flag."""
    if option.flag:
        if not isinstance(value, bool):
            raise UsageError("the value is neither true nor false")
        return value
    if option.optional and isinstance(value, bool):
        return value
    texts = _texts(value, option.types, option.many or option.words)
    if option.many:
        return tuple(option.read(text) for text in texts)
    return option.read(" ".join(texts))


def _texts(value: object, types: tuple[type, ...], many: bool) -> list[str]:
    if isinstance(value, list):
        if not many:
            raise UsageError("this takes one value, not a list")
        return [text for item in value for text in _texts(item, types, many=False)]
    if type(value) not in types:
        wanted = " or ".join(dict.fromkeys(_TYPES[one] for one in types))
        raise UsageError(f"the value is not {wanted}" + (", nor a list of them" if many else ""))
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return [str(value)]


_HEADER = re.compile(r"\s*\[(?!\[)(.*)\]\s*(?:#.*)?")
_KEY = re.compile(r"""\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*[.=]""")


def line_of(text: str, at: Keys) -> int:
    """Return the line, from 1, on which the TOML `text` has the key or the table `at`.

    If it can't be found, return the line of the enclosing table. Only messages depend on it.
    """
    best, depth = 1, 0
    here: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.fullmatch(line):
            here = _keys(f"[{header[1]}]")
            found = here
        elif key := _KEY.match(line):
            found = (*here, *_keys(f"{key[1]} = 0"))
        else:
            continue
        if len(found) > depth and found == at[: len(found)]:
            best, depth = number, len(found)
    return best


def _keys(line: str) -> Keys:
    """Return the path of keys in a line of TOML, either a header or an assignment."""
    try:
        table = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    keys = []
    while isinstance(table, dict) and table:
        (key,) = table
        keys.append(key)
        table = table[key]
    return tuple(keys)
