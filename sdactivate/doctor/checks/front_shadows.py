"""Checks on the running system: a line of a front's that takes requests meant for another."""

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.access_logs import NOT_FOUND, answered
from sdactivate.doctor.checks.front_requests import logged_since_change, renewed
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.checks.static_files import Served, served_from
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.nginx_locations import locations
from sdactivate.doctor.sent_paths import proxy_pass


def taken(case: Case) -> Iterator[Hit]:
    """Files that Apache passes on, and pages that nginx looks for among its files."""
    yield from _passed_on(case)
    yield from _kept_back(case)


# -- Apache: ProxyPass goes before Alias -----------------------------------------------------------


def _passed_on(case: Case) -> Iterator[Hit]:
    """An Alias below a ProxyPass, whatever their order: nothing reaches it."""
    for served in served_from(case):
        way = served.way
        passes = _passes(served) if way.front == "apache" else None
        if passes is None:
            continue
        since = renewed(case, way.installed)
        lost = [
            it.path
            for it in answered(case, way.installed, since)
            if it.status == NOT_FOUND
            and it.path.startswith(served.prefix)
            and _is_file(served.directory, it.path.removeprefix(served.prefix))
        ]
        if lost:
            prefix = served.prefix.rstrip("/")
            yield Hit(
                way.installed.packaging.unit,
                f"ProxyPass {passes[0]} ({way.file}, line {passes[1]}) passes {served.prefix} on "
                f"too, so that the Alias for it ({served.place}) is never reached: {lost[-1]} was "
                f"answered 404 ({common.times(len(lost))} in the last hour), and the file is in "
                f"{served.directory}",
                Advice(f"add ProxyPass {prefix}/ ! above line {passes[1]} of {way.file}"),
                way.unit,
                then=way.renewed,
                path=served.directory,
            )


def _is_file(directory: str, path: str) -> bool:
    """Return whether a path of a request is a file of the directory, and of no other."""
    name = unquote(path).lstrip("/")
    return ".." not in name.split("/") and os.path.isfile(os.path.join(directory, name))


def _passes(served: Served) -> tuple[str, int] | None:
    """Return the ProxyPass that takes the requests for files, with its line; None if none does."""
    hit = proxy_pass(served.way.text, served.prefix)
    if hit is None or hit["target"] == "!":
        return None
    return hit["prefix"], served.way.first + served.way.text.count("\n", 0, hit.start())


# -- nginx: a regular expression goes before a prefix ----------------------------------------------

_ELSEWHERE = re.compile(r"\b(?:\w+_pass|alias|return|rewrite|try_files|error_page)\b")
_NOT_THERE = re.compile(
    r'open\(\) "(?P<file>/[^"]+)" failed \(2: .*?, server: (?P<server>[^,]*), '
    r'request: "\S+ (?P<path>/[^\s?"]*)[^"]*", host'
)
_STRAY = re.compile(r"favicon|robots\.txt|apple-touch|\.php|/wp-|\.well-known|/\.")
"""What strangers and browsers ask every site for."""


def _kept_back(case: Case) -> Iterator[Hit]:
    """A location for names of files, without files: what the application would have answered."""
    told: set[tuple[str, int]] = set()
    for way in ways(case):
        if way.front != "nginx":
            continue
        missed = _missed(case, way)
        for found in locations(way.text) if missed else ():
            line = way.first + way.text.count("\n", 0, found.start)
            lost = [it for it in missed if found.how in ("~", "~*") and found.matches(it)]
            if not lost or _ELSEWHERE.search(found.text) or (way.file, line) in told:
                continue
            told.add((way.file, line))
            yield Hit(
                way.installed.packaging.unit,
                f"{found.name} ({way.file}, line {line}) takes "
                f"{lost[-1]} from the application: nginx looks for a file, which is not there, and "
                f"answers 404 ({common.times(len(lost))} in the last hour)",
                Advice(
                    f"remove that location, or pass on what is no file: try_files $uri @site; in "
                    f"it, and a location @site with the lines of {way.place}"
                ),
                way.unit,
                then=way.renewed,
            )


def _missed(case: Case, way: Way) -> list[str]:
    """Return the paths for which nginx has looked in directories that are not there.

    A file that is missing among others may be one that a stranger has asked for.
    """
    lines = logged_since_change(case, way.installed)
    first = way.names[0] if way.names else ""
    found = [it for it in map(_NOT_THERE.search, lines) if it and it["server"] == first]
    lost = [it["path"] for it in found if not os.path.isdir(os.path.dirname(it["file"]))]
    return [it for it in lost if not _STRAY.search(it)]
