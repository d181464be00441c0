"""Files through the fronts in a machine: what is asked, and what else than "ok" is right."""

from sdactivate.fronts import FRONTS
from tests.machine import files_client
from tests.machine.fronts import SETUP, Deviation

CHECKS: tuple[str, ...] = tuple(files_client.checks(files_client.Client("")))
"""Every check of a configuration, in the order in which it is done."""

SERVING: tuple[str, ...] = tuple(name for name in SETUP if FRONTS[name].static)
"""The fronts that serve files."""

PROTOCOL: dict[str, str] = {"apache": "scgi"}
"""What a front speaks where --protected asks for it; otherwise what is recommended."""

_LONG_ONLY = "lighttpd sends only max-age: it would also send any addition with a 404"
_NO_PRECOMPRESSED = (
    "lighttpd does not look for style.css.gz; its package lighttpd-mod-deflate compresses files "
    "itself (deflate.cache-dir)"
)

DEVIATIONS: dict[tuple[str, str], Deviation] = {
    ("nginx", "brotli"): Deviation(
        "gzip", "nginx's module for Brotli is a separate package: gzip is sent"
    ),
    ("lighttpd", "kept for a year where hashed"): Deviation("{'max-age=31536000'}", _LONG_ONLY),
    ("lighttpd", "shared caches"): Deviation("static/style.0123456789ab.css: set()", _LONG_ONLY),
    ("lighttpd", "gzip"): Deviation("as it is", _NO_PRECOMPRESSED),
    ("lighttpd", "brotli"): Deviation("as it is", _NO_PRECOMPRESSED),
    ("lighttpd", "304"): Deviation(
        "304 without Cache-Control: set()", "lighttpd's 304 does not repeat Cache-Control"
    ),
    **{
        ("caddy", check): Deviation(
            "followed: True", "Caddy follows symbolic links: see below, Links"
        )
        for check in ("media: links", "let out: links")
    },
}
"""What is not "ok", and yet right, or the front's own affair: by front and check."""


def deviation(front: str, check: str) -> Deviation | None:
    """Return what is found instead of "ok", and why; None where "ok" is right."""
    return DEVIATIONS.get((front, check))


TOPICS: dict[str, tuple[str, ...]] = {
    "static: kept": (
        *("kept for a year where hashed", "kept for five minutes", "shared caches"),
        "an error is not kept",
    ),
    "static: gzip": ("gzip",),
    "static: Brotli": ("brotli",),
    "304, ranges": ("304", "ranges"),
    "uploads": ("media",),
    "protected": (
        *("let out", "let out: HEAD", "let out: ranges", "let out: 304", "let out: names"),
        *("not directly", "not outside", "client's own field"),
    ),
    "links out of the directory": ("media: links", "let out: links"),
    "login": ("login",),
}
"""Every check, by the column of docs/fronts.md that it is a part of."""
