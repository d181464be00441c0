"""The table of web servers: users and groups by distribution, protocols, log messages.

The generator picks users, groups, protocols and paths from it and warns of traps, the doctor
finds a front's processes and explains its log lines with it, the documentation lists it. Common
ground: it imports no wing.

Debian's rows, the protocols and the log lines were measured on Debian 12 (nginx 1.22, Apache
2.4, lighttpd 1.4.69, Caddy 2.6, HAProxy 2.6) and the tests measure them again; Cherokee 1.2.104
once, by hand, since no distribution packages it. Fedora's and Arch's rows are from their packages.
"""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from sdactivate.errors import UsageError

DISTRIBUTIONS: dict[str, str] = {"debian": "Debian", "fedora": "Fedora", "arch": "Arch Linux"}
"""The families that packages differ by, and their titles. Ubuntu is debian, RHEL is fedora."""


class Packaging(NamedTuple):
    """How one distribution runs a front, as packaged."""

    unit: str
    """The service, such as nginx.service."""
    user: str
    """Whom the processes that connect to the socket run as."""
    group: str
    """Their primary group: what SocketGroup= should be."""
    process: str
    """What /proc/PID/comm says of them."""
    config: str
    """Where the generated file goes; NAME stands for the site's name. Without NAME in it: the one
    file of this front, which is the administrator's."""
    log: str
    """The error log: a file, or "" for the unit's journal."""
    private_tmp: bool = False
    """Whether the unit has PrivateTmp=: the front then has a /tmp and /var/tmp of its own."""
    chroot: str = ""
    """The directory that the front's configuration makes its root, if any."""
    link: str = ""
    """The link that switches the file on, if there has to be one."""
    main: str = ""
    """The file that the front begins to read at, and that has to include the generated one, unless
    the unit names the directory of that (HAProxy)."""
    tested: str = ""
    """The front's own checker, where it is not that of `Front.check`."""

    def path_inside(self, path: str) -> str | None:
        """Return the absolute `path` as the front sees it; None where it can't see it."""
        if not self.chroot:
            return path
        inside = path.removeprefix(self.chroot)
        return inside if inside != path and inside.startswith("/") else None

    def default_socket(self, name: str) -> str:
        """Return where the socket of the site `name` lies if nobody says where."""
        return f"{self.chroot or '/run'}/{name}.sock"

    @property
    def logs(self) -> str:
        """The directory of the front's log files."""
        return os.path.dirname(self.log) if self.log else f"/var/log/{self.user}"

    @property
    def log_command(self) -> str:
        """The command that shows the error log."""
        return f"tail {self.log}" if self.log else f"journalctl -u {self.unit}"


class Failures(NamedTuple):
    """What a front says when it cannot connect; SOCKET stands for the socket's path."""

    status: int
    """What the client sees."""
    missing: str
    """Part of the log line on ENOENT: there is no socket at that path."""
    forbidden: str
    """On EACCES: the front may not connect to it."""
    refused: str
    """On ECONNREFUSED: a socket file is there, but nothing listens behind it."""
    full: str
    """What the front does while the socket's backlog is full."""


