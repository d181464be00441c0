"""How long browsers and proxies may keep a file that a front serves: one table for all fronts."""

from typing import NamedTuple

HASHED = r"\.[0-9a-f]{12}\.[^./]+$"
"""The end of a path whose name says what is in the file, as a regular expression that every front
reads: style.d41d8cd98f00.css. Django's ManifestStaticFilesStorage makes such names."""


class Lifetime(NamedTuple):
    """One row."""

    what: str
    seconds: int
    """max-age (RFC 9111, section 5.2.2.1)."""
    immutable: bool
    """Whether a browser need not even ask on a reload (RFC 8246): another content has another
    name."""
    why: str

    def directives(self, private: bool) -> str:
        """Return the value of Cache-Control. private: everybody logs in, so no shared cache may
        keep it."""
        words = ["private"] if private else ["public"] if self.immutable else []
        words += [f"max-age={self.seconds}"]
        return ", ".join(words + ["immutable"] * self.immutable)


LIFETIMES: dict[str, Lifetime] = {
    "hashed": Lifetime(
        "a static file with a hash in its name",
        365 * 86400,
        True,
        "what has changed has another name",
    ),
    "static": Lifetime(
        "any other static file",
        300,
        False,
        "a page's files are asked for once in a visit, and a release is seen after five minutes",
    ),
    "media": Lifetime(
        "a file that users sent",
        300,
        False,
        "what is replaced or taken back is gone after five minutes",
    ),
}
