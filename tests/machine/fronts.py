"""The fronts in a machine: how each is set up there, and what else than "ok" is right."""

from pathlib import Path
from typing import NamedTuple

from sdactivate import fronts
from tests.machine import front_client, https_client
from tests.machine.front_results import Version

CLIENT = Path(front_client.__file__)
HTTPS_CLIENT = Path(https_client.__file__)

PROGRAM = {
    "nginx": "nginx",
    "apache": "apache2",
    "lighttpd": "lighttpd",
    "caddy": "caddy",
    "haproxy": "haproxy",
}
"""What is missing where the front is not installed."""


class Setup(NamedTuple):
    """Debian's own ways of switching a generated file on."""

    install: str
    """Shell, once: what the package wants done to read it."""
    enable: str
    """Shell, after each new file."""
    check: str
    """The front's own checker."""
    path: str = ""
    """Where the file goes if not to where the table says."""


SETUP: dict[str, Setup] = {
    "nginx": Setup(
        # What an administrator may have set for all sites
        "rm -f /etc/nginx/sites-enabled/*; "
        "echo 'proxy_intercept_errors on;' >/etc/nginx/conf.d/all.conf",
        *("", "nginx -t -q", "/etc/nginx/conf.d/mysite.conf"),
    ),
    "apache": Setup(
        "a2enmod -q alias headers ssl proxy rewrite proxy_scgi proxy_fcgi proxy_http auth_basic "
        "authn_file authz_user remoteip setenvif http2; a2dissite -q 000-default; "
        "echo ServerName localhost >/etc/apache2/conf-enabled/name.conf",
        "a2ensite -q mysite",
        "apachectl configtest",
    ),
    "lighttpd": Setup(
        *("", "", "lighttpd -tt -f /etc/lighttpd/lighttpd.conf"),
        "/etc/lighttpd/conf-enabled/90-mysite.conf",
    ),
    # Debian's Caddy is not in the group of Debian's PHP pool.
    "caddy": Setup(
        "echo 'import /etc/caddy/*.caddyfile' >/etc/caddy/Caddyfile; usermod -aG www-data caddy",
        "",
        # As itself: newer versions make the log files.
        "HOME=/tmp runuser -u caddy -- caddy validate --adapter caddyfile "
        "--config /etc/caddy/Caddyfile",
    ),
    # The generated sections join those of the package.
    "haproxy": Setup(
        "cp /etc/haproxy/haproxy.cfg /etc/haproxy/packaged",
        "cat /etc/haproxy/packaged /etc/haproxy/generated >/etc/haproxy/haproxy.cfg",
        "haproxy -c -q -f /etc/haproxy/haproxy.cfg",
        "/etc/haproxy/generated",
    ),
}

CASES: tuple[tuple[str, str], ...] = tuple(
    (name, protocol) for name in SETUP for protocol in fronts.FRONTS[name].protocols
)
"""Every protocol of every front that a distribution packages."""

CHECKS: tuple[str, ...] = (
    *front_client.cold([]),
    *front_client.root([]),
    *(f"socket {what}" for what in ("missing", "forbidden", "refused")),
    *front_client.mount([]),
    *front_client.tls([]),
    *front_client.tls_unix([]),
    *front_client.behind([]),
    *front_client.behind_named([]),
    *front_client.behind_unix([]),
    *front_client.behind_proxy([]),
)
"""Every check, in the order in which it is done."""


class Deviation(NamedTuple):
    """A row of DEVIATIONS."""

    found: str | tuple[str, ...]
    """What the outcome is instead of "ok"; several: each may be, as the client sees it."""
    why: str
    since: Version = ()
    """The first version of the front that does so."""
    before: Version = ()
    """The first version after it that does not any more; (): there is none so far."""

    def of(self, version: Version) -> bool:
        """Whether this version of the front does so."""
        return self.since <= version and (not self.before or version < self.before)


_CONTROL = "Debian's lighttpd.conf (server.http-parseopts) refuses control characters: 400"
_NO_FILES = "HAProxy serves no files and runs no PHP: `gen` refuses the options"
_NO_LOGIN = "lighttpd does not pass the user to an http backend: `gen` refuses --auth-file"
_MERGED = "// arrives as one / ({}); REQUEST_URI has what was sent"
_NORMALISED = "Over http lighttpd normalises the path: // arrives as one /, %2F as /"
_DIFFERS = "{} answers 400 if the target's host and Host differ"
_COMMA = "Two Cookie fields are joined with a comma; clients send one over HTTP/1.1 (RFC 6265)"
_CHUNKED = "SCGI begins with the length of the body, for which Apache does not wait: 411"
_HELD_BACK = "Apache buffers a streamed response until it has some kB of it"
_CHUNKED_400 = "A chunked body over 16 kB is answered 400"
_AS_IT_COMES = (
    "{} passes on a response at the client's pace: the application's server buffers what a slow "
    "client has not received yet (server.md, Slow peers)"
)
_OWN_PORT = "Behind a balancer SERVER_PORT is {}'s own; get_host() does not depend on it"
_8K = "A response with a field over 8 KiB becomes a 500: Apache's limit for CGI-like backends"
_BALANCERS_ADDRESS = "lighttpd passes the balancer's address to an http backend as the client's"
_REFUSED = "`gen` refuses it: {}"
_REGEX = "HAProxy treats a line break in a path over fcgi as an attack: 500"

