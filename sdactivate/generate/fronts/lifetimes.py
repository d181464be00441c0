"""How long browsers and proxies may cache a file that a front serves: a table for all fronts."""

from typing import NamedTuple

HASHED = r"\.[0-9a-f]{12}\.[^./]+$"
"""A regular expression, in a form that every front reads, for the end of a path with a hash of the
file's content: style.d41d8cd98f00.css. Django's ManifestStaticFilesStorage creates such names."""


class Lifetime(NamedTuple):
    """One row."""

    what: str
    seconds: int
    """max-age (RFC 9111, section 5.2.2.1)."""
    immutable: bool
    """Whether a browser need not revalidate it on a reload (RFC 8246), since changed content gets a
    new name."""
    why: str

    def directives(self, private: bool) -> str:
        """Return the value of Cache-Control; `private` keeps the file out of shared caches."""
        words = ["private"] if private else ["public"] if self.immutable else []
        words += [f"max-age={self.seconds}"]
        return ", ".join(words + ["immutable"] * self.immutable)


LIFETIMES: dict[str, Lifetime] = {
    "hashed": Lifetime(
        "a static file with a hash in its name",
        365 * 86400,
        True,
        "a changed file gets another name",
    ),
    "static": Lifetime(
        "any other static file",
        300,
        False,
        "a browser requests a page's files once a visit, and a new release shows within five "
        "minutes",
    ),
    "media": Lifetime(
        "a file that users uploaded",
        300,
        False,
        "a replaced or deleted file is gone from caches after five minutes",
    ),
}
