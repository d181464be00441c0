"""Error pages, the maintenance switch and the access log: checks and warnings for each front.

All three are about times when the application is unavailable or slow.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sdactivate.access.only_root import others_on
from sdactivate.errors import Error
from sdactivate.fronts import Front
from sdactivate.generate.fronts.options import lies_in

CODES = (502, 503, 504)
"""The statuses for an application that the front can't reach or that does not answer (RFC 9110,
15.6)."""

RETRY_AFTER = 300
"""Retry-After in maintenance, in seconds (RFC 9110, section 10.2.3)."""

_OPEN = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  (named to be refused)


@dataclass(frozen=True)
class Outage:
    """The options of one site, as paths; "" if an option was not given."""

    error_pages: str
    """The directory of 502.html, 503.html and 504.html."""
    switch: str
    """The file that puts the site into maintenance while it exists."""
    log: str
    """The access log."""

    def pages(self, front: Front) -> tuple[int, ...]:
        """Return the statuses for which `front` is configured to send a page.

        For a front that reads the pages at its start, only those whose page exists now, since it
        would not start without one. Other fronts send their own error page while a page is missing.
        """
        if not self.error_pages or not front.pages_at_start:
            return CODES if self.error_pages else ()
        return tuple(code for code in CODES if os.path.isfile(f"{self.error_pages}/{code}.html"))

    def conflicts(self, front: Front, written: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each option that can't be used, with the reason.

        written: directories that the site may write to and the front serves.
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
                yield (
                    f"--{option} /",
                    "this is the root directory; name a file (--error-pages: a directory) in it",
                )
            elif any(lies_in(path, it) for it in _OPEN):
                yield (
                    f"--{option} {path}",
                    "every user can write there, and a front with PrivateTmp=yes does not see "
                    "that directory; use one that only root can write",
                )
            elif any(lies_in(path, it) for it in written):
                yield (
                    f"--{option} {path}",
                    "that is a directory of --media, which the site can write and the front "
                    "serves; use one that only root can write",
                )
        if self.error_pages and front.pages_at_start:
            for path in self._all_pages():
                for place, who in _others_on(path):
                    yield (
                        f"--error-pages {self.error_pages}",
                        f"{front.title} reads the pages as root, and other users can change "
                        f"{place} ({who}): with a link there, every client could read any file of "
                        "root; use a directory that only root can write",
                    )

    def _all_pages(self) -> tuple[str, ...]:
        return tuple(f"{self.error_pages}/{code}.html" for code in CODES)

    def warnings(self, front: Front, behind: bool, logs: str) -> Iterator[str]:
        """Yield warnings for the administrator, one sentence each.

        behind: whether an HTTP proxy is in front of the front. logs: the front's own log directory;
        "": unknown.
        """
        if self.error_pages and (missing := sorted({*CODES} - {*self.pages(front)})):
            yield (
                f"--error-pages: {front.title} reads the pages at its start, and "
                f"{self.error_pages} has no {', '.join(f'{code}.html' for code in missing)}: it "
                "sends its own. Generate again when the page exists"
            )
        if self.log and not front.checks_as_itself and os.path.dirname(self.log) != logs:
            yield from (
                f"--front-log {self.log}: {front.title} opens it as root, and other users can "
                f"change {place} ({who}): with a link there, root would write to any file. Put it "
                f"in {logs or 'a directory that only root can write'}"
                for place, who in _others_on(self.log)
            )
        if self.log and behind and front.name == "caddy":
            yield (
                "--front-log: Caddy 2.6 logs the load balancer's address as remote_ip; the "
                "client's address is in X-Forwarded-For of the same line"
            )


def _others_on(path: str) -> list[tuple[str, str]]:
    """Return the part of `path` that users other than root can change, and who they are."""
    try:
        return [(node.path, who) for node, who in others_on(path)][:1]
    except Error:
        return []
