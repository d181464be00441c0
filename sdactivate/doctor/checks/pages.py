"""Checks on the running system: a page that fails, asked for at the front and at the application.

The user names a page that fails (--url). It is asked for twice: at the front, as a client does, and
at the application, as the front does. Either the front does not get there (another
of its servers answers, or a place that passes nothing on), or the application answers the same by
itself, or something on the way changes the request. Then the application is asked with one change
at a time (`_changes`), of those that fronts make: the one with which it answers as the front did
is the cause. The same is done with a redirect that leads nowhere.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from sdactivate import front_config
from sdactivate.doctor import asking
from sdactivate.doctor.asking import TIMED_OUT, Answer, Page
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.doors import asked, texts
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.nginx_locations import location
from sdactivate.doctor.sent_paths import proxy_pass, sent_paths
from sdactivate.front_config import Server
from sdactivate.front_upstreams import Upstream, bare

_BESIDE = 3  # other upstreams of the same server that are asked


def fails(case: Case) -> Iterator[Hit]:
    """Why the page of --url fails."""
    if case.visit is None:
        return
    page, answer = case.visit.last
    own = ways(case)
    if not own:
        yield from _no_way(case, page, answer)
        return
    way = _nearest(own, page)
    leads = asking.redirected(page, answer)
    if answer.is_good and leads not in [it for it, _ in case.visit.steps]:
        return
    if answer.status and (rival := _rival(case, own, page)):
        yield _another_server(way, page, answer, rival)
    elif hit := _led_astray(case, own):
        yield hit
    elif answer.error == TIMED_OUT:
        yield _late(way, page)
    elif not answer.status:
        yield _nobody(way, page, answer)
    else:
        yield _compared(case, way, page, answer)


def _no_way(case: Case, page: Page, answer: Answer) -> Iterator[Hit]:
    service = case.service
    running = service and case.running.property(service.name, "ActiveState") == "active"
    if answer.is_good or service is None or not running:
        return
    yield Hit(
        service.name,
        f"{page} is answered {answer}, and no front on this host has a line that passes requests "
        f"to {service.name}",
        Advice(
            "have the front pass requests to the site's socket: sdactivate gen --front writes the "
            "lines (docs/fronts.md)"
        ),
    )


def _nobody(way: Way, page: Page, answer: Answer) -> Hit:
    title, unit = way.installed.front.title, way.installed.packaging.unit
    other = asking.on_the_other_family(page)
    also = f", but something listens there at {other}" if other else ""
    return Hit(
        unit,
        f"{page} gets no response: {answer.error}{also}",
        Advice(
            f"see whether {title} runs and listens on port {page.port}: systemctl status {unit}, "
            "ss -Hltnp"
            + f"; it needs addresses of IPv4 and IPv6 (HAProxy: bind :::{page.port} v4v6)"
            * bool(other)
        ),
        way.unit,
    )


def _late(way: Way, page: Page) -> Hit:
    title, direct = way.installed.front.title, _of_application(way, page)
    if not direct.is_good:
        return Hit(
            way.unit,
            f"{page} gets no response in {asking.SECONDS} s, and if the application is asked "
            f"directly it answers {direct}",
            Advice(f"see what it has logged, and what it waits for: journalctl -u {way.unit}"),
        )
    return _hit(
        way,
        f"{title} has sent nothing of {page} in {asking.SECONDS} s, though the application begins "
        "its response at once: the front waits until there is more of it, or all",
        f"turn buffering off for that path (nginx: proxy_buffering off;), at {way.place}",
    )


def _hit(way: Way, because: str, fix: str) -> Hit:
    unit = way.installed.packaging.unit
    return Hit(unit, because, Advice(fix), way.unit, then=way.renewed)


# -- another server of the front's -----------------------------------------------------------------


def _rival(case: Case, own: list[Way], page: Page) -> Server | None:
    """Return the server that answers for the page's host, if it is none of the site's."""
    installed = own[0].installed
    servers = case.running.machine.configuration(installed).servers
    mine = {(it.file, it.first) for it in own}
    named = [it for it in servers if page.port in it.ports and front_config.has_name(it, page.host)]
    if any((it.file, it.line) in mine for it in named):
        return None  # which of several it is depends on how they name it
    usual = front_config.default_for(installed.front, servers, page.host, page.port)
    answers = named[0] if named else usual
    return answers if answers and (answers.file, answers.line) not in mine else None


_NAMES = {"nginx": "server_name", "apache": "ServerAlias", "caddy": "the addresses"}


def _another_server(way: Way, page: Page, answer: Answer, rival: Server) -> Hit:
    front = way.installed.front
    disable = front_config.PACKAGED.get(rival.file)
    instead = f", or disable the other one: {' '.join(disable)}" if disable else ""
    return _hit(
        way,
        f"{front.title}'s server in {rival.file}, line {rival.line}, answers {page} ({answer}), "
        f"and not the site's ({way.place}): it is the one for {page.host} on port {page.port}",
        f"add {page.host} to {_NAMES.get(front.name, 'the names')} of the site's server in "
        f"{way.file}{instead}",
    )


# -- what the application answers ------------------------------------------------------------------


def _nearest(own: list[Way], page: Page) -> Way:
    """Return the way in the location that the page gets to, or else the first."""
    for way in own:
        found = location(way.text, page.path) if way.front == "nginx" else None
        if found and found.start <= _offset(way) < found.start + len(found.text):
            return way
    return own[0]


def _offset(way: Way) -> int:
    """Return where the line of a way begins in its text."""
    return sum(len(line) + 1 for line in way.text.split("\n")[: way.line - way.first])


def _of_application(way: Way, page: Page) -> Answer:
    chroot = way.installed.packaging.chroot
    path = f"{chroot}{way.upstream.path}" if way.upstream.path else ""
    told = page._replace(fields=(*page.fields, ("X-Forwarded-Proto", page.scheme)))
    return asking.of_application(told, way.protocol or "http", path, way.upstream.port)


class _Change(NamedTuple):
    """A request with one change that a front may have made, its name, and what undoes it."""

    page: Page
    what: str
    fix: str


def _changes(way: Way, page: Page) -> Iterator[_Change]:
    place = way.place
    for name, _ in page.fields:
        left = tuple(it for it in page.fields if it[0] != name)
        fix = f"have the front pass {name} on, at {place}"
        yield _Change(page._replace(fields=left), f"without the header field {name}", fix)
    if page.scheme == "https":
        fix = f"have the front tell that clients use HTTPS (X-Forwarded-Proto), at {place}"
        plain = page._replace(scheme="http", hosts=(page.authority,))
        yield _Change(plain, "as a request by http", fix)
    for host in _hosts(way, page):
        fix = f"have the front pass on the client's Host, with its port, at {place}"
        yield _Change(page._replace(hosts=(host,)), f"with Host: {host}", fix)
    for fields in (("X-Forwarded-For", "127.0.0.1"),), (("X-Forwarded-For", "127.0.0.1"),) * 2:
        fix = (
            f"have the front put one field together from the client's and its own, at {place}, or "
            "tell the application how many proxies there are"
        )
        more = page._replace(fields=(*page.fields, *fields))
        yield _Change(more, "with an X-Forwarded-For field more", fix)
    yield from _paths(way, page)
    if way.protocol == "http" and _SETS_HOST_TWICE.search(way.text):
        fix = f"remove one of the lines that set Host, at {place}"
        twice = page._replace(hosts=(page.authority, page.authority))
        yield _Change(twice, "with two Host lines", fix)


_SETS_HOST_TWICE = re.compile(
    r"(?:proxy_set_header|RequestHeader\s+add)\s+Host\b.*(?:proxy_set_header|RequestHeader\s+add)"
    r"\s+Host\b|RequestHeader\s+add\s+Host\b",
    re.IGNORECASE | re.DOTALL,
)
_ADDRESS = re.compile(r"https?://(?P<host>[^/\s;\"'|]+)")


def _hosts(way: Way, page: Page) -> list[str]:
    """Return what a front may send as Host instead of the client's."""
    lines = way.text.split("\n")[max(0, way.line - way.first) :]
    named = _ADDRESS.search(lines[0]) if lines else None
    hosts = [page.host, named["host"] if named else "localhost", "localhost"]
    return [it for it in dict.fromkeys(hosts) if it not in (page.authority, "unix:")]


