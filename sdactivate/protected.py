"""Files that only the application lets out (--protected): what it is told, and what it answers.

The generator writes it into the service's environment, for whatever server runs there; the
application reads it (`sdactivate.django.protected`). Common ground: it imports no wing.
"""

import os
from typing import NamedTuple
from urllib.parse import quote

VARIABLE = "SDACTIVATE_PROTECTED"
"""The variable of the service's environment."""


class Way(NamedTuple):
    """How a front is told of a file: by which field of a response, and how it reads the value."""

    field: str
    names: str
    """ "url": a URL of the front's own, which no client gets; "path": the file's path."""
    decodes: bool
    """Whether it undoes percent-encoding."""


WAYS: dict[str, Way] = {
    "accel": Way("X-Accel-Redirect", "url", decodes=True),
    # Caddy decodes such a URL from 2.6.3 on only: a value that means the same to both is wanted.
    "accel-raw": Way("X-Accel-Redirect", "url", decodes=False),
    # With the status 200: a local redirect (RFC 3875, section 6.2.2).
    "redirect": Way("Location", "url", decodes=True),
    "sendfile": Way("X-Sendfile", "path", decodes=True),
}
"""By name, as the variable says it. `fronts` has which front reads which."""


class Protected(NamedTuple):
    """What the site's front lets out when the application says so."""

    way: str
    """A key of WAYS."""
    directories: tuple[tuple[str, str], ...]
    """URL and directory of each; both end with a slash, and have no blanks in them."""

    def __str__(self) -> str:
        return " ".join([self.way, *map("=".join, self.directories)])

    @property
    def field(self) -> str:
        """The field of a response that says which file."""
        return WAYS[self.way].field

    def value(self, path: str | os.PathLike[str]) -> str:
        """Return what the field says for the file at the absolute `path`; "": it can't say it.

        It is made of latin-1 characters, one for each byte (RFC 9110, section 5.5). Raises
        ValueError for a file that is in none of the directories.
        """
        wanted = os.path.normpath(os.fspath(path))
        for url, directory in self.directories:
            inside = wanted.removeprefix(directory)
            if inside in (wanted, ""):
                continue
            way = WAYS[self.way]
            said = os.fsencode(wanted if way.names == "path" else url + inside)
            if way.decodes:
                return quote(said)
            # Taken as it is, or decoded: only what is the same either way.
            plain = not {*said} & {*b"%?"} and all(0x20 <= byte != 0x7F for byte in said)
            return said.decode("latin-1") if plain and not said.endswith(b" ") else ""
        named = ", ".join(directory for _, directory in self.directories)
        raise ValueError(f"{wanted!r} is in none of the protected directories: {named}")


def read(text: str) -> Protected:
    """Return what the variable says. Raises ValueError for what no generator writes."""
    way, *pairs = text.split() or [""]
    directories = [tuple(pair.split("=", 1)) for pair in pairs]
    if way not in WAYS or any(len(pair) != 2 for pair in directories):
        raise ValueError(f"{VARIABLE}: {text!r} is not one of {', '.join(WAYS)} with URL=DIR")
    return Protected(way, tuple((url, directory) for url, directory in directories))