class Front(NamedTuple):
    """One web server."""

    name: str
    title: str
    packaging: Mapping[str, Packaging]
    """By distribution; empty where none packages it."""
    protocols: Mapping[str, str]
    """Those that it speaks correctly to a unix socket, the recommended one first: what to know."""
    refused: Mapping[str, str]
    """Those that it does not: why. The generator refuses them with this reason."""
    check: str
    """The front's own checker of its configuration."""
    failures: Failures
    traps: tuple[str, ...] = ()
    not_behind: Mapping[str, str] = {}
    """The forms of --behind (see `HOPS`) that it cannot do: why. The generator refuses them."""
    not_outage: Mapping[str, str] = {}
    """Which of --error-pages, --maintenance and --front-log it cannot do: why. The same."""
    pages_at_start: bool = False
    """Whether it reads the pages of --error-pages at its start, and does not start without one."""
    static: bool = True
    """Whether it can serve files, and PHP through FastCGI, itself."""
    reads_htpasswd: bool = True
    """Whether it reads an htpasswd file itself; otherwise its lines are copied."""
    lets_out: str = ""
    """How an application lets a file of --protected out: a key of `protected.WAYS`; "": not."""
    not_let_out: Mapping[str, str] = {}
    """The protocols over which it does not: why. The generator refuses --protected there."""
    drops_groups: bool = False
    """Whether its processes keep only their primary group."""
    renew: str = "reload"
    """What systemctl(1) does to it for a changed configuration."""
    checks_as_itself: bool = False
    """Whether its checker is to run as its own user: as root it may leave files of root's, such as
    logs, which the front then can't write."""
    gets_certificates: bool = False
    """Whether it gets and renews certificates itself (RFC 8555); otherwise certbot does."""

    @property
    def recommended(self) -> str:
        """The protocol to use where nobody says anything."""
        return next(iter(self.protocols))


HOPS: dict[str, str] = {
    "http": "an HTTP proxy at an address: X-Forwarded-For and X-Forwarded-Proto",
    "unix": "an HTTP proxy on the front's own unix socket: the same",
    "proxy": "a TCP proxy at an address: the PROXY protocol",
}
"""What can be in front of a front, and how it says who its client is."""

_NO_TRANSPORT = "{} has no {} transport"
_STOP_INSTEAD = "stop the site's socket and service instead, and it answers 503"

NGINX = Front(
    "nginx",
    "nginx",
    {
        "debian": Packaging(
            "nginx.service",
            "www-data",
            "www-data",
            "nginx",
            "/etc/nginx/sites-available/NAME.conf",
            "/var/log/nginx/error.log",
            link="/etc/nginx/sites-enabled/NAME.conf",
            main="/etc/nginx/nginx.conf",
        ),
        "fedora": Packaging(
            "nginx.service",
            "nginx",
            "nginx",
            "nginx",
            "/etc/nginx/conf.d/NAME.conf",
            "/var/log/nginx/error.log",
            private_tmp=True,
            main="/etc/nginx/nginx.conf",
        ),
        "arch": Packaging(
            "nginx.service",
            "http",
            "http",
            "nginx",
            "/etc/nginx/conf.d/NAME.conf",
            "/var/log/nginx/error.log",
            main="/etc/nginx/nginx.conf",
        ),
    },
    {
        "fastcgi": "streams uploads where --stream asks for it, chunked ones too",
        "scgi": "the cheapest; an upload is always buffered by nginx until it is complete",
        "uwsgi": "streams uploads where --stream asks for it",
        "http": "streams uploads where --stream asks for it",
    },
    {},
    "nginx -t",
    Failures(
        502,
        "connect() to unix:SOCKET failed (2: No such file or directory)",
        "connect() to unix:SOCKET failed (13: Permission denied)",
        "connect() to unix:SOCKET failed (111: Connection refused)",
        "answers 502 at once",
    ),
    (
        "The stock scgi_params, fastcgi_params and uwsgi_params lose the port of Host, let the "
        "client's Proxy header through as HTTP_PROXY and pass a user name that nobody verified.",
        "One proxy_set_header in a location cancels all those of the server around it: what is "
        "added there for WebSockets lets the client's X-Forwarded-* through.",
        "scgi_request_buffering off loses data: an upload arrives with CONTENT_LENGTH=0.",
        "proxy_pass with a path after the socket (unix:/run/site.sock:/) decodes %2F, merges "
        "slashes and sends Host: localhost.",
    ),
    lets_out="accel",
)

