"""The options of one front for one site; conflicting options are refused here.

`options` parses the values, and `render` writes them.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdactivate import fronts
from sdactivate.errors import UsageError
from sdactivate.generate.fronts.options import (
    AUTO,
    PENDING,
    YEAR,
    Files,
    Hop,
    Tls,
    file_path,
    lies_in,
    stream_path,
)
from sdactivate.generate.fronts.outage import Outage
from sdactivate.settings import BY_NAME, DEFAULTS, header_names
from sdactivate.site import Site

HOP_FIELDS = ("X-Forwarded-Host", "X-Forwarded-Port")
"""Fields that are trusted from the peers of --behind only if --trust-headers names them, since many
load balancers pass a client's on."""

_NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class FrontRequest:
    """The configuration of one front for one site.

    Raises UsageError for values that conflict or that this front does not support, with the reason
    and what to do instead.
    """

    front: fronts.Front
    name: str
    """The site's name, of letters, digits and . _ -."""
    socket: str
    """The socket's path."""
    protocol: str = ""
    """The protocol that the front speaks to it; "": the one recommended for this front."""
    server_name: tuple[str, ...] = ()
    """The host names that are served, the canonical one first; (): all."""
    mount: str = ""
    """The URL path that the application is mounted at, such as /app; "": the root."""
    static: tuple[Files, ...] = ()
    media: tuple[Files, ...] = ()
    """Users' uploads: a browser must not guess their type, and PHP must not run them."""
    protected: tuple[Files, ...] = ()
    """Files that are sent only if the application's response says so; clients can't request their
    URLs."""
    tls: Tls | str | None = None
    """HTTPS, and a redirect to it from HTTP: a certificate and key, `AUTO` or `PENDING`; None: HTTP
    only."""
    hsts: int | None = None
    """Seconds for which browsers use only HTTPS after each visit (RFC 6797); None: no such
    header."""
    behind: tuple[Hop, ...] = ()
    """The peers in front of the front that speak for their clients."""
    hop_fields: tuple[str, ...] = ()
    """Which of X-Forwarded-Host and X-Forwarded-Port are also trusted from them."""
    stream: tuple[str, ...] = ()
    """URL paths below which nothing is buffered, without a trailing slash; "": all paths."""
    max_body: int = DEFAULTS.body_bytes
    """The largest request body in bytes; 0: no limit."""
    header_bytes: int = DEFAULTS.header_bytes
    """The longest request header that the server accepts, in bytes."""
    timeout: float = 60.0
    """Seconds for which the application may send nothing."""
    websockets: bool = False
    """Whether WebSockets are passed on, since the application may be ASGI."""
    websocket_timeout: float = 3600.0
    """Seconds for which a WebSocket may be idle."""
    filters_names: bool = True
    """Whether the server drops every spelling of a header field that only a front may set."""
    auth_file: str = ""
    """An htpasswd file, with which every client must log in; "": no login."""
    error_pages: str = ""
    """The directory of 502.html, 503.html and 504.html, the front's error pages."""
    maintenance: str | bool = ""
    """The file that puts the site into maintenance while it exists; True: at the default path."""
    front_log: str | bool = ""
    """The front's access log; True: in the front's own log directory."""
    php: str = ""
    """The socket of PHP-FPM, which runs the .php files under `php_root`; "": no PHP."""
    php_root: str = "/var/www/html"
    distribution: str = "debian"
    """A key of `fronts.DISTRIBUTIONS`."""

    def __post_init__(self) -> None:
        _check_protocol(self.front, self.speaks)
        for option, why in _conflicts(self):
            raise UsageError(f"{option}: {why}")

    @property
    def speaks(self) -> str:
        """The protocol between front and application."""
        return self.protocol or self.front.recommended

    @property
    def https(self) -> bool:
        """Whether the site is on HTTPS, and HTTP only redirects to it."""
        return self.tls not in (None, PENDING)

    @property
    def by_certbot(self) -> bool:
        """Whether certbot gets the certificate, and the front answers its challenge (RFC 8555)."""
        return self.tls in (AUTO, PENDING) and not self.front.gets_certificates

    @property
    def hop(self) -> str:
        """How the peers in front of the front pass on the client: "http", "proxy"; "": no peers."""
        return "" if not self.behind else "proxy" if self.behind[0].form == "proxy" else "http"

    @property
    def hop_addresses(self) -> list[str]:
        """The addresses and networks of those peers."""
        return list(dict.fromkeys(hop.peer for hop in self.behind if hop.form != "unix"))

    @property
    def hop_socket(self) -> str:
        """The front's unix socket for them; "": none. Its directory restricts who can connect."""
        unix = any(hop.form == "unix" for hop in self.behind)
        return f"/run/{self.name}-front/http.sock" if unix else ""

    @property
    def outage(self) -> Outage:
        """--error-pages, --maintenance and --front-log, as paths."""
        logs = self.packaging.logs if self.packaging else ""
        usual = (f"/etc/{self.name}.maintenance", f"{logs}/{self.name}-access.log")
        switch, log = (
            path if given is True else given or ""
            for given, path in zip((self.maintenance, self.front_log), usual, strict=True)
        )
        return Outage(self.error_pages.rstrip("/") or self.error_pages, switch, log)

    @property
    def packaging(self) -> fronts.Packaging | None:
        """How the distribution runs the front; None if it does not package it."""
        return self.front.packaging.get(self.distribution)

    @property
    def seen_socket(self) -> str | None:
        """The socket's path as the front's own processes see it; None if they can't see it."""
        return self.packaging.path_inside(self.socket) if self.packaging else self.socket