def _paths(way: Way, page: Page) -> Iterator[_Change]:
    """Yield the page with the paths that the front's configuration makes of its path."""
    path, mark, query = page.target.partition("?")
    sent = list(sent_paths(way.front, way.text, way.upstream, path))
    decoded = unquote(path)
    for new, how in (*sent, *([(decoded, "decoded")] if sent else ())):
        if new != path and not set(new) & set(" ?#\r\n"):
            changed = page._replace(target=f"{new}{mark}{query}")
            fix = f"have the front pass on {path} as the application needs it: {way.place}"
            yield _Change(changed, f"for {new} ({how})", fix)


def _without_prefix(page: Page) -> _Change | None:
    """Return the page without the first part of its path, if it has more."""
    path, mark, query = page.target.partition("?")
    prefix = "/".join(path.split("/")[:2])
    rest = path.removeprefix(prefix)
    if not rest:
        return None
    fix = f"tell the application its prefix {prefix} (SCRIPT_NAME), or have the front remove it"
    changed = page._replace(target=f"{rest}{mark}{query}")
    return _Change(changed, f"for {rest}, without {prefix}", fix)


def _compared(case: Case, way: Way, page: Page, answer: Answer) -> Hit:
    """Say where the page fails: in the front, in the application, or between them."""
    front, packaging = way.installed.front, way.installed.packaging
    direct = _of_application(way, page)
    if place := _kept_back(way, page):
        says = (
            f"{front.title} answers {page} itself ({answer}): {place} passes nothing to the "
            f"application, which answers {direct} if it is asked directly"
        )
        if not direct.is_good:
            file = f"{says}; so it is about a file"
            return _hit(way, file, f"see why in the log: {packaging.log_command}")
        return _hit(
            way,
            says,
            f"pass {page.path} on, in a place of its own, with the lines of {way.place}; or change "
            "what answers it now",
        )
    if not direct.is_good:
        return _by_itself(way, page, answer, direct)
    both = f"{front.title} answers {page} with {answer}, and the application with {direct} if it is"
    for change in _changes(way, page):
        if _of_application(way, change.page).status == answer.status:
            return _hit(
                way,
                f"{both} asked directly. It answers {answer} too if it is asked {change.what}",
                change.fix,
            )
    for upstream in _beside(case, way):
        # It may be another site's: it gets no field that the user has given
        other = _of_application(way._replace(upstream=upstream), page._replace(fields=()))
        at = upstream.path or f"port {upstream.port}"
        if other.status == answer.status:
            return _hit(
                way,
                f"{both} asked directly. What listens at {at} also answers {answer}, and the front "
                f"passes some requests there ({upstream.file}, line {upstream.line})",
                f"see which lines of the front's the path {page.path} gets to: those there, or "
                f"those at {way.place}",
            )
    means, fix = _REFUSED.get(
        answer.status, ("the front does not ask it, or changes the request", "")
    )
    return _hit(
        way,
        f"{both} asked directly: {means}",
        fix
        or f"see which of the front's lines the request gets to: those at {way.place} pass "
        f"requests to the application; and its log ({packaging.log_command})",
    )


