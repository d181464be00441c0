"""Which files an include of a front's configuration means.

glob(7) in any part of the path, and with Apache the files of a directory as well:

    nginx     https://nginx.org/en/docs/ngx_core_module.html#include
    Apache    https://httpd.apache.org/docs/2.4/mod/core.html#include
    lighttpd  https://redmine.lighttpd.net/projects/lighttpd/wiki/Docs_Configuration
    Caddy     https://caddyserver.com/docs/caddyfile/directives/import
"""

import contextlib
import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sdactivate.errors import Error

At = Callable[[str], Path]
"""Where an absolute path of the front's system is from here: `Path` on this host."""

UNREADABLE = (OSError, ValueError, Error)
"""What there is to catch of a path that somebody has written: a NUL in it, a loop of links."""

_WILD = re.compile(r"[*?[]")
_LONGEST_PATH, _LONGEST_NAME = 4096, 255
_MOST_LEVELS = 20
"""Directories below an included one: Apache's own limit, AP_MAX_INCLUDE_DIR_DEPTH."""
_MOST_NAMES = 20_000
"""Includes and names that are looked at for one configuration: whatever it says, that ends."""


class Includes:
    """The files that includes of one configuration mean.

    planned: files that are to be there, by path.
    with_directories: whether a directory stands for all files in it (Apache).
    """

    def __init__(self, at: At, planned: Iterable[str], with_directories: bool) -> None:
        self._at, self._planned = at, tuple(planned)
        self._with_directories = with_directories
        self._left = _MOST_NAMES
        self._known: dict[str, list[str]] = {}

    def files(self, pattern: str) -> list[str]:
        """Return the paths that an absolute `pattern` means, in the order in which they are read.

        A path without wildcards is returned whether there is such a file or not.
        """
        self._left -= 1
        if self._left <= 0 or len(pattern) > _LONGEST_PATH:
            return []
        found = ["/"]
        for part in filter(None, os.path.normpath(pattern).split("/")):
            if _WILD.search(part):
                found = [os.path.join(each, it) for each in found for it in self._fit(each, part)]
            else:
                found = [os.path.join(each, part) for each in found]
        return [path for each in found for path in self._all_of(each, _MOST_LEVELS)]

    def _fit(self, folder: str, pattern: str) -> list[str]:
        """The names in a directory that fit a pattern: one with a dot only where it begins so."""
        if len(pattern) > _LONGEST_NAME:
            return []
        try:
            fits = re.compile(fnmatch.translate(pattern)).match
        except re.error:  # [z-a], before Python 3.10.3
            return []
        return [
            name
            for name in self._names(folder)
            if fits(name) and (name[0] != "." or pattern[0] == ".")
        ]

    def _all_of(self, path: str, levels: int) -> Iterator[str]:
        """A file itself; where that counts, all files of a directory."""
        if self._with_directories and levels and self._is_directory(path):
            for name in self._names(path):
                yield from self._all_of(os.path.join(path, name), levels - 1)
        else:
            yield path

    def _is_directory(self, path: str) -> bool:
        if self._left <= 0 or path in self._planned:
            return False
        self._left -= 1
        if any(each.startswith(f"{path}/") for each in self._planned):
            return True
        try:
            return self._at(path).is_dir()
        except UNREADABLE:
            return False

    def _names(self, folder: str) -> Iterator[str]:
        """The names in a directory, in order, as long as any may be looked at."""
        prefix = folder.rstrip("/") + "/"
        if folder not in self._known:
            self._left -= 1
            names = {
                each[len(prefix) :].partition("/")[0]
                for each in self._planned
                if each.startswith(prefix)
            }
            with contextlib.suppress(*UNREADABLE):
                names.update(os.listdir(self._at(folder)) if self._left > 0 else ())
            self._known[folder] = sorted(names)
        for name in self._known[folder]:
            if self._left <= 0:
                return
            self._left -= 1
            yield name
