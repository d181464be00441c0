"""The options that a uWSGI service runs with: those of its command line and of its ini file.

Placeholders (%n), includes and files of other formats are not read.
"""

import posixpath
from collections.abc import Iterator

from sdactivate.doctor import text_file
from sdactivate.doctor.checks import common
from sdactivate.systemd.unitfile import Unit

_LONG = {"-s": "socket", "-l": "listen", "-p": "processes", "-w": "module"}


def options(service: Unit) -> list[tuple[str, str]]:
    """Return each option with its value, in order; a file's options at the place of its name."""
    found: list[tuple[str, str]] = []
    for entry in service.entries_of("ExecStart"):
        words = common.command(entry, service)
        if common.server_in(words) == "uwsgi":
            found += _of_words(words[1:])
    return found


def values(service: Unit, *names: str) -> list[str]:
    """Return the values of the options `names`."""
    return [value for name, value in options(service) if name in names]


def values_of(path: str, *names: str) -> list[str]:
    """Return the values of the options `names` in an ini file."""
    return [value for name, value in of_file(path) if name in names]


def _of_words(words: list[str]) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(words):
        word, after = words[place], (words[place + 1 :] or [""])[0]
        name, equals, value = word.partition("=")
        place += 1
        if not word.startswith("-"):
            if word.endswith(".ini"):
                yield from of_file(word)
            continue
        name = _LONG.get(name, name.lstrip("-"))
        if not equals and not after.startswith("-"):
            value = after
            place += 1
        if name == "ini":
            yield from of_file(value)
        yield name, value


def of_file(path: str) -> Iterator[tuple[str, str]]:
    """Yield the options of an ini file's section [uwsgi]; none if it can't be read."""
    section = ""
    for line in (text_file.read(path) or "").splitlines():
        bare = line.strip()
        if bare.startswith("["):
            section = bare.strip("[]")
        elif section == "uwsgi" and "=" in bare and not bare.startswith(("#", ";")):
            name, _, value = bare.partition("=")
            yield name.strip().replace("_", "-"), value.strip()


def protocols(service: Unit) -> tuple[str, ...]:
    """Return the protocols that its options set: http, uwsgi, fastcgi, scgi.

    uwsgi is the default, for `socket` and for a socket that it inherits.
    """
    found: dict[str, None] = {}
    for name, value in options(service):
        if name in ("http", "http-socket"):
            found["http"] = None
        elif name in ("fastcgi-socket", "scgi-socket", "uwsgi-socket"):
            found[name.removesuffix("-socket")] = None
        elif name == "protocol":
            return (value,)
        elif name == "socket":
            found["uwsgi"] = None
    return tuple(found) or ("uwsgi",)


def emperor(service: Unit) -> str:
    """Return the directory in which its emperor looks for vassals, "" if it has no emperor."""
    found = values(service, "emperor")
    return posixpath.normpath(found[-1]) if found and found[-1].startswith("/") else ""