def _beside(case: Case, way: Way) -> list[Upstream]:
    """Return what else the same server of a front passes requests to, a few at most."""
    own = (way.upstream.path, way.upstream.port)
    last = way.first + way.text.count("\n")
    return [
        it
        for it in asked(case.running, way.installed)
        if it.file == way.file and way.first <= it.line <= last and (it.path, it.port) != own
    ][:_BESIDE]


_REFUSED: Mapping[int, tuple[str, str]] = {
    401: (
        "the front wants a login",
        "give one: --header 'Authorization: Basic …'; or see who may enter, in the front",
    ),
    411: (
        "the front refuses a request body of unknown length (Transfer-Encoding: chunked)",
        "use another protocol between them, such as HTTP (docs/fronts.md, uploads)",
    ),
    413: ("the front refuses a body of this size", "set a larger limit in the front"),
    414: ("the front refuses an address of this length", "set a larger limit in the front"),
    429: ("the front limits the number of requests", "set a higher limit in the front"),
    431: ("the front refuses header fields of this size", "set a larger limit in the front"),
}
"""What fronts refuse without asking the application, by status: its meaning, and what helps."""


def _by_itself(way: Way, page: Page, answer: Answer, direct: Answer) -> Hit:
    says = (
        f"the application answers {direct} if it is asked directly for {page.path} (through the "
        f"front: {answer})"
    )
    change = _without_prefix(page)
    if change and (other := _of_application(way, change.page)).is_good:
        return _hit(way, f"{says}, but {other} if it is asked {change.what}", change.fix)
    if direct.status in _LIMITS:
        return Hit(way.unit, f"{says}: {_LIMITS[direct.status]}", Advice(_RAISE))
    return Hit(
        way.unit,
        f"{says}: the cause is in the application, or in what it needs",
        Advice(f"see what it has logged: journalctl -u {way.unit}"),
    )