def _check_protocol(front: fronts.Front, protocol: str) -> None:
    if protocol not in front.protocols:
        why = front.refused.get(protocol, "there is no such protocol")
        raise UsageError(
            f"--protocol {protocol}: {why}; with {front.title} it can be "
            + ", ".join(front.protocols)
        )


def _conflicts(asked: FrontRequest) -> list[tuple[str, str]]:
    """Yield each conflicting option, with the reason."""
    front, packaging = asked.front, asked.packaging
    title = front.title
    found = []
    if asked.tls and not asked.server_name:
        found.append(
            ("--tls", "the redirect to HTTPS needs a fixed host; give it with --server-name")
        )
    found += _certificate_conflicts(asked)
    if asked.php and not asked.mount:
        found.append(
            (
                "--php",
                "the application already has every path; mount it below one, such as --mount /app",
            )
        )
    if asked.protected and front.static and not front.lets_out:
        found.append(
            (
                "--protected",
                f"{title} would let the application send any file that {title} can read; let the "
                "application send them itself (FileResponse), or use another front",
            )
        )
    if not front.static and (asked.static or asked.media or asked.protected or asked.php):
        options = {"--php": asked.php, "--static": asked.static, "--media": asked.media}
        option = next((option for option, given in options.items() if given), "--protected")
        found.append(
            (
                option,
                f"{title} can't serve files; let the application do it (WhiteNoise), or another "
                "front",
            )
        )
    if asked.auth_file and (front.name, asked.speaks) == ("lighttpd", "http"):
        found.append(
            (
                "--auth-file",
                "lighttpd does not pass the user to an http backend; use "
                + ("--protocol scgi" if asked.filters_names else "another front"),
            )
        )
    if isinstance(asked.tls, Tls) and front.name == "haproxy":
        certificate, key = asked.tls
        if key not in (certificate, f"{certificate}.key"):
            found.append(
                (
                    f"--tls {certificate},{key}",
                    f"HAProxy looks for the key in the certificate's own file or in "
                    f"{certificate}.key",
                )
            )
    found += _hop_conflicts(asked)
    found += asked.outage.conflicts(front, [directory for _, directory in asked.media])
    taken = {f"{asked.mount}/": "--mount"} | {f"{path}/": "--stream" for path in asked.stream}
    for option, directories in (
        ("--static", asked.static),
        ("--media", asked.media),
        ("--protected", asked.protected),
    ):
        for url, directory in directories:
            if url in taken:
                found.append(
                    (
                        f"{option} {url}={directory}",
                        f"{taken[url]} has the same URL; change one of them",
                    )
                )
            taken[url] = option
    if asked.protected and asked.speaks in front.not_let_out:
        found.append(("--protected", front.not_let_out[asked.speaks]))
    found += _open_conflicts(asked)
    if asked.seen_socket is None and packaging:
        found.append(
            (
                f"--listen {asked.socket}",
                f"{title} makes {packaging.chroot} its root directory and can't see a socket "
                f"outside; use {packaging.default_socket(asked.name)}",
            )
        )
    return found


