"""The table of web servers: users and groups by distribution, protocols, log messages.

The generator takes users, groups, protocols and paths from it and warns of pitfalls, the doctor
finds a front's processes and explains its log lines with it, and the documentation lists it. It
imports neither generator nor doctor.

Debian's rows, the protocols and the log lines were verified on Debian 12 (nginx 1.22, Apache 2.4,
lighttpd 1.4.69, Caddy 2.6, HAProxy 2.6), and the tests verify them again. Cherokee 1.2.104 was
tried once, by hand, since no distribution packages it. Fedora's and Arch's rows were read from
their packages.
"""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from sdactivate.errors import UsageError

DISTRIBUTIONS: dict[str, str] = {"debian": "Debian", "fedora": "Fedora", "arch": "Arch Linux"}
"""The distribution families whose packages differ, with their titles. Ubuntu is debian, RHEL is
fedora."""


class Packaging(NamedTuple):
    """How one distribution runs a front, as packaged."""

    unit: str
    """The service's unit, such as nginx.service."""
    user: str
    """The user of the processes that connect to the socket."""
    group: str
    """Their primary group: what SocketGroup= should be."""
    process: str
    """Their name in /proc/PID/comm."""
    config: str
    """The path of the generated file; NAME stands for the site's name. A path without NAME is the
    front's only file, which belongs to the administrator."""
    log: str
    """The error log: a file, or "" for the unit's journal."""
    private_tmp: bool = False
    """Whether the unit has PrivateTmp=, so that the front has a /tmp and /var/tmp of its own."""
    chroot: str = ""
    """The root directory that the front's configuration sets (chroot), if any."""
    link: str = ""
    """The symbolic link that enables the file, if one is needed."""
    main: str = ""
    """The front's main file, which must include the generated one, unless the unit names that
    file's directory (HAProxy)."""
    tested: str = ""
    """The command that checks the configuration, if it differs from `Front.check`."""

    def path_inside(self, path: str) -> str | None:
        """Return the absolute `path` as the front sees it; None if it can't see it."""
        if not self.chroot:
            return path
        inside = path.removeprefix(self.chroot)
        return inside if inside != path and inside.startswith("/") else None

    def default_socket(self, name: str) -> str:
        """Return the default path of the socket of the site `name`."""
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
    """What a front logs when it cannot connect; SOCKET stands for the socket's path."""

    status: int
    """The HTTP status that the client gets."""
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
    """How each distribution runs it; empty if none packages it."""
    protocols: Mapping[str, str]
    """The protocols that it speaks correctly to a unix socket, the recommended one first, each with
    a remark."""
    refused: Mapping[str, str]
    """The protocols that it does not speak correctly, each with the reason for which the generator
    refuses it."""
    check: str
    """The front's own command to check its configuration."""
    failures: Failures
    traps: tuple[str, ...] = ()
    not_behind: Mapping[str, str] = {}
    """The forms of --behind (see `HOPS`) that it does not support, each with the reason for which
    the generator refuses it."""
    not_outage: Mapping[str, str] = {}
    """The same for --error-pages, --maintenance and --front-log."""
    pages_at_start: bool = False
    """Whether it reads the pages of --error-pages at its start, and fails to start if one is
    missing."""
    static: bool = True
    """Whether it can serve files itself, and PHP through FastCGI."""
    reads_htpasswd: bool = True
    """Whether it reads an htpasswd file itself; otherwise its lines are copied."""
    lets_out: str = ""
    """How an application has it send a file of --protected: a key of `protected.WAYS`; "": it
    can't."""
    not_let_out: Mapping[str, str] = {}
    """The protocols over which that does not work, each with the reason for which the generator
    refuses --protected."""
    drops_groups: bool = False
    """Whether its processes keep only their primary group."""
    renew: str = "reload"
    """The systemctl(1) verb that applies a changed configuration."""
    checks_as_itself: bool = False
    """Whether its check must run as the front's own user. As root it may create files, such as
    logs, that the front then can't write."""
    gets_certificates: bool = False
    """Whether it gets and renews certificates itself (RFC 8555); otherwise certbot does."""

    @property
    def recommended(self) -> str:
        """The default protocol."""
        return next(iter(self.protocols))


HOPS: dict[str, str] = {
    "http": "an HTTP proxy at an address: X-Forwarded-For and X-Forwarded-Proto",
    "unix": "an HTTP proxy on the front's own unix socket: the same header fields",
    "proxy": "a TCP proxy at an address: the PROXY protocol",
}
"""What can be in front of a front, and how it tells the client's address."""

