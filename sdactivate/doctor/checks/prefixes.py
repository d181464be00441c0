"""Checks on the running system: the path that the application thinks it is at."""

import re
from collections.abc import Iterator

from sdactivate.doctor import variables
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.access_logs import NOT_FOUND, answered
from sdactivate.doctor.checks.front_requests import (
    Passing,
    application,
    logged_since_change,
    passings,
    site_settings,
)
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.finding import Advice, Case, Hit, Lines, restart
from sdactivate.front_scopes import innermost
from sdactivate.systemd.unitfile import Unit

# -- a prefix that the front removes ---------------------------------------------------------------

_HEADERS = re.compile(
    r"script[-_]name|x-forwarded-prefix|x-script-name|x-forwarded-path|x-ingress-path|root-path",
    re.IGNORECASE,
)
_SAYS = re.compile(
    r"script_name=|root_path|application_root|forwarded_prefix|url_prefix|base_?url|base_?path",
    re.IGNORECASE,
)
"""What a service's command or variables have in them where they tell a prefix."""
_KNOWS = re.compile(
    r"SCRIPT_NAME[\"']\]\s*=(?!=)|root_path|application_root|forwarded[-_]prefix|x_prefix|"
    r"url_prefix|proxyfix|reverseproxied|base_?url|base_?path|path_?prefix|prefix_?middleware",
    re.IGNORECASE,
)
"""What an application's module has in it that sets its prefix by itself, in some way. One that only
reads SCRIPT_NAME has to be told."""
_OPTIONS = ("--root-path", "--url-prefix", "--mount", "--manage-script-name", "--url_prefix")
_TOLD_BY: dict[str, str] = {
    "gunicorn": "set Environment=SCRIPT_NAME={prefix} in [Service] of {unit}",
    "uvicorn": "add --root-path {prefix} to ExecStart= of {unit}",
    "hypercorn": "add --root-path {prefix} to ExecStart= of {unit}",
    "daphne": "add --root-path {prefix} to ExecStart= of {unit}",
    "waitress": "add --url-prefix={prefix} to ExecStart= of {unit}",
    "uwsgi": "set mount = {prefix}=MODULE and manage-script-name = true in uWSGI's configuration",
}
"""How each server tells its application the prefix, where the front leaves it in the path."""


def not_told(case: Case) -> Iterator[Hit]:
    """A front that removes a prefix from the path, and tells nobody."""
    told: set[tuple[str, int]] = set()
    for service in common.services(case.service):
        if not common.is_ours(service):
            yield from _removed_twice(case, service)
            yield from _added_twice(case, service)
        if common.is_ours(service) or _is_told(case, service):
            continue
        yield from _kept(case, service)
        for way in ways(case):
            found = _removed(case, way)
            if found is None or (way.file, way.line) in told:
                continue
            prefix, keeps = found
            if not _has_links(case, service, way, prefix):
                continue
            told.add((way.file, way.line))
            name = common.server(service)
            server = _TOLD_BY.get(name, "tell the application the prefix {prefix} (SCRIPT_NAME)")
            yield Hit(
                way.installed.packaging.unit,
                f"{way.installed.front.title} passes {prefix}/ on without {prefix} ({way.place}), "
                f"and nothing tells the application: its links and redirects start with / and "
                f"lead out of {prefix}/, to 404",
                Advice(
                    f"leave the prefix in the path ({keeps}), then {way.renewed}; and "
                    f"{server.format(prefix=prefix, unit=service.name)}"
                ),
                way.unit,
                then=f"systemctl daemon-reload && {restart(service.name)}",
            )


_MAPS = re.compile(r'"map-urlpath"\s*=>\s*\(\s*"(?P<prefix>/[^"]+)/"\s*=>\s*"/"')
_TOLD_BY_LIGHTTPD = re.compile(
    r'"(?:X-Script-Name|X-Forwarded-Prefix)"\s*=>\s*"(?P<prefix>/[^"]+)"', re.I
)