APACHE = Front(
    "apache",
    "Apache",
    {
        "debian": Packaging(
            "apache2.service",
            "www-data",
            "www-data",
            "apache2",
            "/etc/apache2/sites-available/NAME.conf",
            "/var/log/apache2/error.log",
            private_tmp=True,
            link="/etc/apache2/sites-enabled/NAME.conf",
            main="/etc/apache2/apache2.conf",
        ),
        "fedora": Packaging(
            "httpd.service",
            "apache",
            "apache",
            "httpd",
            "/etc/httpd/conf.d/NAME.conf",
            "/var/log/httpd/error_log",
            private_tmp=True,
            main="/etc/httpd/conf/httpd.conf",
        ),
        "arch": Packaging(
            "httpd.service",
            "http",
            "http",
            "httpd",
            "/etc/httpd/conf/extra/NAME.conf",
            "/var/log/httpd/error_log",
            private_tmp=True,
            main="/etc/httpd/conf/httpd.conf",
        ),
    },
    {
        "fastcgi": "right paths, streams uploads, chunked ones too",
        "scgi": "right paths; a chunked upload is answered 411",
        "http": "header names must be filtered by the server, which ours does",
    },
    {
        "uwsgi": "Apache's mod_proxy_uwsgi cuts SCRIPT_NAME short where the path behind the "
        "mount has an encoded character",
    },
    "apachectl configtest",
    Failures(
        503,
        "(2)No such file or directory: AH02454: ",
        "(13)Permission denied: AH02454: ",
        "(111)Connection refused: AH02454: ",
        "waits",
    ),
    (
        "Two sockets behind one host name in proxy:unix:SOCKET|scgi://HOST share a worker: "
        "requests go to the wrong application. Each socket needs a host name of its own.",
        "ProxyPass with scgi gives an encoded PATH_INFO and a broken SCRIPT_NAME, with fcgi no "
        "PATH_INFO at all; Alias and SetHandler give the right ones.",
    ),
    {
        "unix": "Apache listens on no unix socket",
        "proxy": "Apache (RemoteIPProxyProtocol) believes a PROXY header of every peer; let the "
        "balancer speak HTTP and name its address",
    },
    lets_out="redirect",
    not_let_out=dict.fromkeys(
        ("fastcgi", "http"),
        "Apache lets a file out by a local redirect, which it knows over SCGI alone (mod_xsendfile "
        "behind a proxy sends any file, whatever XSendFilePath says); use --protocol scgi",
    ),
)

LIGHTTPD = Front(
    "lighttpd",
    "lighttpd",
    {
        "debian": Packaging(
            "lighttpd.service",
            "www-data",
            "www-data",
            "lighttpd",
            "/etc/lighttpd/conf-available/90-NAME.conf",
            "/var/log/lighttpd/error.log",
            link="/etc/lighttpd/conf-enabled/90-NAME.conf",
            main="/etc/lighttpd/lighttpd.conf",
        ),
        "fedora": Packaging(
            "lighttpd.service",
            "lighttpd",
            "lighttpd",
            "lighttpd",
            "/etc/lighttpd/vhosts.d/NAME.conf",
            "/var/log/lighttpd/error.log",
            main="/etc/lighttpd/lighttpd.conf",
        ),
        "arch": Packaging(
            "lighttpd.service",
            "http",
            "http",
            "lighttpd",
            "/etc/lighttpd/conf.d/NAME.conf",
            "/var/log/lighttpd/error.log",
            main="/etc/lighttpd/lighttpd.conf",
        ),
    },
    {
        "scgi": "an upload is buffered by lighttpd until it is complete",
        "fastcgi": "as scgi",
        "uwsgi": "as scgi",
        "http": "paths are normalised, and REMOTE_USER is lost",
    },
    {},
    "lighttpd -tt -f /etc/lighttpd/lighttpd.conf",
    Failures(
        503,
        "establishing connection failed: socket: unix:SOCKET: No such file or directory",
        "establishing connection failed: socket: unix:SOCKET: Permission denied",
        "establishing connection failed: socket: unix:SOCKET: Connection refused",
        "answers 500 at once",
    ),
    (
        'A bare prefix such as "/app" also matches /apple.',
        "server.stream-request-body = 1 streams uploads, but then a chunked one is answered 411.",
        "After it failed to connect, lighttpd does not try again for a second.",
        "A reload (USR1) reads the configuration as lighttpd's user, who can bind no new port "
        "below 1024 and read no key of root's: restart it.",
    ),
    not_outage={
        "maintenance": "lighttpd looks for a file at each request only by a Lua script of "
        f"mod_magnet, a package of its own; {_STOP_INSTEAD}",
    },
    lets_out="sendfile",
    renew="restart",
)

