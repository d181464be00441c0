"""Checks on the running system: paths that a front joins badly, or refuses by itself."""

import re
from collections.abc import Iterator

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.access_logs import NOT_FOUND, answered
from sdactivate.doctor.checks.front_requests import Passing, passings
from sdactivate.doctor.checks.front_ways import Way, rest, ways
from sdactivate.doctor.finding import Advice, Case, Hit

_APACHE_PASS = re.compile(
    r'^[ \t]*ProxyPass[ \t]+"?(?P<prefix>/[^\s"]*)"?[ \t]+"?(?P<target>[^\s"!]+)', re.MULTILINE
)


def badly_joined(case: Case) -> Iterator[Hit]:
    """A path is what is left of the client's behind the address: both must end with /, or none."""
    for passing in passings(case):
        if passing.protocol == "http" and (found := _by_nginx(passing)):
            prefix, address, path = found
            yield Hit(
                passing.installed.packaging.unit,
                _because("nginx", passing.place, prefix, path),
                Advice(
                    f"write location {prefix}/ in the server of {passing.place}"
                    if path.endswith("/")
                    else f"write proxy_pass {address}{path}/; in {passing.place}"
                ),
                passing.unit,
                then=passing.then,
            )
    told: set[tuple[str, int]] = set()
    for way in ways(case):
        for prefix, target, path, line in _by_apache(way) if way.front == "apache" else ():
            if (way.file, line) in told:
                continue
            told.add((way.file, line))
            place = f"{way.file}, line {line}"
            yield Hit(
                way.installed.packaging.unit,
                _because("Apache", place, prefix, path),
                Advice(
                    f"write ProxyPass {prefix}/ {target} in {place}"
                    if path.endswith("/")
                    else f"write ProxyPass {prefix} {target}/ in {place}, and the same in "
                    "ProxyPassReverse"
                ),
                way.unit,
                then=way.renewed,
            )


def _because(title: str, place: str, prefix: str, path: str) -> str:
    asked = f"{prefix.rstrip('/')}/page"
    if not path:
        what = "the server's address with the path glued to it, which is no address"
    else:
        what = path + asked[len(prefix) :]
    return (
        f"{title} replaces {prefix} by {path or 'nothing'} ({place}), and one of them ends with a "
        f"slash: a request for {asked} becomes {what}"
    )


def _is_bad(prefix: str, path: str) -> bool:
    return prefix.endswith("/") != path.endswith("/")


def _by_nginx(it: Passing) -> tuple[str, str, str] | None:
    """Return a location's prefix, the server's address and the path that replaces the prefix."""
    prefix = it.prefix
    if not prefix or "$" in it.target:
        return None
    scheme, _, rest = it.target.partition("://")
    if rest.startswith("unix:"):
        socket, colon, path = rest.removeprefix("unix:").partition(":")
        address = f"{scheme}://unix:{socket}{colon}"
    else:
        host, slash, path = rest.partition("/")
        address, path = f"{scheme}://{host}", slash + path
    # Without a path of its own, nginx passes on the client's as it is
    return (prefix, address, path) if path and _is_bad(prefix, path) else None


def _by_apache(way: Way) -> Iterator[tuple[str, str, str, int]]:
    """Yield the prefix, the target and its path of each ProxyPass of a way, and its line."""
    names = way.upstream.path or f":{way.upstream.port}"
    for hit in _APACHE_PASS.finditer(way.text):
        prefix, target = hit["prefix"], hit["target"]
        at = target.partition("|")[2] or target
        _, slash, path = at.partition("://")[2].partition("/")
        if names in target and way.protocol == "http" and _is_bad(prefix, slash + path):
            yield prefix, target, slash + path, way.first + way.text.count("\n", 0, hit.start())


# -- encoded slashes -------------------------------------------------------------------------------

_ALLOWS = re.compile(r"^[ \t]*AllowEncodedSlashes[ \t]+(?:On|NoDecode)\b", re.MULTILINE | re.I)
_ENCODED = re.compile(r"%2f", re.IGNORECASE)
_PROBES = re.compile(r"\.\.|%2e|%00|^/+%2f", re.IGNORECASE)
"""What strangers ask for, and no page links to."""


def encoded_slashes(case: Case) -> Iterator[Hit]:
    """Apache answers 404 for each path with %2F, and does not ask the application."""
    told: set[tuple[str, str]] = set()
    for way in ways(case):
        text = f"{way.text}\n{rest(case, way.installed)}"
        if way.front != "apache" or (way.file, way.text) in told or _ALLOWS.search(text):
            continue
        told.add((way.file, way.text))
        since = case.running.since(way.installed.packaging.unit)
        refused = [
            it.path
            for it in answered(case, way.installed, since)
            if it.status == NOT_FOUND and _ENCODED.search(it.path) and not _PROBES.search(it.path)
        ]
        if refused:
            yield Hit(
                way.installed.packaging.unit,
                f"Apache answers 404 for each path with an encoded slash, and does not pass it on "
                f"to the application ({way.place}): {refused[-1]} ({common.times(len(refused))} in "
                "the last hour)",
                Advice(
                    f"add AllowEncodedSlashes NoDecode to the virtual host of {way.place}, and "
                    "nocanon behind the address of its ProxyPass"
                ),
                way.unit,
                then=way.renewed,
            )