def _certificate_conflicts(asked: FrontRequest) -> list[tuple[str, str]]:
    """Yield the problems with --tls auto and --hsts."""
    front, found = asked.front, []
    if asked.tls in (AUTO, PENDING):
        option = f"--tls {asked.tls}"
        if not front.packaging:
            found.append((option, f"not supported for {front.title}; use --tls CERT,KEY"))
        elif asked.tls == PENDING and front.gets_certificates:
            found.append((option, f"{front.title} gets its certificate by itself; use --tls auto"))
        found += [
            (f"--server-name {name}", "a certificate needs a host name, not an address")
            for name in asked.server_name
            if _is_address(name)
        ]
    if asked.hsts is not None and not asked.tls:
        found.append(("--hsts", "browsers obey it only over HTTPS; give --tls, too"))
    elif asked.hsts is not None and not front.packaging:
        why = f"not supported for {front.title}; let Django send it (SECURE_HSTS_SECONDS)"
        found.append(("--hsts", why))
    return found


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _open_conflicts(asked: FrontRequest) -> list[tuple[str, str]]:
    """Yield protected directories that clients can reach, and uploads that PHP would run."""
    open_to_all = [("--static", it.directory) for it in asked.static]
    open_to_all += [("--media", it.directory) for it in asked.media]
    open_to_all += [("--php-root", asked.php_root.rstrip("/") + "/")] if asked.php else []
    found = [
        (
            f"--protected {url}={directory}",
            f"it is inside {option} {other}, from where every client can request it; move it out",
        )
        for url, directory in asked.protected
        for option, other in open_to_all
        if lies_in(directory, other)
    ]
    sent = [("--media", it) for it in asked.media] + [("--protected", it) for it in asked.protected]
    if asked.php:
        found += [
            (
                f"{option} {url}={directory}",
                "PHP would run uploaded files: one of this directory and --php-root "
                f"{asked.php_root} contains the other; move one out",
            )
            for option, (url, directory) in sent
            if lies_in(directory, asked.php_root) or lies_in(asked.php_root, directory)
        ]
    return found


def _hop_conflicts(asked: FrontRequest) -> list[tuple[str, str]]:
    """Yield what this front does not support of --behind."""
    front = asked.front
    found = []
    if asked.hop == "http" and front.name == "lighttpd":
        if asked.speaks == "http":
            found.append(
                (
                    "--behind",
                    "lighttpd passes the load balancer's address to an http backend, not the "
                    "client's; use --protocol scgi, or another front",
                )
            )
        found += [
            (
                f"--trust-headers {field}",
                "lighttpd takes only address and scheme from a load balancer; let the balancer "
                "send the client's Host",
            )
            for field in asked.hop_fields
        ]
    for hop in asked.behind:
        option = "--behind " + ("proxy:" if hop.form == "proxy" else "") + hop.peer
        if why := front.not_behind.get(hop.form):
            found.append((option, why))
        elif (hop.form == "proxy") != (asked.hop == "proxy"):
            found.append(
                (
                    option,
                    "a front either reads PROXY headers or X-Forwarded-* headers; give only one "
                    "of these kinds",
                )
            )
    return found


