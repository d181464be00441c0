"""Checks on the running system: files that a front serves itself but can't reach or find."""

import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from sdactivate.access import words
from sdactivate.access.permissions import SEARCH, Verdict, judge
from sdactivate.access.processes import Process
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.access_logs import NOT_FOUND, answered
from sdactivate.doctor.checks.front_requests import logged_since_change, site_settings
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.checks.live_fronts import own_servers
from sdactivate.doctor.django_settings import Settings
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.host_state import HostState, InstalledFront
from sdactivate.doctor.private import grant
from sdactivate.errors import Error

_SERVES: Mapping[str, re.Pattern[str]] = {
    "nginx": re.compile(r"(?:^|[;{])\s*(?:alias|root)\s+[\"']?(/[^;\"'$]+)", re.MULTILINE),
    "apache": re.compile(r"^\s*(?:Alias\s+\S+|DocumentRoot)\s+\"?(/[^\s\"$]+)", re.MULTILINE),
    "caddy": re.compile(r"^\s*root\s+(?:\*\s+)?(/[^\s{}]+)", re.MULTILINE),
}
"""How each front's configuration names a directory of files."""


def served_by_fronts(case: Case) -> Iterator[tuple[InstalledFront, str, str, int, str]]:
    """Yield each directory whose files a front serves itself.

    Only of servers that also pass requests to the deployment. Yields the front, the directory, the
    file and line that name it, and the deployment's unit.
    """
    for installed, server, unit, _ in own_servers(case):
        pattern = _SERVES.get(installed.front.name)
        for found in pattern.finditer(server.text) if pattern else ():
            line = server.line + server.text.count("\n", 0, found.start(1))
            yield installed, found[1].strip(), server.file, line, unit


def unreadable(case: Case) -> Iterator[Hit]:
    told: set[tuple[str, str]] = set()
    for installed, path, file, line, unit in served_by_fronts(case):
        verdict = next(
            filter(None, map(partial(_refusal, case.running, path), installed.workers)), None
        )
        if verdict is None or verdict.node is None:
            continue
        if (place := (installed.packaging.unit, verdict.node.path)) not in told:
            told.add(place)
            yield _unreadable(installed, path, verdict, file, line, unit)
    yield from _denied_by_apache(case)


_DENIED = re.compile(r"AH01630: client denied by server configuration: (?P<path>/\S+)")


def _denied_by_apache(case: Case) -> Iterator[Hit]:
    """Directories of Apache's for which no <Directory> grants access."""
    for served in served_from(case):
        if served.way.front != "apache":
            continue
        lines = logged_since_change(case, served.way.installed)
        paths = [it["path"].rstrip(",") for it in map(_DENIED.search, lines) if it]
        hits = [it for it in paths if common.under(it, served.directory)]
        if not hits or re.search(
            rf'<Directory[^>]*"?{re.escape(served.directory)}', served.way.text
        ):
            continue
        yield Hit(
            served.way.installed.packaging.unit,
            f"Apache serves {served.prefix} from {served.directory} ({served.place}), but nothing "
            f"grants access to that directory: it has answered 403 {common.times(len(hits))} in "
            f"the last hour (client denied by server configuration: {hits[-1]})",
            Advice(
                f"add <Directory {served.directory}> Require all granted </Directory>, on a line "
                f"each, to the virtual host of {served.place}, then {served.way.renewed}"
            ),
            served.way.unit,
            path=served.directory,
        )


def _refusal(host: HostState, path: str, process: Process) -> Verdict | None:
    try:
        verdict = judge(host.way(path, process.root, SEARCH), process.identity)
    except (Error, OSError):
        return None
    return None if verdict.allowed or verdict.by == "error" else verdict


def _unreadable(
    installed: InstalledFront, path: str, verdict: Verdict, file: str, line: int, unit: str
) -> Hit:
    front, packaging, node = installed.front, installed.packaging, verdict.node
    assert node is not None
    stands = f"{words.user(node.uid)}:{words.group(node.gid)} {words.mode(node)}"
    return Hit(
        packaging.unit,
        f"{front.title} ({installed.user}) can't reach the files in {path} that it has to serve "
        f"({file}, line {line}): {node.path}: {words.answer(verdict)} ({stands})",
        grant(
            ("setfacl", "-m", f"g:{installed.group}:x"),
            node.path,
            f"{node.path} is private: move the files elsewhere, such as "
            f"/var/www/{unit.rpartition('.')[0]} (Django: STATIC_ROOT, then collectstatic), write "
            f"that directory in {file}, line {line}, then systemctl {front.renew} {packaging.unit}",
        ),
        unit,
        path=node.path,
    )


