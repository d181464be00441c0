"""Add options to a site's table in a sites file, and leave every other line unchanged."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from sdactivate.errors import Error
from sdactivate.generate.sites_toml import Keys, line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Value = bool | str | list[str]


def with_options(text: str, at: Keys, options: Mapping[str, Value]) -> str:
    """Return the TOML `text` with `options` in the table `at`, such as ("sites", "mysite").

    A list is appended to the option's value in the table, or else in the defaults beside `sites`;
    any other value replaces the old one. Raises Error if the table is written in a form in which
    that would change other lines.
    """
    for line in lines_of(options):
        try:
            line.encode()
        except UnicodeEncodeError:
            raise Error(
                f"{line!r}: not valid UTF-8, which TOML requires; nothing was changed"
            ) from None
    if text.lstrip().startswith("{"):
        added = ", ".join(lines_of(options))
        raise Error(
            f"the file is JSON, written by another program; add this with that program: {added}"
        )
    before = tomllib.loads(text)
    own = _table(before, at)
    defaults = _table(before, (*at[:-2], "defaults"))
    wanted: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, list):
            had = own.get(key, defaults.get(key, []))
            have = [had] if isinstance(had, str) else list(had)
            value = [*have, *(one for one in value if one not in have)]
        wanted[key] = value
    lines = text.splitlines(keepends=True)
    for key, value in wanted.items():
        if key in own and own[key] == value:
            continue
        line = f"{key} = {_toml(value)}\n"
        here = "".join(lines)
        first = line_of(here, (*at, key)) - 1
        if key in own:
            lines[first : _end(lines, first)] = [line]
        else:
            header = line_of(here, at) - 1
            lines[header] = lines[header].rstrip("\n") + "\n"
            lines.insert(header + 1, line)
    made = "".join(lines)
    _table(before, at).update(wanted)
    try:
        if own and tomllib.loads(made) == before:
            return made
    except tomllib.TOMLDecodeError:
        pass
    added = ", ".join(f"{key} = {_toml(value)}" for key, value in wanted.items())
    raise Error(f"[{'.'.join(at)}] can't be changed line by line; add this to it yourself: {added}")


def lines_of(options: Mapping[str, Value]) -> list[str]:
    """Return the lines of TOML that give `options`."""
    return [f"{key} = {_toml(value)}" for key, value in options.items()]


def _table(data: Mapping[str, Any], at: Keys) -> dict[str, Any]:
    found: Any = data
    for key in at:
        found = found.get(key, {}) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _end(lines: list[str], first: int) -> int:
    """Return the line after the value that begins on line `first`, which may span lines."""
    for end in range(first + 1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[first:end]))
        except tomllib.TOMLDecodeError:
            continue
        return end
    return first + 1


def _toml(value: Value) -> str:
    # A basic string in TOML has JSON's escapes, and an array of strings has JSON's form
    return json.dumps(value, ensure_ascii=False)
