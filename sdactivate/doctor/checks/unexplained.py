"""Checks on the running system: errors in a front's log that no rule of their own is about.

Other rules know a cause and look for its traces. This one has only the trace: what nginx, Apache or
Caddy has logged about the site, since its configuration was changed and the site was started.
`ROWS` says in plain words what the commonest messages mean. lighttpd and HAProxy log no reasons.

Two kinds of lines are left out. Strangers can cause some (`STRANGERS`): they ask every site for
files that it does not have, and a site that works must have no finding because of them. Others are
what other rules look for (`ELSEWHERE`). `causes` leaves the finding out if a rule explains it.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.front_requests import GIVEN_UP, renewed
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.doors import asked
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.doctor.front_log_files import named_error_logs
from sdactivate.doctor.host_state import InstalledFront
from sdactivate.front_config import Server

_MOST = 3  # findings for each front
_OLD_PROCESSES = 2  # seconds
_LONGEST = 300  # characters of a quoted message
_LONGEST_LINE = 8192  # characters of a line that are looked at


class Row(NamedTuple):
    """A front's message, what it means, and what helps.

    means and fix may use the pattern's groups, {place} (where the front passes requests on), {unit}
    (what listens there), and {user} (the front's).
    """

    pattern: re.Pattern[str]
    means: str
    fix: str


def _row(pattern: str, means: str, fix: str) -> Row:
    return Row(re.compile(pattern), means, fix)


_SAID = "see what the application logged at that moment: journalctl -u {unit}"
_CLOSED = "the server closed the connection without a response: it may have crashed, or ended"
_CUT = "the server closed the connection in the middle of a response"
_PLAIN = "the server at {place} does not speak TLS, but the front does"
_FULL = "a file system is full"
_DENIED = "{user} may not open {path}"
_OPENS = (
    "give {user} read permission for {path}, and search permission for the directories above it "
    "(namei -l {path} shows them)"
)
_SLOW = "the server did not accept the connection, or not read the request, in time"
_MORE = "use more workers or threads, or find out what they wait for (sdactivate status)"

ROWS: Mapping[str, tuple[Row, ...]] = {
    "nginx": (
        _row(
            r"rewrite or internal redirection cycle while [\w ]+ \"(?P<path>[^\"]+)\"",
            "a try_files, index or error_page line leads to {path}, and from there to itself",
            "end try_files with a named location that passes requests on (try_files $uri @site;), "
            "in the server of {place}",
        ),
        _row(
            r"no resolver defined to resolve (?P<name>\S+)",
            "the address has a variable, so nginx looks up {name} for each request, and has no "
            "resolver to ask",
            "write the address without a variable, or set resolver, in the server of {place}",
        ),
        _row(
            r"(?<!\S)\S+ could not be resolved|host not found in upstream \"",
            "the server's name is unknown",
            "correct the address, in the server of {place}",
        ),
        _row(
            r"invalid (?:URL prefix|port|host) in (?:upstream )?\"",
            "the address to which requests are passed is not valid: perhaps its variable is empty",
            "correct the address, in the server of {place}",
        ),
        _row(
            r"no live upstreams while connecting to upstream",
            "nginx asks none of the upstream's servers for a while, because connections to them "
            "have failed before",
            "see the earlier lines of the log",
        ),
        _row(
            r"SSL_do_handshake\(\) failed .*while SSL handshaking to upstream",
            _PLAIN,
            "write http:// instead of https://, at {place}",
        ),
        _row(
            r"upstream sent (?:no valid HTTP/1\.0 header|invalid header|invalid status|"
            r"unsupported FastCGI)",
            "what the server answers is not the protocol that is spoken at {place}, or not valid",
            "use the same protocol in both; " + _SAID,
        ),
        _row(
            r"(?:upstream prematurely closed connection|recv\(\) failed \(104: [^)]+\)) while "
            r"reading response header",
            _CLOSED,
            _SAID,
        ),
        _row(
            r"upstream prematurely closed connection while reading upstream",
            _CUT,
            _SAID,
        ),
        _row(
            r"upstream sent more data than specified in \"Content-Length\"",
            "the application's Content-Length is smaller than its response",
            "correct the header in the application, or do not set it",
        ),
        _row(
            r"upstream timed out \(110: [^)]+\) while (?:connecting to|sending request to)",
            _SLOW,
            _MORE,
        ),
        _row(
            r"upstream timed out \(110: [^)]+\) while reading upstream",
            "the server stopped in the middle of a response for longer than nginx waits",
            "find out what the application waits for, or set a longer read timeout at {place}",
        ),
        _row(
            r"connect\(\) (?:to \S+ )?failed \((?P<why>[^)]+)\) while connecting to upstream.*"
            r"upstream: \"\w+://(?P<at>unix:[^\":]+|[^\"/]+)",
            "it can't connect to {at}, which is not an address of this deployment",
            "start what should listen there, or correct the address, in the server of {place}",
        ),
        _row(
            r"limiting (?:requests|connections)",
            "more requests came at once than limit_req or limit_conn allow",
            "allow some at once (limit_req zone=NAME burst=20 nodelay;), in the server of {place}",
        ),
        _row(
            r"access forbidden by rule",
            "a deny line refuses this client",
            "add an allow line for it, above the deny line in the server of {place}",
        ),
        _row(
            r"directory index of \"(?P<path>[^\"]+)\" is forbidden",
            "nginx looks for {path} among its files instead of asking the application",
            "pass that path on, in the server of {place}",
        ),
        _row(
            r"auth request unexpected status: (?P<status>\d+)",
            "the address of auth_request answered {status}, which is neither 2xx, 401 nor 403",
            "correct what answers there; see the lines for its requests in the access log",
        ),
        _row(
            r"FastCGI sent in stderr: \"(?P<text>[^\"]+)",
            "the FastCGI application wrote to its standard error: {text}",
            "correct what it reports",
        ),
        _row(
            r"client intended to send too large chunked body",
            "a request body of unknown length was longer than client_max_body_size",
            "set a larger client_max_body_size in the server of {place}",
        ),
        _row(
            r"\(28: No space left on device\)",
            _FULL,
            "free some space: df -h shows which file system",
        ),
        _row(
            r"\(24: Too many open files\)",
            "nginx has reached its limit of open files",
            "set worker_rlimit_nofile 65536; in nginx.conf",
        ),
        _row(
            r"worker_connections are not enough",
            "nginx has reached its limit of connections",
            "set a larger worker_connections in nginx.conf",
        ),
        _row(
            r"(?:open|opendir|mkdir|rename|unlink)\(\) \"(?P<path>[^\"]+)\" failed \(13: ",
            _DENIED,
            _OPENS,
        ),
        _row(
            r"open\(\) \"(?P<path>[^\"]+)\" failed \(2: ",
            "{path} is not there",
            "create the file, or correct its path, in the server of {place}",
        ),
    ),
    "apache": (
        _row(
            r"AH00124: Request exceeded the limit of \d+ internal redirects",
            "a RewriteRule or ErrorDocument leads to itself",
            "add a RewriteCond that ends it (RewriteCond %{{REQUEST_URI}} !^/index), in the "
            "virtual host of {place}",
        ),
        _row(
            r"(?:AH00961|AH01961|AH02003|AH01084.*SSL)",
            "Apache is told to use TLS to the server: without SSLProxyEngine On it can't, and a "
            "server that does not speak TLS has to be addressed by http://",
            "write http:// instead of https://, at {place}; or SSLProxyEngine On, for a server "
            "with TLS",
        ),
        _row(
            r"AH01620: Could not open password file: (?P<path>\S+)",
            "{user} can't read the password file {path}",
            "create it (htpasswd -c {path} USER), or give {user} read permission for it",
        ),
        _row(
            r"AH00484: server reached MaxRequestWorkers",
            "all of Apache's workers are busy, so that further requests wait",
            "find out what the requests wait for, or set a larger MaxRequestWorkers",
        ),
        _row(
            r"AH00037: Symbolic link not allowed or link target not accessible: (?P<path>\S+)",
            "{path} is a symbolic link that Apache may not follow",
            "add Options +FollowSymLinks for its directory; the target needs permissions too",
        ),
        _row(
            r"AH00670: Options FollowSymLinks and SymLinksIfOwnerMatch are both off",
            "RewriteRule lines of .htaccess files need symbolic links to be allowed",
            "add Options +FollowSymLinks for that directory",
        ),
        _row(
            r"AH00035: access to \S+ denied \(filesystem path '(?P<path>[^']+)'\)",
            _DENIED,
            _OPENS,
        ),
        _row(r"AH00132: file permissions deny server access: (?P<path>\S+)", _DENIED, _OPENS),
        _row(
            r"AH01630: client denied by server configuration: (?P<path>[^\s,]+)",
            "a Require line refuses access to {path}, or none grants it",
            "see whether the Require lines should allow this client: the virtual host of {place}",
        ),
        _row(
            r"(?:AH00898: Error reading from remote server|AH01102: error reading status line)",
            _CLOSED,
            _SAID,
        ),
        _row(r"AH01110: Network error reading response|AH01086", _CUT, _SAID),
        _row(
            r"(?:AH00957: [^:]+: attempt to connect to|AH00959:|AH02454: FCGI: attempt to connect "
            r"to Unix domain socket) (?P<at>\S+)",
            "it can't connect to {at}, which is not an address of this deployment",
            "start what should listen there, or correct the address, in the virtual host of "
            "{place}",
        ),
        _row(
            r"AH0107[01]: Got error '(?P<text>[^']+)",
            "the FastCGI application wrote to its standard error: {text}",
            "correct what it reports",
        ),
        _row(
            r"AH01067: Failed to read FastCGI header|AH01075|AH01075: Error dispatching request",
            _CLOSED,
            _SAID,
        ),
        _row(r"No space left on device", _FULL, "free some space: df -h shows which file system"),
    ),
    "caddy": (
        _row(r"first record does not look like a TLS", _PLAIN, "write http://, at {place}"),
        _row(r"malformed HTTP (?:response|status code|version)", "what the server answers is not "
             "HTTP", "use reverse_proxy only for a server that speaks HTTP; " + _SAID),
        _row(r"lookup (?P<name>\S+?)(?: on \S+)?: no such host", "the name {name} is unknown",
             "correct the address, at {place}"),
        _row(r"\b(?:EOF|connection reset by peer)\b", _CLOSED, _SAID),
        _row(r"permission denied: (?P<path>/\S+)|open (?P<file>/\S+): permission denied",
             "a file or directory may not be opened by {user}", "give {user} permission for it"),
        _row(r"no space left on device", _FULL, "free some space: df -h shows which file system"),
    ),
}  # fmt: skip

_STRAY = re.compile(
    r"favicon|robots\.txt|apple-touch|\.well-known|\.php|/\.|/wp-|server-status", re.IGNORECASE
)
"""Paths that strangers and browsers ask every site for."""
STRANGERS: Mapping[str, re.Pattern[str]] = {
    "nginx": re.compile(
        r"^(?:client (?:sent|prematurely|timed|closed)|access forbidden by rule|user \"|"
        r"no user/password|limiting |invalid (?:method|request)|directory index of|"
        r"SSL_(?:read|write)\(\)|open socket #|ModSecurity)|"
        r"while (?:SSL handshaking$|sending to client|reading client|requesting certificate)|"
        r"is not found \((?:2|20|36|40):|"
        # Logged too if a server ends a complete response before it has read the request's body
        r"failed \(104: [^)]+\) while reading upstream|"
        r"\bupgraded connection"
    ),
    "apache": re.compile(
        r"AH(?:00036|00126|00127|00128|00524|00566|00584|00940|01084|01095|01097|01264|01276|01617|"
        r"01618|01619|01626|01630|01631|01790|01797|01941|01980|01992|02032|02033|02042|02217|02608|"
        r"02811|10157|10244)\b|Primary script unknown|ModSecurity"
    ),
    "caddy": re.compile(
        r"aborting with incomplete response|context canceled|unexpected EOF|write tcp .*reset"
    ),
}
"""Messages that strangers, or clients that leave, can have a front log."""

_LEVEL: Mapping[str, re.Pattern[str]] = {
    "nginx": re.compile(r"^[\d/]+ [\d:]+ \[(?:error|crit|alert|emerg)\] "),
    "apache": re.compile(r"^\[[^\]]+\] \[(?!wsgi:)\w*:(?:error|crit|alert|emerg)\] "),
    "caddy": re.compile(r'"level":"error".*?"logger":"http\.log\.error'),
}
ELSEWHERE: Mapping[str, re.Pattern[str]] = {
    "nginx": re.compile(
        r"client intended to send too large body|"
        + "|".join(re.escape(it.words) for it in GIVEN_UP)
    ),
    "apache": re.compile(r"\(70007\)|AH10124|AH01144|AH01079|AH01114"),
    "caddy": re.compile(
        "timeout awaiting response headers|request body too large|dial (?:unix|tcp)"
    ),
}
"""What SDA111, SDA148, SDA153 and SDA154 look for."""


class _Said(NamedTuple):
    """A message of a front's about the site.

    text: without what a client can choose freely: its header fields, and the request's line.
    """

    text: str
    line: str

    @property
    def whole(self) -> str:
        """The message, with the upstream that it is about."""
        found = _UPSTREAM.search(self.line)
        return f"{self.text}, {found[0]}" if found else self.text

    @property
    def shape(self) -> str:
        """The message without what differs from request to request."""
        return re.sub(r"\"[^\"]*\"|'[^']*'|/\S+|\d+", "*", self.text)


def logged(case: Case) -> Iterator[Hit]:
    """Errors of the site that a front has logged."""
    by_front: dict[str, list[Way]] = {}
    for way in ways(case):
        if way.front in ROWS:
            by_front.setdefault(way.installed.packaging.unit, []).append(way)
    for own in by_front.values():
        way = own[0]
        shapes: dict[str, list[_Said]] = {}
        for said in _about(case, own):
            shapes.setdefault(said.shape, []).append(said)
        for all_ in sorted(shapes.values(), key=len, reverse=True)[:_MOST]:
            means, fix = _meaning(way, all_[-1])
            quoted = all_[-1].text[:_LONGEST]
            title = way.installed.front.title
            yield Hit(
                way.installed.packaging.unit,
                f"{title} has logged an error of the site {common.times(len(all_))} in the last "
                f'hour: {means}"{quoted}"',
                Advice(fix),
                way.unit,
            )


def _meaning(way: Way, said: _Said) -> tuple[str, str]:
    """Return what a message means, as the beginning of a sentence, and what helps."""
    known = {"place": way.place, "unit": way.unit, "user": way.installed.user}
    for row in ROWS[way.front]:
        if found := row.pattern.search(said.whole):
            groups = {name: value or "" for name, value in found.groupdict().items()} | known
            return f"{row.means.format(**groups)}: ", row.fix.format(**groups)
    command = way.installed.packaging.log_command
    return "", f"correct what it reports; {command} shows the whole line"


def _about(case: Case, own: list[Way]) -> Iterator[_Said]:
    """Yield the messages about the site since its configuration and its server were renewed."""
    installed = own[0].installed
    packaging = installed.packaging
    units = {own[0].unit, *(it.name for it in common.services(case.service))}
    # Logs have whole seconds: what may be from before is left out. After a reload, old processes of
    # a front answer for a moment more
    started, changed = case.running.since(*units, packaging.unit), renewed(case, installed)
    since = max(started, changed + _OLD_PROCESSES if changed > started + 1 else changed)
    is_alone = len({(it.path, it.port) for it in asked(case.running, installed)}) == 1
    lines = case.running.machine.once(
        ("errors", packaging.unit), lambda: list(_errors(case, installed))
    )
    files = _own_files(case, own) if lines and not is_alone else []
    in_own = {line for file in files for _, line in case.running.machine.log_file(file)}
    for when, said, is_strangers in lines:
        ours = _is_asked_by_us(case, said.line)
        if when < (int(since) if ours else since) or (is_strangers and not ours):
            continue
        if _is_own_connect(own, said.line) or _is_of_another(case, own, said.line):
            continue
        if is_alone or said.line in in_own or _names_site(case, own, said.line):
            yield said


def _errors(case: Case, installed: InstalledFront) -> Iterator[tuple[float, _Said, bool]]:
    """Yield the errors in a front's log, of all sites: when, and whether a stranger can cause it.

    It is done once for all sites.
    """
    front = installed.front.name
    for when, line in case.running.machine.front_log(installed):
        if len(line) > _LONGEST_LINE or not _LEVEL[front].search(line):
            continue
        said = _Said(_text(front, line), line)
        if ELSEWHERE[front].search(said.text) or _is_asked_for(line) or _is_there_now(line):
            continue
        yield when, said, _is_strangers(front, said)


_PATH = re.compile(r'request: "\S+ (?P<path>/[^\s?"]*)')


def _is_strangers(front: str, said: _Said) -> bool:
    path = _PATH.search(said.line)
    about = f"{said.text} {path['path'] if path else ''}"
    return bool(STRANGERS[front].search(said.text) or _STRAY.search(about))


_NGINX_TEXT = re.compile(r"\[\w+\] \d+#\d+: (?:\*\d+ )?(?P<text>.*?)(?:, client: |$)")
_APACHE_TEXT = re.compile(r"^(?:\[[^\]]*\] )*(?P<text>.*?)(?:, referer: .*)?$")


def _text(front: str, line: str) -> str:
    if front == "caddy":
        said = _fields(line)
        return f"{said.get('msg', '')} {said.get('error', '')}".strip() or line
    found = (_NGINX_TEXT if front == "nginx" else _APACHE_TEXT).search(line)
    text = found["text"] if found else line
    return re.sub(r"\[client [^\]]*\] ", "", text)


def _fields(line: str) -> dict[str, object]:
    try:
        found = json.loads(line[line.index("{") :])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# -- whose line it is ------------------------------------------------------------------------------


def _own_files(case: Case, own: list[Way]) -> list[str]:
    """Return the logs that only the site's own servers name."""
    installed, machine = own[0].installed, case.running.machine

    def look() -> dict[str, set[_Place]]:
        named: dict[str, set[_Place]] = {}
        for it in machine.configuration(installed).servers:
            for file in named_error_logs(installed.front, installed.packaging, [it.text]):
                named.setdefault(file, set()).add((it.file, it.line))
        return named

    by_file = machine.once(("servers by log", installed.packaging.unit), look)
    return [file for file, places in by_file.items() if places <= _places(own)]


_Place = tuple[str, int]


def _places(own: list[Way]) -> set[_Place]:
    """Return where the servers of the site begin: file and line."""
    return {(it.file, it.first) for it in own}


def _is_anothers(case: Case, own: list[Way], name: str) -> bool:
    """Return whether another server has the name first, by which nginx logs it."""
    installed, machine = own[0].installed, case.running.machine

    def look() -> dict[str, set[_Place]]:
        named: dict[str, set[_Place]] = {}
        for it in machine.configuration(installed).servers:
            named.setdefault(_first(it), set()).add((it.file, it.line))
        return named

    by_name = machine.once(("servers by first name", installed.packaging.unit), look)
    return not by_name.get(name, set()) <= _places(own)


_UPSTREAM = re.compile(r'upstream: "\w+://(?:unix:(?P<path>[^":]+)|[^":/]*:(?P<port>\d+))')
_SERVER = re.compile(r", server: (?P<name>[^,]*),")


def _is_own_connect(own: list[Way], line: str) -> bool:
    """Return whether a front could not connect to the site's own socket: SDA111 finds that."""
    if not re.search(r"connect\(\)|AH00957|AH00959|AH02454", line):
        return False
    found = _UPSTREAM.search(line)
    if found:
        return any(_is_at(it, found) for it in own)
    ends = [it.upstream.path or f":{it.upstream.port}" for it in own]
    return any(re.search(rf"{re.escape(end)}(?![\w/])", line) for end in ends)


def _is_asked_by_us(case: Case, line: str) -> bool:
    """Return whether a line is about the page of --url, which is no stranger's."""
    targets = [page.target for page, _ in case.visit.steps] if case.visit else []
    return any(f'"GET {it} HTTP' in line for it in targets)


_MISSING = re.compile(
    r"open\(\) \"(?P<file>[^\"]+)\" failed \((?:2|20|36|40): .*request: \"\S+ (?P<path>/[^\s?\"]*)"
)


def _is_asked_for(line: str) -> bool:
    """Return whether nginx misses a file of the path that a client, perhaps a stranger, asks for.

    The files that its own configuration names are not like the request.
    """
    found = _MISSING.search(line)
    name = unquote(found["path"]).rstrip("/").rpartition("/")[2] if found else ""
    return found is not None and bool(name) and found["file"].endswith(name)


_MISSED = re.compile(
    r"open\(\) \"(?P<file>/[^\"]+)\" failed \(2: |"
    r"\(2\)No such file or directory: .*: (?P<other>/\S+)$"
)


def _is_there_now(line: str) -> bool:
    """Return whether the file that a line says is missing has been made since."""
    found = _MISSED.search(line)
    return found is not None and os.path.exists(found["file"] or found["other"])


def _is_at(way: Way, found: re.Match[str]) -> bool:
    if found["path"]:
        return found["path"] == way.upstream.path
    return bool(way.upstream.port) and found["port"] == str(way.upstream.port)


def _is_of_another(case: Case, own: list[Way], line: str) -> bool:
    """Return whether a line names a server or host that is not the site's."""
    if own[0].front == "caddy":
        return bool(own[0].names) and not _names_site(case, own, line)
    found = _SERVER.search(line) if own[0].front == "nginx" else None
    if found is None or found["name"] in map(_first, own):
        return False
    return _is_anothers(case, own, found["name"])


def _names_site(case: Case, own: list[Way], line: str) -> bool:
    """Return whether a line names the site: its upstream, or a host that only its servers have."""
    front = own[0].front
    if front == "caddy":
        request = _fields(line).get("request")
        host = str(request.get("host", "")) if isinstance(request, dict) else ""
        return any(host.partition(":")[0] in it.names for it in own)
    if front != "nginx":
        return False
    upstream, server = _UPSTREAM.search(line), _SERVER.search(line)
    if upstream and any(_is_at(it, upstream) for it in own):
        return True
    if server is None:
        return False
    named = server["name"]
    return named in map(_first, own) and not _is_anothers(case, own, named)


def _first(server: Way | Server) -> str:
    """Return the name by which nginx logs a server: its first."""
    return server.names[0] if server.names else ""
