"""Files that a front sends only if the application's response says so (--protected).

The generator describes them in a variable of the service's environment, for any server; the
application reads it (`sdactivate.django.protected`).
"""

import os
from typing import NamedTuple
from urllib.parse import quote

VARIABLE = "SDACTIVATE_PROTECTED"
"""The name of the variable in the service's environment."""


class Way(NamedTuple):
    """How a response names a file to a front: the header field, and the form of its value."""

    field: str
    names: str
    """ "url": an internal URL of the front, which clients can't request; "path": the file's
    path."""
    decodes: bool
    """Whether the front decodes percent-encoding."""


WAYS: dict[str, Way] = {
    "accel": Way("X-Accel-Redirect", "url", decodes=True),
    # Caddy decodes such a URL only from 2.6.3 on, so the value must mean the same either way.
    "accel-raw": Way("X-Accel-Redirect", "url", decodes=False),
    # With status 200: a local redirect (RFC 3875, section 6.2.2).
    "redirect": Way("Location", "url", decodes=True),
    "sendfile": Way("X-Sendfile", "path", decodes=True),
}
"""By their name in the variable. `fronts` says which front reads which."""


class Protected(NamedTuple):
    """The files that the site's front sends when the application says so."""

    way: str
    """A key of WAYS."""
    directories: tuple[tuple[str, str], ...]
    """The URL and directory of each; both end with a slash and contain no white space."""

    def __str__(self) -> str:
        return " ".join([self.way, *map("=".join, self.directories)])

    @property
    def field(self) -> str:
        """The header field of a response that names the file."""
        return WAYS[self.way].field

    def value(self, path: str | os.PathLike[str]) -> str:
        """Return the field's value for the file at the absolute `path`; "": it can't be expressed.

        The value has latin-1 characters, one for each byte (RFC 9110, section 5.5). Raises
        ValueError for a file that is not in one of the directories.
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
            # Only what is the same decoded or not.
            plain = not {*said} & {*b"%?"} and all(0x20 <= byte != 0x7F for byte in said)
            return said.decode("latin-1") if plain and not said.endswith(b" ") else ""
        named = ", ".join(directory for _, directory in self.directories)
        raise ValueError(f"{wanted!r} is not in a protected directory: {named}")


def read(text: str) -> Protected:
    """Parse the variable. Raises ValueError for a value that the generator does not write."""
    way, *pairs = text.split() or [""]
    directories = [tuple(pair.split("=", 1)) for pair in pairs]
    if way not in WAYS or any(len(pair) != 2 for pair in directories):
        raise ValueError(f"{VARIABLE}: {text!r} is not one of {', '.join(WAYS)} with URL=DIR")
    return Protected(way, tuple((url, directory) for url, directory in directories))
