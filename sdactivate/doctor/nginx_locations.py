"""Find the location of a server of nginx's that a request gets to.

https://nginx.org/en/docs/http/ngx_http_core_module.html#location. Locations inside of locations
are not looked into.
"""

import re
from typing import NamedTuple

from sdactivate.front_scopes import TOKENS

_LONGEST = 300  # characters of a path that a regular expression gets
_IN_SERVER = 1
_SLOW = re.compile(r"[+*}]\)[+*{]")
"""A repetition of repetitions, for which Python may need for ever."""


class Location(NamedTuple):
    """A location: how it matches ("", =, ^~, ~ or ~*), what, where it begins, and its text."""

    how: str
    what: str
    start: int
    text: str

    @property
    def name(self) -> str:
        """Its first line."""
        return " ".join(filter(None, ("location", self.how, self.what)))

    def matches(self, path: str) -> bool:
        """Return whether a path matches; a regular expression that Python can't read does not."""
        if self.how == "=":
            return path == self.what
        if self.how in ("", "^~"):
            return path.startswith(self.what)
        if _SLOW.search(self.what):
            return False
        try:
            found = re.search(self.what, path[:_LONGEST], re.I if self.how == "~*" else 0)
        except re.error:
            return False
        return found is not None


def locations(server: str) -> list[Location]:
    """Return the locations of a server, without those that only names lead to.

    server: its text, without comments.
    """
    found: list[Location] = []
    words: list[str] = []
    depth = begin = 0
    inside: tuple[list[str], int] | None = None
    for token in TOKENS.finditer(server):
        if token["word"]:
            begin = begin if words else token.start()
            words.append(token["word"].strip("\"'"))
            continue
        if token["end"] == "{":
            if depth == _IN_SERVER and words[:1] == ["location"]:
                inside = words, begin
            depth += 1
        elif token["end"] == "}":
            depth -= 1
            if depth == _IN_SERVER and inside:
                (_, *matcher), start = inside
                if matcher and not matcher[-1].startswith("@"):
                    how = matcher[0] if len(matcher) > 1 else ""
                    found.append(Location(how, matcher[-1], start, server[start : token.end()]))
                inside = None
        words = []
    return found


def location(server: str, path: str) -> Location | None:
    """Return the location for the requests of a path; None if there is none."""
    matching = [it for it in locations(server) if it.matches(path)]
    prefixes = [it for it in matching if it.how in ("", "^~")]
    longest = max(prefixes, key=lambda it: len(it.what), default=None)
    exact = next((it for it in matching if it.how == "="), None)
    if exact or (longest and longest.how == "^~"):
        return exact or longest
    return next((it for it in matching if it.how in ("~", "~*")), longest)