# -- files that are elsewhere ----------------------------------------------------------------------


class Served(NamedTuple):
    """Files that a front serves by a path of its addresses, from a directory."""

    way: Way
    prefix: str
    directory: str
    line: int
    word: str
    """The directive that names the directory."""
    is_glued: bool = False
    """Whether only the prefix ends with a slash, so that a file's name is put right behind the
    directory's."""

    @property
    def place(self) -> str:
        """The file and the line, for people."""
        return f"{self.way.file}, line {self.line}"

    def written(self, directory: str) -> str:
        """Return how the front is told to serve the path from another directory."""
        slash = "/" if self.prefix.endswith("/") else ""
        return {
            "alias": f"alias {directory}{slash};",
            "root": f"alias {directory}{slash}; instead of root",
            "Alias": f"Alias {self.prefix} {directory}{slash}",
            "alias.url": f'"{self.prefix}" => "{directory}{slash}"',
        }.get(self.word, f"root * {directory}")


_PLACES: Mapping[str, tuple[re.Pattern[str], ...]] = {
    "nginx": (
        re.compile(
            r"\blocation\s+(?:\^~\s*)?(?P<prefix>/[^\s{]*)\s*\{[^{}]*?(?<=[\s;{])"
            r"(?P<word>alias|root)\s+[\"']?(?P<directory>/[^;\"'$]+)"
        ),
    ),
    "apache": (
        re.compile(
            r'^[ \t]*(?P<word>Alias)[ \t]+"?(?P<prefix>/[^\s"]+)"?[ \t]+"?(?P<directory>/[^\s"$]+)',
            re.MULTILINE,
        ),
    ),
    "caddy": (
        re.compile(
            r"\bhandle_path[ \t]+(?P<prefix>/[^\s*{]+)\*[ \t]*\{[^{}]*?"
            r"(?P<word>root)[ \t]+(?:\*[ \t]+)?(?P<directory>/[^\s{}]+)"
        ),
    ),
    "lighttpd": (
        re.compile(
            r'(?P<word>alias\.url)\s*\+?=\s*\(\s*"(?P<prefix>/[^"]*)"\s*=>\s*"(?P<directory>/[^"$]+)"'
        ),
    ),
}


def served_from(case: Case) -> Iterator[Served]:
    seen = set()
    for way in ways(case):
        if (way.file, way.text) in seen:
            continue
        seen.add((way.file, way.text))
        for pattern in _PLACES.get(way.front, ()):
            for hit in pattern.finditer(way.text):
                prefix, directory = hit["prefix"], hit["directory"].strip()
                if hit["word"] == "root" and way.front == "nginx":
                    directory = directory.rstrip("/") + prefix
                line = way.first + way.text.count("\n", 0, hit.start("directory"))
                is_glued = prefix.endswith("/") and not directory.endswith("/")
                is_glued = is_glued and hit["word"] != "root"
                at = os.path.normpath(directory)
                yield Served(way, prefix, at, line, hit["word"], is_glued)


def elsewhere(case: Case) -> Iterator[Hit]:
    """Static files that are not in the directory that the front serves them from."""
    for service in common.services(case.service):
        site = site_settings(case)
        for served in served_from(case):
            if hit := _elsewhere(case, service.name, served, site):
                yield hit


_NOT_FOUND = re.compile(r'open\(\) "(?P<path>/[^"]+)" failed \(2: No such file or directory\)')


