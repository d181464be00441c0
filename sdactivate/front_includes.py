"""Find the files that an include directive of a front's configuration matches.

Wildcards (glob(7)) are allowed in any component of the path. For Apache, a directory stands for its
files:

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
"""Maps an absolute path of the front's system to a path here: `Path` on this host."""

UNREADABLE = (OSError, ValueError, Error)
"""Exceptions to catch for an arbitrary path: a NUL character in it, a loop of links."""

_WILD = re.compile(r"[*?[]")
_LONGEST_PATH, _LONGEST_NAME = 4096, 255
_MOST_LEVELS = 20
"""How deep directories below an included one are read: Apache's AP_MAX_INCLUDE_DIR_DEPTH."""
_MOST_NAMES = 20_000
"""Limits for one configuration, on includes and on file names examined."""


class Includes:
    """Finds the files that the includes of one configuration match.

    planned: files that will be written, by path. with_directories: whether a directory stands for
    all files in it (Apache).
    """

    def __init__(self, at: At, planned: Iterable[str], with_directories: bool) -> None:
        self._at, self._planned = at, tuple(planned)
        self._with_directories = with_directories
        self._left = _MOST_NAMES
        self._known: dict[str, list[str]] = {}

    def files(self, pattern: str) -> list[str]:
        """Return the paths that an absolute `pattern` matches, in the order in which they are read.

        A path without wildcards is returned whether or not the file exists.
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
        """The names in a directory that match a pattern; a leading dot only matches a dot."""
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
        """A file itself, or if `with_directories` is set, all files of a directory."""
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
        """The names in a directory, sorted, until the limit is reached."""
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