def _added_twice(case: Case, service: Unit) -> Iterator[Hit]:
    """map-urlpath adds the prefix to redirects, where the application has put it already."""
    module = application(case, service)
    if module is None or not _HEADERS.search(module[1]):
        return
    for way in ways(case):
        found = _MAPS.search(way.text) if way.front == "lighttpd" else None
        told = _TOLD_BY_LIGHTTPD.search(way.text)
        if found is None or told is None or found["prefix"] != told["prefix"].rstrip("/"):
            continue
        prefix = found["prefix"]
        yield Hit(
            way.installed.packaging.unit,
            f"lighttpd's map-urlpath ({way.place}) adds {prefix} to the application's redirects, "
            f"and the application, which is told the prefix, has it there already: they lead to "
            f"{prefix}{prefix}/, to 404",
            Advice(
                f'add url.rewrite-once = ( "^{prefix}{prefix}/(.*)" => "{prefix}/$1" ) to '
                f'{way.file}, and "mod_rewrite" to server.modules'
            ),
            way.unit,
            then=f"systemctl restart {way.installed.packaging.unit}",
        )
        return


_ERRORS = 400  # and above: statuses of errors


def _kept(case: Case, service: Unit) -> Iterator[Hit]:
    """A prefix that stays in the path of an application that does not know it: only 404 below."""
    module = application(case, service)
    if module is None:
        return
    for it in passings(case):
        prefix = it.prefix.rstrip("/")
        last = prefix.rpartition("/")[2]
        _, _, address = it.target.partition("://")
        has_path = "/" in address and not address.startswith("unix:")
        if not last or it.protocol != "http" or has_path or _tells(it) or last in module[1]:
            continue
        since = case.running.since(it.installed.packaging.unit, service.name)
        statuses = [
            one.status
            for one in answered(case, it.installed, since)
            if one.path == prefix or one.path.startswith(f"{prefix}/")
        ]
        if NOT_FOUND not in statuses or min(statuses) < _ERRORS:
            continue
        name = common.server(service)
        told = _TOLD_BY.get(name, "tell the application the prefix {prefix} (SCRIPT_NAME)")
        lines = (f"Environment=SCRIPT_NAME={prefix}",)
        yield Hit(
            it.installed.packaging.unit,
            f"{it.installed.front.title} passes {prefix}/ on with {prefix} in the path "
            f"({it.place}), and nothing tells the application: it has answered each request below "
            f"{prefix} with 404 ({common.times(statuses.count(NOT_FOUND))} in the last hour)",
            Lines(service.name, "Service", lines)
            if name == "gunicorn"
            else Advice(told.format(prefix=prefix, unit=service.name)),
            it.unit,
        )


def _removed_twice(case: Case, service: Unit) -> Iterator[Hit]:
    """gunicorn removes SCRIPT_NAME from the path itself: the front has to leave it there."""
    named = variables.value(service, "SCRIPT_NAME").rstrip("/")
    if common.server(service) != "gunicorn" or not named:
        return
    for way in ways(case):
        found = _removed(case, way)
        if found and found[0] == named:
            yield Hit(
                way.installed.packaging.unit,
                f"{way.installed.front.title} passes {found[0]}/ on without {found[0]} "
                f"({way.place}), but gunicorn expects it in the path (SCRIPT_NAME={found[0]} in "
                f"{service.name}): it answers 500",
                Advice(f"leave the prefix in the path ({found[1]})"),
                way.unit,
                then=way.renewed,
            )


_PAGES = re.compile(r"flask|django|redirect|url_for|render|template|Location|href", re.IGNORECASE)
_LINKS = re.compile(r"redirect|url_for|render|template|Location|href", re.IGNORECASE)
_API = re.compile(r"/(?:api|rest|rpc|graphql|v\d+)\b", re.IGNORECASE)
_REFERRER = re.compile(r'failed \(2: .*referrer: "\w+://[^/"]+(?P<path>/[^"]*)"')


def _has_links(case: Case, service: Unit, way: Way, prefix: str) -> bool:
    """Whether an application seems to have pages with links, or nginx has logged a broken one."""
    module = application(case, service)
    words = _LINKS if _API.search(prefix) else _PAGES
    if module and words.search(module[1]):
        return True
    lines = logged_since_change(case, way.installed) if way.front == "nginx" else []
    found = [it["path"] for it in map(_REFERRER.search, lines) if it]
    return any(it.startswith(f"{prefix}/") for it in found)


def _is_told(case: Case, service: Unit) -> bool:
    """Whether a service's command, variables, settings or application mention a prefix."""
    words = common.words(service)
    if any(word.partition("=")[0] in _OPTIONS for word in words):
        return True
    if any(_SAYS.search(it) for it in (*variables.words(service), *words)):
        return True
    module = application(case, service)
    if module is None:
        return True  # what can't be read may know it
    site = site_settings(case)
    return _KNOWS.search(module[1]) is not None or (
        site is not None and ("FORCE_SCRIPT_NAME" in site.bound or not site.is_whole)
    )