_NO_TRANSPORT = "{} has no {} transport"
_STOP_INSTEAD = "stop the site's socket and service instead; then it answers 503"

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
        "fastcgi": "streams uploads below the paths of --stream, chunked ones too",
        "scgi": "the least overhead; nginx always buffers an upload until it is complete",
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
        "client's Proxy header through as HTTP_PROXY and pass a user name that was not verified.",
        "A proxy_set_header in a location cancels all those of the enclosing server: adding one "
        "for WebSockets lets the client's X-Forwarded-* through.",
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
        "fastcgi": "correct paths, streams uploads, chunked ones too",
        "scgi": "correct paths; answers 411 to a chunked upload",
        "http": "the server must filter header names, as the native server does",
    },
    {
        "uwsgi": "Apache's mod_proxy_uwsgi truncates SCRIPT_NAME if the path after the mount "
        "point has an encoded character",
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
        "Two sockets behind one host name in proxy:unix:SOCKET|scgi://HOST share a proxy worker: "
        "requests go to the wrong application. Give each socket a host name of its own.",
        "ProxyPass with scgi gives an encoded PATH_INFO and a broken SCRIPT_NAME, with fcgi no "
        "PATH_INFO at all; Alias and SetHandler give the right ones.",
    ),
    {
        "unix": "Apache can't listen on a unix socket",
        "proxy": "Apache (RemoteIPProxyProtocol) trusts a PROXY header from every peer; let "
        "the balancer speak HTTP and give its address",
    },
    lets_out="redirect",
    not_let_out=dict.fromkeys(
        ("fastcgi", "http"),
        "Apache sends a protected file by a local redirect, which it supports only over SCGI "
        "(mod_xsendfile behind a proxy sends any file, whatever XSendFilePath says); use "
        "--protocol scgi",
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
        "scgi": "lighttpd buffers an upload until it is complete",
        "fastcgi": "as scgi",
        "uwsgi": "as scgi",
        "http": "normalises paths and loses REMOTE_USER",
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
        'A prefix without a slash at its end, such as "/app", also matches /apple.',
        "server.stream-request-body = 1 streams uploads, but then lighttpd answers 411 to a "
        "chunked one.",
        "After a failed connection, lighttpd does not try again for a second.",
        "A reload (USR1) reads the configuration as lighttpd's user, which can't bind a new port "
        "below 1024 or read root's keys: restart it instead.",
    ),
    not_outage={
        "maintenance": "lighttpd can look for a file at each request only by a Lua script "
        f"for mod_magnet, a separate package; {_STOP_INSTEAD}",
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
        "http": "the least overhead; streams uploads",
        "fastcgi": "a chunked upload arrives with CONTENT_LENGTH=-1, which the native server "
        "understands; Caddy 2.9 and later answers 411 to one over 4 KiB",
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
        "It passes every Upgrade header on: with a server that speaks h2c (hypercorn), a client "
        "can bypass Caddy.",
        "Debian's Caddyfile imports no other files: add `import /etc/caddy/*.caddyfile` to it.",
        "Caddy asks the application for gzip and unpacks it for clients that do not accept it; "
        "`compression off` leaves the choice to the client.",
    ),
    {
        "unix": "Caddy 2.6 creates a unix socket that only its own user can use; let the "
        "balancer connect to an address, and give the balancer's",
        "proxy": "Caddy reads a PROXY header only from 2.7 on and only by a global option, "
        "which a site's file can't have; let the balancer speak HTTP and give its "
        "address",
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
        "fastcgi": "answers 400 to a chunked upload over 16 kB",
    },
    {
        "scgi": _NO_TRANSPORT.format("HAProxy", "scgi"),
        "uwsgi": _NO_TRANSPORT.format("HAProxy", "uwsgi"),
    },
    "haproxy -c -f /etc/haproxy/haproxy.cfg",
    Failures(503, " SC-- ", " SC-- ", " SC-- ", "answers 503 at once"),
    (
        "It changes its root directory (chroot): the socket must be inside, and its path is "
        "relative to that directory. A path outside gives 503.",
        "It passes every Upgrade header on: with a server that speaks h2c (hypercorn), a client "
        "can bypass HAProxy.",
        "It keeps only its primary group: SocketGroup= must name that one.",
        "Its fcgi-app sets REMOTE_USER from the client's Authorization header, unverified, "
        "unless it is configured not to.",
    ),
    not_outage={
        "maintenance": f"HAProxy can't look for a file while it runs; {_STOP_INSTEAD}",
        "front-log": "HAProxy writes no log file; its line in the system log already has the times",
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
        "scgi": "the body of a small chunked upload is lost silently",
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
        "No distribution packages it any more, so the tests do not run its configuration.",
        "It sends HTTPS=off and decodes REQUEST_URI; the native server handles both.",
    ),
    dict.fromkeys(HOPS, "Cherokee takes the client's address from a balancer, but not the scheme"),
    dict.fromkeys(
        ("error-pages", "maintenance", "front-log"),
        "it is not generated for Cherokee, which the tests don't run",
    ),
)

FRONTS: dict[str, Front] = {
    front.name: front for front in (NGINX, APACHE, LIGHTTPD, CADDY, HAPROXY, CHEROKEE)
}

PHP_USER: dict[str, str] = {"debian": "www-data", "fedora": "apache", "arch": "http"}
"""The user of PHP-FPM's packaged pool, by distribution."""

REFUSED: dict[str, str] = {
    "h2o": "it forwards the client's Proxy and X-Forwarded-* headers unchanged",
}
"""Web servers for which no configuration is generated, and why."""


def find(name: str) -> Front:
    """Return the front called `name`; raise UsageError if it is unknown or refused."""
    try:
        return FRONTS[name]
    except KeyError:
        why = f"{REFUSED[name]}; use" if name in REFUSED else "there is no such front; choose from"
        raise UsageError(f"{name}: {why} {', '.join(FRONTS)}") from None


def file_name(site: str) -> str:
    """Return the site's name for use in a front's paths, with unsuitable characters replaced."""
    return re.sub("[^A-Za-z0-9._-]", "-", site)


def packaging(front: Front, distribution: str) -> Packaging:
    """Return how `distribution` runs `front`; raise UsageError if it does not package it."""
    try:
        return front.packaging[distribution]
    except KeyError:
        raise UsageError(
            f"--front {front.name}: {DISTRIBUTIONS[distribution]} does not package it, so its "
            "user and group are unknown: give the group with --group"
        ) from None


def distribution(os_release: str | None = None) -> str:
    """Return the family of the running system: a key of `DISTRIBUTIONS`.

    `os_release` is the text of os-release(5); by default this system's file is read. ID= and then
    ID_LIKE= decide, as that page advises; an unknown family counts as debian.
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