# What is not "ok", and yet right, or the front's own affair: by front, protocol and check.
# "*" stands for every protocol.
DEVIATIONS: dict[tuple[str, str, str], Deviation | tuple[Deviation, ...]] = {
    **{
        ("apache", protocol, check): Deviation(
            "PATH_INFO: /environ/a/b", _MERGED.format("Apache, despite MergeSlashes Off")
        )
        for protocol in ("scgi", "fastcgi")
        for check in ("path //", "mounted: path //")
    },
    ("apache", "*", "several Cookie fields"): Deviation("a=1; b=2, c=3", _COMMA),
    ("apache", "scgi", "upload chunked"): Deviation("411", _CHUNKED),
    ("apache", "scgi", "upload 5 MB chunked"): Deviation("411", _CHUNKED),
    ("apache", "scgi", "answer streamed"): Deviation("held back", _HELD_BACK),
    ("lighttpd", "*", "another Host"): Deviation("400", _DIFFERS.format("lighttpd")),
    ("haproxy", "*", "another Host"): Deviation("400", _DIFFERS.format("HAProxy")),
    ("lighttpd", "*", "path %0A"): Deviation("400", _CONTROL),
    ("lighttpd", "*", "mounted: path %0A"): Deviation("400", _CONTROL),
    **{
        ("lighttpd", protocol, check): Deviation("PATH_INFO: /environ/a/b", why)
        for protocol, why in {"*": _MERGED.format("lighttpd"), "http": _NORMALISED}.items()
        for check in ("path //", "mounted: path //")
    },
    ("lighttpd", "*", "query"): Deviation(
        "a=/%20b+c&&d", "lighttpd decodes characters in a query that need no encoding (%2F)"
    ),
    ("lighttpd", "http", "TLS: balancer"): Deviation(
        "REMOTE_ADDR: 127.0.0.2", _REFUSED.format(_BALANCERS_ADDRESS)
    ),
    ("lighttpd", "http", "TLS: fields named by Connection"): Deviation("REMOTE_USER: ", _NO_LOGIN),
    ("lighttpd", "http", "login: 401"): Deviation("200", _NO_LOGIN),
    ("lighttpd", "http", "login: REMOTE_USER"): Deviation("None", _NO_LOGIN),
    ("lighttpd", "http", "login: password kept"): Deviation("passed on: True", _NO_LOGIN),
    ("caddy", "fastcgi", "several Cookie fields"): Deviation("a=1; b=2, c=3", _COMMA),
    ("caddy", "fastcgi", "mounted: path //"): Deviation(
        "PATH_INFO: /environ/a/b", _MERGED.format("Caddy, if it removes the mount")
    ),
    **{
        (name, "*", "answer held for a slow client"): Deviation(
            "not held", _AS_IT_COMES.format(fronts.FRONTS[name].title)
        )
        for name in ("apache", "caddy", "haproxy")
    },
    **{
        ("apache", protocol, "answer's field 32 KiB"): Deviation("500", _8K)
        for protocol in ("scgi", "fastcgi")
    },
    ("apache", "fastcgi", "request's field 32 KiB"): Deviation(
        "400",
        "A request with a field over 16,000 bytes is answered 400: Apache drops longer variables",
    ),
    ("apache", "scgi", "answer streamed by --stream"): Deviation("held back", _HELD_BACK),
    ("apache", "scgi", "413 of a chunked body"): Deviation("411", _CHUNKED),
    **{
        ("haproxy", "fastcgi", check): (
            Deviation("400", _CHUNKED_400, before=(3, 1)),
            Deviation(
                ("400", "502", "no answer"),
                "A chunked body over 16 kB is answered 400 or 502, or the connection is closed",
                since=(3, 1),
            ),
        )
        for check in ("upload 5 MB chunked", "413 of a chunked body")
    },
    **{
        ("caddy", "fastcgi", check): Deviation(
            "411",
            "FastCGI needs the length of a body: Caddy from 2.9 on answers 411 to a chunked one "
            "that does not fit into 4 KiB",
            since=(2, 9),
        )
        for check in ("upload chunked", "upload 5 MB chunked", "413 of a chunked body")
    },
    ("nginx", "scgi", "upload streamed by --stream"): Deviation(
        "held back",
        "SCGI begins with the length of the body: nginx buffers an upload until it is complete",
    ),
    ("nginx", "*", "balancer: scheme in a second line"): Deviation(
        "secure: True",
        "nginx before 1.23 reads the first of several X-Forwarded-Proto, -Host or -Port fields: "
        "the balancer must replace a client's field, not add its own after it",
        before=(1, 23),
    ),
    ("apache", "scgi", "balancer: port"): Deviation("https: 80", _OWN_PORT.format("Apache")),
    ("apache", "scgi", "balancer: named fields"): Deviation(
        "SERVER_PORT: 80", _OWN_PORT.format("Apache")
    ),
    **{
        ("apache", "scgi", f"balancer: named fields, {which}"): Deviation(
            "SERVER_PORT: 80", _OWN_PORT.format("Apache")
        )
        for which in ("not sent", "odd")
    },
    ("lighttpd", "*", "balancer: no address"): Deviation(
        "secure: False",
        "lighttpd uses the scheme only with an address: if X-Forwarded-For ends with another word, "
        "such as unknown, both are the balancer's own",
    ),
    ("lighttpd", "*", "balancer: port"): Deviation("https: 80", _OWN_PORT.format("lighttpd")),
    ("lighttpd", "*", "balancer: appended scheme, HTTPS"): Deviation(
        "secure: False",
        "lighttpd ignores an X-Forwarded-Proto with several values: the balancer must send one",
    ),
    **{
        ("lighttpd", "*", check): Deviation(
            "refused", _REFUSED.format("lighttpd takes only address and scheme from a balancer")
        )
        for check in front_client.behind_named([])
    },
    **{
        ("lighttpd", "http", check): Deviation(
            "refused",
            _REFUSED.format(
                "lighttpd passes the balancer's address to an http backend as the client's"
            ),
        )
        for shape in (
            *(front_client.behind, front_client.behind_named),
            *(front_client.behind_unix, front_client.tls_unix),
        )
        for check in shape([])
    },
    **{
        (name, "*", check): Deviation(
            "refused", _REFUSED.format(fronts.FRONTS[name].not_behind[form].partition(";")[0])
        )
        for form, checks in {
            "unix": (*front_client.behind_unix([]), *front_client.tls_unix([])),
            "proxy": (*front_client.behind_proxy([]),),
        }.items()
        for name in SETUP
        if form in fronts.FRONTS[name].not_behind
        for check in checks
    },
    ("haproxy", "fastcgi", "path %0A"): Deviation("500", _REGEX),
    ("haproxy", "fastcgi", "mounted: path %0A"): Deviation("500", _REGEX),
    ("haproxy", "*", "static files"): Deviation("404", _NO_FILES),
    ("haproxy", "*", "media files"): Deviation("404", _NO_FILES),
    ("haproxy", "*", "mounted: static files"): Deviation("404", _NO_FILES),
    ("haproxy", "*", "PHP beside it"): Deviation("503", _NO_FILES),
}