_CADDY_PATH = re.compile(r"\bhandle_path[ \t]+(/[^\s*{]+?)/?\*[ \t]*\{(?P<body>[^{}]*)\}")
_APACHE_PASS = re.compile(r'^[ \t]*ProxyPass[ \t]+"?(/[^\s"]+)"?[ \t]+"?(\S+)', re.MULTILINE)


def _removed(case: Case, way: Way) -> tuple[str, str] | None:
    """The prefix that a front removes on a way, and how it would not; None without one."""
    if way.front == "nginx":
        for it in passings(case):
            if it.server.file == way.file and it.line == way.line and it.protocol == "http":
                return _by_nginx(it)
    names = way.upstream.path or f":{way.upstream.port}"
    if way.front == "apache" and way.protocol == "http" and not _HEADERS.search(way.text):
        for hit in _APACHE_PASS.finditer(way.text):
            prefix, target = hit[1].rstrip("/"), hit[2].strip('"')
            at = target.partition("|")[2] or target
            path = at.partition("://")[2].partition("/")[2]
            if prefix and names in target and not path:
                return prefix, f"ProxyPass {prefix} {target.rstrip('/')}{prefix}"
    if way.front == "caddy" and not _HEADERS.search(way.text):
        for hit in _CADDY_PATH.finditer(way.text):
            if names in hit["body"]:
                return hit[1], f"write handle {hit[1]}/* instead of handle_path"
    return None


def _by_nginx(it: Passing) -> tuple[str, str] | None:
    prefix = it.prefix.rstrip("/")
    scheme, _, address = it.target.partition("://")
    socket = address.startswith("unix:")
    base, slash, path = address.rpartition(":") if socket else address.partition("/")
    if socket and base in ("", "unix"):
        return None  # unix:/run/web.sock, without a path behind it
    if not prefix or not slash or path.strip("/") or "$" in it.target:
        return None
    return None if _tells(it) else (prefix, f"proxy_pass {scheme}://{base}; in {it.place}")


def _tells(it: Passing) -> bool:
    """Return whether nginx tells the application the prefix by a header field."""
    held = innermost(it.blocks, "proxy_set_header")
    return any(len(one.words) > 1 and _HEADERS.search(one.words[1]) for one in held)


# -- a name that is the whole path -----------------------------------------------------------------

_WHOLE = ("$fastcgi_script_name", "$uri", "$document_uri", "$request_uri")
_ROOT_FIXED = re.compile(r'"fix-root-scriptname"\s*=>\s*"enable"')


def name_is_path(case: Case) -> Iterator[Hit]:
    """FastCGI fronts that send the whole path as SCRIPT_NAME, as for a script of that name."""
    service = case.service
    if service is None or common.is_ours(service):
        return
    for it in passings(case):
        if it.protocol != "fastcgi":
            continue
        fields = {one.words[1]: one.words[2] for one in innermost(it.blocks, "fastcgi_param")
                  if len(one.words) > 2}  # fmt: skip
        name = fields.get("SCRIPT_NAME", "")
        if name in _WHOLE and fields.get("PATH_INFO", "") in ("", *_WHOLE):
            more = "" if fields.get("PATH_INFO") else " and fastcgi_param PATH_INFO $document_uri;"
            yield Hit(
                it.installed.packaging.unit,
                f"{it.installed.front.title} sends the whole path of a request as SCRIPT_NAME "
                f"({it.place}: {name}), as for a script of that name: the application puts it in "
                "front of its links and redirects",
                Advice(
                    f'add fastcgi_param SCRIPT_NAME "";{more} at {it.place}, below include '
                    "fastcgi_params"
                ),
                it.unit,
                then=it.then,
            )
    for way in ways(case):
        if way.front != "lighttpd" or way.protocol not in ("fastcgi", "scgi"):
            continue
        at_root = re.search(rf'{re.escape(way.word)}\s*\+?=\s*\(\s*"/"\s*=>', way.text)
        if at_root and not _ROOT_FIXED.search(way.text):
            yield Hit(
                way.installed.packaging.unit,
                f"lighttpd sends the first part of a request's path as SCRIPT_NAME ({way.place}), "
                "as for a script of that name: the application does not find its pages (404), or "
                "puts it in front of its links",
                Advice(
                    'add "check-local" => "disable" and "fix-root-scriptname" => "enable" to the '
                    f"server at {way.place}"
                ),
                way.unit,
                then=way.renewed,
            )