CADDY = Front(
    "caddy",
    "Caddy",
    {
        "debian": Packaging(
            "caddy.service",
            "caddy",
            "caddy",
            "caddy",
            "/etc/caddy/NAME.caddyfile",
            "",
            private_tmp=True,
            main="/etc/caddy/Caddyfile",
        ),
        "fedora": Packaging(
            "caddy.service",
            "caddy",
            "caddy",
            "caddy",
            "/etc/caddy/Caddyfile.d/NAME.caddyfile",
            "",
            private_tmp=True,
            main="/etc/caddy/Caddyfile",
        ),
        "arch": Packaging(
            "caddy.service",
            "caddy",
            "caddy",
            "caddy",
            "/etc/caddy/conf.d/NAME",
            "",
            private_tmp=True,
            main="/etc/caddy/Caddyfile",
        ),
    },
    {
        "http": "the cheapest there; streams uploads",
        "fastcgi": "a chunked upload arrives with CONTENT_LENGTH=-1, which our server understands; "
        "from Caddy 2.9 on one over 4 KiB is answered 411",
    },
    {
        "scgi": _NO_TRANSPORT.format("Caddy", "scgi"),
        "uwsgi": _NO_TRANSPORT.format("Caddy", "uwsgi"),
    },
    "caddy validate --adapter caddyfile --config /etc/caddy/Caddyfile",
    Failures(
        502,
        "dial unix SOCKET: connect: no such file or directory",
        "dial unix SOCKET: connect: permission denied",
        "dial unix SOCKET: connect: connection refused",
        "answers 502 at once",
    ),
    (
        "It passes every Upgrade on: by h2c a client can talk to a server that speaks it "
        "(hypercorn) past Caddy.",
        "Debian's Caddyfile imports nothing by itself: `import /etc/caddy/*.caddyfile` in it does.",
        "Caddy's own gzip between it and the application is undone for clients that want none; "
        "`compression off` leaves the choice to them.",
    ),
    {
        "unix": "Caddy 2.6 makes a unix socket for its own user alone; let the balancer "
        "connect to an address, and name its own",
        "proxy": "Caddy reads a PROXY header only from 2.7 on and by a global option, which no "
        "site's file can hold; let the balancer speak HTTP and name its address",
    },
    lets_out="accel-raw",
    reads_htpasswd=False,
    checks_as_itself=True,
    gets_certificates=True,
)

HAPROXY = Front(
    "haproxy",
    "HAProxy",
    {
        "debian": Packaging(
            "haproxy.service",
            "haproxy",
            "haproxy",
            "haproxy",
            "/etc/haproxy/haproxy.cfg",
            "",
            chroot="/var/lib/haproxy",
            main="/etc/haproxy/haproxy.cfg",
        ),
        "fedora": Packaging(
            "haproxy.service",
            "haproxy",
            "haproxy",
            "haproxy",
            "/etc/haproxy/conf.d/NAME.cfg",
            "",
            chroot="/var/lib/haproxy",
            main="/etc/haproxy/haproxy.cfg",
            tested="haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d",
        ),
        "arch": Packaging(
            "haproxy.service",
            "haproxy",
            "haproxy",
            "haproxy",
            "/etc/haproxy/haproxy.cfg",
            "",
            chroot="/usr/share/haproxy",
            main="/etc/haproxy/haproxy.cfg",
        ),
    },
    {
        "http": "streams uploads, chunked ones too",
        "fastcgi": "a chunked upload over 16 kB is answered 400",
    },
    {
        "scgi": _NO_TRANSPORT.format("HAProxy", "scgi"),
        "uwsgi": _NO_TRANSPORT.format("HAProxy", "uwsgi"),
    },
    "haproxy -c -f /etc/haproxy/haproxy.cfg",
    Failures(503, " SC-- ", " SC-- ", " SC-- ", "answers 503 at once"),
    (
        "It changes its root directory: the socket must lie inside, and its path is written as "
        "seen from there. An absolute path outside gives 503.",
        "It passes every Upgrade on: by h2c a client can talk to a server that speaks it "
        "(hypercorn) past HAProxy.",
        "It keeps only its primary group: SocketGroup= must be that one.",
        "Its fcgi-app fills REMOTE_USER from the client's Authorization header, unverified, "
        "unless told otherwise.",
    ),
    not_outage={
        "maintenance": f"HAProxy looks at no file while it runs; {_STOP_INSTEAD}",
        "front-log": "HAProxy writes no file; its line in the system's log has the times already",
    },
    pages_at_start=True,
    static=False,
    reads_htpasswd=False,
    drops_groups=True,
)