def is_right(outcome: str, expected: Deviation | None) -> bool:
    """Whether the outcome of a check is what it has to be."""
    found = expected.found if expected else "ok"
    return outcome in ((found,) if isinstance(found, str) else found)


def deviation(front: str, protocol: str, check: str, version: Version) -> Deviation | None:
    """Return what is found instead of "ok", and why; None where "ok" is right.

    version: the front's own.
    """
    for key in ((front, protocol, check), (front, "*", check)):
        rows = DEVIATIONS.get(key, ())
        for row in (rows,) if isinstance(rows, Deviation) else rows:
            if row.of(version):
                return row
    return None


TOPICS: dict[str, tuple[str, ...]] = {
    "variables": ("variables", "query", "Authorization", "Vary"),
    "paths": tuple(f"path {kind}" for kind in front_client.PATHS),
    "cookies": ("several Cookie fields",),
    "uploads": (
        "upload 5 MB",
        "100-continue",
        "early 413",
        "413 by the front",
    ),
    "chunked uploads": ("upload chunked", "upload 5 MB chunked", "413 of a chunked body"),
    "answers": ("HEAD", "204", "304", "answer 50 MB"),
    "sizes": (
        "answer's header 32 KiB",
        "answer's field 32 KiB",
        "request's header 52 KiB",
        "request's field 32 KiB",
    ),
    "streamed": (
        "answer streamed",
        "answer streamed by --stream",
        "upload streamed by --stream",
    ),
    "held for slow clients": ("answer held for a slow client",),
    "nothing spoofed": (
        "spoofed fields",
        "another Host",
        "another Host, ftp:",
        "mounted: spoofed fields",
        "mounted: fields named by Connection",
        "TLS: spoofed fields",
        "TLS: fields named by Connection",
        "TLS: spoofed by HTTP/2",
    ),
    "static, media": ("static files", "media files", "mounted: static files"),
    "mounted": (
        "mounted: variables",
        "mounted: no slash",
        "mounted: /apple is not /app",
        "mounted: x.php",
        *(f"mounted: path {kind}" for kind in front_client.PATHS),
    ),
    "PHP beside": ("PHP beside it", "PHP in media files"),
    "TLS": ("TLS: redirect", "TLS: variables", "TLS: balancer"),
    "login": ("login: 401", "login: REMOTE_USER", "login: password kept"),
    "behind a balancer": (
        *front_client.behind([]),
        *front_client.behind_named([]),
    ),
    "behind, by unix": (*front_client.behind_unix([]), *front_client.tls_unix([])),
    "behind, by PROXY": tuple(front_client.behind_proxy([])),
    "cold start, no socket": (
        "cold start 5 s",
        "socket missing",
        "socket forbidden",
        "socket refused",
    ),
}
"""Every check, by the column of docs/fronts.md that it is a part of."""