def _elsewhere(case: Case, service: str, served: Served, site: Settings | None) -> Hit | None:
    at, prefix = served.directory, served.prefix
    missing = _missing(case, served)
    root = _static_root(site, prefix)
    title = served.way.installed.front.title
    says = f"{title} serves {prefix} from {at} ({served.place})"
    renewed = f"then {served.way.renewed}"
    if served.is_glued and os.path.isdir(at):
        return _hit(
            served,
            f"{says} without a slash at the end: it looks for {prefix}site.css at {at}site.css, "
            "and answers 404",
            f"write {served.written(at)} in {served.place}, {renewed}",
        )
    if site and root and os.path.realpath(root) != os.path.realpath(at):
        there = [it for it in missing if os.path.exists(f"{root}/{os.path.relpath(it, at)}")]
        if there or not os.path.isdir(at) or _lacks_admin(site, at):
            return _hit(
                served,
                f"{says}, but collectstatic puts Django's files into {root} (STATIC_ROOT in "
                f"{site.file}){not_found(missing)}",
                f"{to_collect(site, root)}write {served.written(root)} in {served.place}, "
                f"{renewed}",
            )
        return None
    if site and root and _lacks_admin(site, at):
        return _hit(
            served,
            f"{says}, where Django's own files are missing: collectstatic has not been run since "
            f"django.contrib.admin was installed{not_found(missing)}",
            f"run python manage.py collectstatic in the site ({service})",
        )
    doubled = _doubled(served, missing)
    if doubled:
        return _hit(
            served,
            f"{says}, where the last part of the path is twice{not_found(missing)}; the files are "
            f"in {doubled}",
            f"write {served.written(doubled)} in {served.place}, {renewed}",
        )
    if missing and not os.path.isdir(at):
        return _hit(
            served,
            f"{says}, which does not exist: every file there is answered 404",
            f"create {at} with the files, or correct the directory in {served.place}, {renewed}",
        )
    return None


def _hit(served: Served, because: str, fix: str) -> Hit:
    return Hit(
        served.way.installed.packaging.unit,
        because,
        Advice(fix),
        served.way.unit,
        path=served.directory,
    )


def not_found(missing: list[str]) -> str:
    """Return the end of a sentence: the last of the files that were asked for; "" for none."""
    return f"; it did not find {missing[-1]} ({common.times(len(missing))})" if missing else ""


def _missing(case: Case, served: Served) -> list[str]:
    """The files in the directory that a front has not found lately, and that are not there now.

    nginx's error log has them, and Apache's access log their addresses. The others log neither.
    """
    installed = served.way.installed

    def look() -> list[str]:
        lines = logged_since_change(case, installed)
        return [it["path"] for it in map(_NOT_FOUND.search, lines) if it]

    once = case.running.machine.once
    named = once(("not found", installed.packaging.unit), look)
    if served.way.front == "apache":
        asked = (it.path for it in answered(case, installed) if it.status == NOT_FOUND)
        of = [it for it in asked if it.startswith(served.prefix)]
        named = [f"{served.directory}/{it.removeprefix(served.prefix).lstrip('/')}" for it in of]
    inside = [it for it in named if common.under(it, served.directory)]
    return [it for it in inside if not os.path.exists(it)]


def _static_root(site: Settings | None, prefix: str) -> str:
    """Django's STATIC_ROOT, where a front serves STATIC_URL by `prefix`; "" for another path."""
    if site is None:
        return ""
    url, root = site.text("STATIC_URL"), site.text("STATIC_ROOT")
    same = url.strip("/") == prefix.strip("/") and bool(url)
    return os.path.normpath(root) if same and root.startswith("/") else ""


def to_collect(site: Settings, root: str) -> str:
    """Return the beginning of a fix: fill STATIC_ROOT; "" if it has the files."""
    is_filled = os.path.isdir(root) and not _lacks_admin(site, root)
    return "" if is_filled else "run python manage.py collectstatic in the site, "


def _lacks_admin(site: Settings, directory: str) -> bool:
    """Whether a site has Django's admin, and a directory does not have its files."""
    if "django.contrib.admin" not in site.words("INSTALLED_APPS"):
        return False
    return not os.path.isdir(os.path.join(directory, "admin"))


def _doubled(served: Served, missing: list[str]) -> str:
    """Where nginx's root ends with the location's own path: the directory without the second."""
    if served.word != "root" or not missing or served.way.front != "nginx":
        return ""
    shorter = served.directory.removesuffix(served.prefix.rstrip("/"))
    if not shorter.endswith(served.prefix.rstrip("/")):
        return ""
    rel = os.path.relpath(missing[-1], served.directory)
    return shorter if os.path.exists(os.path.join(shorter, rel)) else ""