CHEROKEE = Front(
    "cherokee",
    "Cherokee",
    {},
    {
        "scgi": "a small chunked upload loses its body without a word",
        "fastcgi": "as scgi",
        "uwsgi": "as scgi",
    },
    {"http": "Cherokee's HTTP proxy cannot connect to a unix socket"},
    "",
    Failures(
        503,
        "The information source is being disabled",
        "The information source is being disabled",
        "The information source is being disabled",
        "waits",
    ),
    (
        "No distribution packages it any more, so its configuration is not run in our tests.",
        "It sends HTTPS=off and decodes REQUEST_URI; our server knows both.",
    ),
    dict.fromkeys(HOPS, "Cherokee takes the client's address from a balancer, but not the scheme"),
    dict.fromkeys(
        ("error-pages", "maintenance", "front-log"),
        "for Cherokee it is not written: no test of ours runs it",
    ),
)

FRONTS: dict[str, Front] = {
    front.name: front for front in (NGINX, APACHE, LIGHTTPD, CADDY, HAPROXY, CHEROKEE)
}

PHP_USER: dict[str, str] = {"debian": "www-data", "fedora": "apache", "arch": "http"}
"""Whom PHP-FPM's packaged pool runs as, by distribution."""

REFUSED: dict[str, str] = {
    "h2o": "it forwards the client's Proxy and X-Forwarded-* headers unchanged",
}
"""Web servers that no configuration is generated for, and why."""


def find(name: str) -> Front:
    """Return the front called `name`; UsageError where there is none, or why it is refused."""
    try:
        return FRONTS[name]
    except KeyError:
        why = f"{REFUSED[name]}; use" if name in REFUSED else "there is no such front; there are"
        raise UsageError(f"{name}: {why} {', '.join(FRONTS)}") from None


def file_name(site: str) -> str:
    """Return what stands for NAME of a front's file: the site's name, less what is not a name."""
    return re.sub("[^A-Za-z0-9._-]", "-", site)


def packaging(front: Front, distribution: str) -> Packaging:
    """Return how `distribution` runs `front`; UsageError where it does not package it."""
    try:
        return front.packaging[distribution]
    except KeyError:
        raise UsageError(
            f"--front {front.name}: {DISTRIBUTIONS[distribution]} does not package it, so whom it "
            "runs as is not known: name its group with --group"
        ) from None


def distribution(os_release: str | None = None) -> str:
    """Return the family of the running system: a key of `DISTRIBUTIONS`.

    `os_release` is the text of os-release(5); without it the system's own is read. ID= and
    ID_LIKE= are looked at, as that page advises; a family that is not known is debian.
    """
    if os_release is None:
        from pathlib import Path

        os_release = next(
            (
                path.read_text(encoding="utf-8", errors="replace")
                for path in (Path("/etc/os-release"), Path("/usr/lib/os-release"))
                if path.is_file()
            ),
            "",
        )
    values = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    family = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora"}
    for word in f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".split():
        name = word.strip("\"'").lower()
        name = family.get(name, name)
        if name in DISTRIBUTIONS:
            return name
    return "debian"