def front_request(front: fronts.Front, site: Site, **options: Any) -> FrontRequest:
    """Return the request that `options` (keywords of `options.FRONT`) make for `site` to `front`.

    Raises UsageError if the site has no socket in the file system, and as FrontRequest does.
    """
    distribution = options.pop("distribution", None) or fronts.distribution()
    asked = site.settings.get("protocol", "auto")
    protocol = site.backend.front_protocol(asked, tuple(front.protocols))
    if asked == "auto" and protocol in front.refused:
        raise UsageError(
            f"--server {site.backend.name}: it speaks {', '.join(site.backend.protocols)} only, "
            f"and {front.refused[protocol]}; put another front before it, such as --kind nginx"
        )
    packaging = front.packaging.get(distribution)
    if not site.listen and packaging:
        socket = packaging.default_socket(site.name)
    elif site.path:
        socket = site.path
    else:
        raise UsageError(f"--listen {site.addresses[0]}: a front needs a socket in the file system")
    try:
        file_path(socket)
    except UsageError as error:
        raise UsageError(f"--listen {error}") from None

    def setting(name: str) -> Any:
        text = site.settings.get(name)
        return BY_NAME[name].default if text is None else BY_NAME[name].parse(text, name)

    options.setdefault("max_body", setting("body_bytes"))
    if isinstance(hsts := options.get("hsts"), bool):
        options["hsts"] = YEAR if hsts else None
    return FrontRequest(
        front,
        fronts.file_name(site.name),
        socket,
        protocol=protocol,
        distribution=distribution,
        websockets=site.backend.takes_websockets(site.app),
        filters_names=site.backend.in_process,
        stream=tuple(dict.fromkeys(map(stream_path, setting("stream")))),
        hop_fields=tuple(name for name in HOP_FIELDS if name in setting("trust_headers")),
        header_bytes=setting("header_bytes"),
        **options,
    )


def warnings(asked: FrontRequest, settings: Mapping[str, str] = _NONE) -> list[str]:
    """Return the warnings about this front on this system, one sentence each.

    settings: the site's runtime settings, as text.
    """
    front, packaging, title = asked.front, asked.packaging, asked.front.title
    said = []
    if packaging is None:
        said.append(
            f"no current distribution packages {title}, so the tests do not run this configuration"
        )
    elif packaging.private_tmp and asked.socket.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108
        said.append(
            f"--listen {asked.socket}: {packaging.unit} has PrivateTmp=yes, a /tmp and /var/tmp "
            "of its own, and can't see the socket: use /run"
        )
    if packaging and front.drops_groups:
        said.append(
            f"{title} keeps only its primary group, {packaging.group}, so that must be the "
            f"socket's group (--front {front.name}, or --group {packaging.group})"
        )
    said += asked.outage.warnings(front, asked.hop == "http", packaging.logs if packaging else "")
    if asked.hop_socket:
        directory = asked.hop_socket.rpartition("/")[0]
        said.append(
            f"--behind unix: every process that can enter {directory} can speak for all clients. "
            f"Create it for the balancer's group, by a line in /etc/tmpfiles.d: d {directory} "
            "0750 root GROUP"
        )
    if asked.distribution == "fedora":
        said.append(
            "with SELinux enforcing, the front (httpd_t) must be allowed to use the socket: "
            f"`semanage fcontext -a -t httpd_var_run_t '{asked.socket}'`, restart the socket "
            "unit, and look for other denials with `ausearch -m avc -ts recent`"
        )
    if asked.php and packaging and packaging.user == fronts.PHP_USER[asked.distribution]:
        said.append(
            f"--php: PHP-FPM runs as {packaging.user}, as {title} does: PHP code can connect to "
            "the application's socket and bypass the front's checks. Give the socket a group of "
            "its own with only the front in it, or run the PHP pool as another user"
        )
    if asked.auth_file and asked.speaks == "http" and "remote_user" not in settings:
        said.append(
            "--auth-file: over HTTP the service must be configured to trust the front's "
            "Remote-User, or the application does not get the user: generate it with "
            f"--remote-user yes, or with --front {front.name} and the same --auth-file"
        )
    if (
        asked.mount
        and asked.speaks == "http"
        and "X-Script-Name" not in header_names(settings.get("trust_headers", ""))
    ):
        said.append(
            "--mount: over HTTP the service must be configured to trust the front's "
            f"X-Script-Name, or the application treats {asked.mount} as a part of its own paths: "
            f"generate it with --trust-headers X-Script-Name, or with --front {front.name} and "
            "the same --mount"
        )
    if asked.auth_file and not front.reads_htpasswd:
        said.append(
            f"--auth-file {asked.auth_file}: {title} can't read an htpasswd file, so its lines "
            "are copied. Generate again when they change, and protect the result (mode 0640)"
        )
    return said
