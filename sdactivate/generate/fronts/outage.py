"""Error pages, the maintenance switch and the access log: what a front can't do, and what to know.

The three are of one kind: what people see while the application is away or slow.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sdactivate.access.only_root import others_on
from sdactivate.errors import Error
from sdactivate.fronts import Front
from sdactivate.generate.fronts.options import lies_in

CODES = (502, 503, 504)
"""What a front says of an application that it can't reach, or that is silent (RFC 9110, 15.6)."""

RETRY_AFTER = 300
"""Seconds after which a client may ask again, in maintenance (RFC 9110, section 10.2.3)."""

_OPEN = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  (named to be refused)


@dataclass(frozen=True)
class Outage:
    """The options of one site, as paths; "" is one that was not given."""

    error_pages: str
    """The directory of 502.html, 503.html and 504.html."""
    switch: str
    """The file by whose presence the site is in maintenance."""
    log: str
    """The access log."""

    def pages(self, front: Front) -> tuple[int, ...]:
        """Return the statuses that `front` is told a page for.

        Of a front that reads pages at its start, those whose page is there now: it would not start
        without one. Another front words an error itself while its page is missing.
        """
        if not self.error_pages or not front.pages_at_start:
            return CODES if self.error_pages else ()
        return tuple(code for code in CODES if os.path.isfile(f"{self.error_pages}/{code}.html"))

    def conflicts(self, front: Front, written: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield what can't be done, as option and reason.

        written: directories that the site may write, and the front serves.
        """
        for option, path in (
            ("error-pages", self.error_pages),
            ("maintenance", self.switch),
            ("front-log", self.log),
        ):
            if not path:
                continue
            if why := front.not_outage.get(option):
                yield f"--{option}", why
            elif path == "/":
                yield f"--{option} /", "name a file, and with --error-pages a directory below it"
            elif any(lies_in(path, it) for it in _OPEN):
                yield (
                    f"--{option} {path}",
                    "everyone can write there, and a front with PrivateTmp=yes has a directory of "
                    "its own; name one that only root can write",
                )
            elif any(lies_in(path, it) for it in written):
                yield (
                    f"--{option} {path}",
                    "that is a directory of --media, which the site writes and the front serves; "
                    "name one that only root can write",
                )
        if self.error_pages and front.pages_at_start:
            for path in self._all_pages():
                for place, who in _others_on(path):
                    yield (
                        f"--error-pages {self.error_pages}",
                        f"{front.title} reads the pages as root, and others can change {place} "
                        f"({who}): by a link there every client could read any file of root's; "
                        "name a directory that only root can write",
                    )

    def _all_pages(self) -> tuple[str, ...]:
        return tuple(f"{self.error_pages}/{code}.html" for code in CODES)

    def warnings(self, front: Front, behind: bool, logs: str) -> Iterator[str]:
        """Yield what the administrator has to know, a sentence each.

        behind: whether an HTTP proxy is in front of the front. logs: the front's own directory of
        logs; "": not known.
        """
        if self.error_pages and (missing := sorted({*CODES} - {*self.pages(front)})):
            yield (
                f"--error-pages: {front.title} reads the pages at its start, and "
                f"{self.error_pages} has no {', '.join(f'{code}.html' for code in missing)}: it "
                "uses its own. Generate again when that is there"
            )
        if self.log and not front.checks_as_itself and os.path.dirname(self.log) != logs:
            yield from (
                f"--front-log {self.log}: {front.title} opens it as root, and others can change "
                f"{place} ({who}): by a link there root would write to any file. Keep it in "
                f"{logs or 'a directory that only root can write'}"
                for place, who in _others_on(self.log)
            )
        if self.log and behind and front.name == "caddy":
            yield (
                "--front-log: Caddy 2.6 logs the balancer's address as remote_ip; the client's is "
                "in X-Forwarded-For of the same line, as --behind says"
            )


def _others_on(path: str) -> list[tuple[str, str]]:
    """What of `path` others than root can change, and who; nothing where that can't be seen."""
    try:
        return [(node.path, who) for node, who in others_on(path)][:1]
    except Error:
        return []