_LIMITS: Mapping[int, str] = {
    414: "the address is longer than the server allows",
    431: "a header field, usually a cookie, is longer than the server allows",
}
_RAISE = (
    "set a larger limit in the server (gunicorn: limit_request_line, limit_request_field_size; "
    "uvicorn: --h11-max-incomplete-event-size; uWSGI: buffer-size)"
)


# -- redirects -------------------------------------------------------------------------------------


def _led_astray(case: Case, own: list[Way]) -> Hit | None:
    """A redirect that leads to where nothing is, or to itself, and is not the application's own."""
    assert case.visit is not None
    steps = case.visit.steps
    loops = asking.redirected(*steps[-1]) in [it for it, _ in steps]
    page, answer = steps[-1] if loops else steps[-2] if steps[1:] else steps[-1]
    target = asking.redirected(page, answer)
    if target is None:
        return None
    way = _nearest(own, page)
    where = "for ever" if loops else f"where the answer is {steps[-1][1]}"
    says = f"{page} redirects to {target}, {where}"
    direct = _of_application(way, page)
    if asking.redirected(page, direct) == target:
        settings = f"{says}: the application does that by itself"
        return _hit(way, settings, _SETTINGS) if loops else None
    if not direct.is_good:
        return None
    found = f" to {direct.location}" if direct.location else ""
    says += f". The application, asked directly, answers {direct}{found}"
    for change in _changes(way, page):
        other = _of_application(way, change.page)
        if asking.redirected(page, other) == target:
            return _hit(way, f"{says}, and as the front if it is asked {change.what}", change.fix)
    if place := _redirects(case, way, target):
        return _hit(
            way,
            f"{says}: the front redirects by itself ({place})",
            "except requests that have come by HTTPS to another proxy, or the page itself, there",
        )
    return _hit(
        way,
        f"{says}: the front changes the request, or the redirect",
        f"see what the front passes on, and what it does to Location, at {way.place}",
    )


_REDIRECT = re.compile(
    r"^[ \t]*(?:return[ \t]+30\d|rewrite\b.*\b(?:redirect|permanent)\b|redir\b|"
    r"Redirect(?:Match|Permanent)?\b|RewriteRule\b.*\bR\b|http-request[ \t]+redirect)[^\n;]*",
    re.MULTILINE | re.IGNORECASE,
)


def _redirects(case: Case, way: Way, target: Page) -> str:
    """Return the first line of a front's configuration that redirects to a scheme; "" for none."""
    for file, text in texts(case.running, way.installed).items():
        for hit in _REDIRECT.finditer(bare(text)):
            if f"{target.scheme}://" in hit[0]:
                return f"{hit[0].strip()}, {file}, line {text.count(chr(10), 0, hit.start()) + 1}"
    return ""


_SETTINGS = (
    "see which of the application's settings leads there (Django: SECURE_SSL_REDIRECT, "
    "APPEND_SLASH, PREPEND_WWW, LOGIN_URL)"
)


# -- places that pass nothing on -------------------------------------------------------------------


def _kept_back(way: Way, page: Page) -> str:
    """Return the part of a front's configuration that answers a page itself; "" if none does."""
    if way.front == "apache":
        return _by_apache(way, page.path)
    if way.front != "nginx":
        return ""
    found = location(way.text, page.path)
    if found is None:
        return f"the server, which has no location for it ({way.file}, line {way.first}),"
    if _LEADS_ON.search(found.text):
        return ""
    line = way.first + way.text.count("\n", 0, found.start)
    return f"{found.name} ({way.file}, line {line})"


_LEADS_ON = re.compile(r"_pass\b|@|\b(?:include|rewrite|try_files|error_page)\b")
"""What a location of nginx's has in it that may pass a request on."""
_PASSES_ELSE = re.compile(
    r"^[ \t]*(?:(?:ProxyPassMatch|RewriteRule|SetHandler|Include|IncludeOptional)\b"
    r"|ProxyPass[ \t]+\"?\w+:)",
    re.MULTILINE | re.IGNORECASE,
)


def _by_apache(way: Way, path: str) -> str:
    if _PASSES_ELSE.search(way.text):
        return ""
    hit = proxy_pass(way.text, path)
    if hit is None:
        return f"the virtual host, which has no ProxyPass for it ({way.file}, line {way.first}),"
    line = way.first + way.text.count("\n", 0, hit.start())
    kept = hit["target"] == "!"
    return f"ProxyPass {hit['prefix']} ! ({way.file}, line {line})" if kept else ""
