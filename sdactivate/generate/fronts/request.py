"""What a front is asked to do for a site: conflicting options are refused here.

The values come from `options`; what is written of them, from `fronts`.
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
"""What is believed of those of --behind besides, where --trust-headers names it: many balancers
pass a client's on."""

_NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class FrontRequest:
    """What a front is to do for one site.

    Raises UsageError for values that can't go together, or that this front can't do, with the
    reason and what to do instead.
    """

    front: fronts.Front
    name: str
    """The site's name, of letters, digits and . _ -."""
    socket: str
    """The socket's path."""
    protocol: str = ""
    """What the front speaks to it; "": what is recommended for this front."""
    server_name: tuple[str, ...] = ()
    """The host names that are served, the canonical one first; (): all."""
    mount: str = ""
    """The URL path that the application is mounted at, such as /app; "": the root."""
    static: tuple[Files, ...] = ()
    media: tuple[Files, ...] = ()
    """Files that users sent: a browser must not guess what they are, and PHP not run them."""
    protected: tuple[Files, ...] = ()
    """Files that only the application lets out. A client that asks for their URL gets none."""
    tls: Tls | str | None = None
    """HTTPS, and a redirect to it from HTTP: with these files, or as `AUTO` and `PENDING` say;
    None: HTTP only."""
    hsts: int | None = None
    """Seconds that browsers come by HTTPS alone after each visit (RFC 6797); None: not said."""
    behind: tuple[Hop, ...] = ()
    """Who is in front of the front and speaks for its clients."""
    hop_fields: tuple[str, ...] = ()
    """Which of X-Forwarded-Host and X-Forwarded-Port are believed of them besides."""
    stream: tuple[str, ...] = ()
    """URL paths below which nothing is buffered, without a slash at their end; "": everywhere."""
    max_body: int = DEFAULTS.body_bytes
    """The largest request body in bytes; 0: no limit."""
    header_bytes: int = DEFAULTS.header_bytes
    """The longest header of a request that the server takes, in bytes."""
    timeout: float = 60.0
    """Seconds that the application may be silent."""
    websockets: bool = False
    """Whether WebSockets are passed on: the application may be ASGI."""
    websocket_timeout: float = 3600.0
    """Seconds that a WebSocket may be silent."""
    filters_names: bool = True
    """Whether the server drops every spelling of a header field that only a front may set."""
    auth_file: str = ""
    """An htpasswd file: everybody has to log in; "": nobody has to."""
    error_pages: str = ""
    """The directory of 502.html, 503.html and 504.html, which the front answers itself with."""
    maintenance: str | bool = ""
    """The file by whose presence the site is in maintenance; True: where it usually is."""
    front_log: str | bool = ""
    """The front's access log; True: in the front's own directory of logs."""
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
        """Whether there is HTTPS, and HTTP only leads to it."""
        return self.tls not in (None, PENDING)

    @property
    def by_certbot(self) -> bool:
        """Whether certbot gets the certificate: the front answers its challenge (RFC 8555)."""
        return self.tls in (AUTO, PENDING) and not self.front.gets_certificates

    @property
    def hop(self) -> str:
        """How those in front of the front speak for their clients: "http", "proxy"; "": nobody."""
        return "" if not self.behind else "proxy" if self.behind[0].form == "proxy" else "http"

    @property
    def hop_addresses(self) -> list[str]:
        """Their addresses and networks."""
        return list(dict.fromkeys(hop.peer for hop in self.behind if hop.form != "unix"))

    @property
    def hop_socket(self) -> str:
        """The front's own unix socket for them; "": none. Its directory says who may connect."""
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
        """How the distribution runs the front; None where it does not package it."""
        return self.front.packaging.get(self.distribution)

    @property
    def seen_socket(self) -> str | None:
        """The socket's path as the front's own processes see it; None where they can't."""
        return self.packaging.path_inside(self.socket) if self.packaging else self.socket


def _check_protocol(front: fronts.Front, protocol: str) -> None:
    if protocol not in front.protocols:
        why = front.refused.get(protocol, "there is no such protocol")
        raise UsageError(
            f"--protocol {protocol}: {why}; with {front.title} it can be "
            + ", ".join(front.protocols)
        )


def _conflicts(asked: FrontRequest) -> list[tuple[str, str]]:
    """What can't go together, as option and reason."""
    front, packaging = asked.front, asked.packaging
    title = front.title
    found = []
    if asked.tls and not asked.server_name:
        found.append(
            ("--tls", "the redirect to HTTPS goes to a fixed host; name it with --server-name")
        )
    found += _certificate_conflicts(asked)
    if asked.php and not asked.mount:
        found.append(
            ("--php", "the application has every path; mount it below one, such as --mount /app")
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
                f"{title} serves no files; let the application do it (WhiteNoise), or another "
                "front",
            )
        )
    if asked.auth_file and (front.name, asked.speaks) == ("lighttpd", "http"):
        found.append(
            (
                "--auth-file",
                "lighttpd does not tell an http backend who logged in; use "
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
                    (f"{option} {url}={directory}", f"{taken[url]} has the same URL; change one")
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
    """What of --tls auto and --hsts can't be done."""
    front, found = asked.front, []
    if asked.tls in (AUTO, PENDING):
        option = f"--tls {asked.tls}"
        if not front.packaging:
            found.append((option, f"not tried with {front.title}; use --tls CERT,KEY"))
        elif asked.tls == PENDING and front.gets_certificates:
            found.append((option, f"{front.title} gets its certificate by itself; use --tls auto"))
        found += [
            (f"--server-name {name}", "a certificate is for host names, not for addresses")
            for name in asked.server_name
            if _is_address(name)
        ]
    if asked.hsts is not None and not asked.tls:
        found.append(("--hsts", "browsers heed it over HTTPS alone; give --tls, too"))
    elif asked.hsts is not None and not front.packaging:
        why = f"not tried with {front.title}; let Django say it (SECURE_HSTS_SECONDS)"
        found.append(("--hsts", why))
    return found


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _open_conflicts(asked: FrontRequest) -> list[tuple[str, str]]:
    """Protected directories that clients reach by another of the front's, and uploads that PHP
    would run."""
    open_to_all = [("--static", it.directory) for it in asked.static]
    open_to_all += [("--media", it.directory) for it in asked.media]
    open_to_all += [("--php-root", asked.php_root.rstrip("/") + "/")] if asked.php else []
    found = [
        (
            f"--protected {url}={directory}",
            f"it lies in {option} {other}, where every client can ask for it; move it out",
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
                "PHP would run what users send: one of it and --php-root "
                f"{asked.php_root} holds the other; move one out",
            )
            for option, (url, directory) in sent
            if lies_in(directory, asked.php_root) or lies_in(asked.php_root, directory)
        ]
    return found


def _hop_conflicts(asked: FrontRequest) -> list[tuple[str, str]]:
    """What of --behind this front can't do."""
    front = asked.front
    found = []
    if asked.hop == "http" and front.name == "lighttpd":
        if asked.speaks == "http":
            found.append(
                (
                    "--behind",
                    "lighttpd tells an http backend the balancer's address, not the client's; use "
                    "--protocol scgi, or another front",
                )
            )
        found += [
            (
                f"--trust-headers {field}",
                "lighttpd takes no more than address and scheme from a balancer; let it send the "
                "client's Host",
            )
            for field in asked.hop_fields
        ]
    for hop in asked.behind:
        option = "--behind " + ("proxy:" if hop.form == "proxy" else "") + hop.peer
        if why := front.not_behind.get(hop.form):
            found.append((option, why))
        elif (hop.form == "proxy") != (asked.hop == "proxy"):
            found.append(
                (option, "a front either reads PROXY headers or is told by HTTP, never both")
            )
    return found


def front_request(front: fronts.Front, site: Site, **options: Any) -> FrontRequest:
    """Return what `options` (keywords of `options.FRONT`) ask of `front` for `site`.

    Raises UsageError where the site has no socket in the file system, and what FrontRequest does.
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
        raise UsageError(
            f"--listen {site.addresses[0]}: a front is pointed at a socket in the file system"
        )
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
    """Return what the administrator has to know about this front here, a sentence each.

    settings: the site's runtime settings, as text.
    """
    front, packaging, title = asked.front, asked.packaging, asked.front.title
    said = []
    if packaging is None:
        said.append(f"{title} is in no current distribution: no test of ours runs this text")
    elif packaging.private_tmp and asked.socket.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108
        said.append(
            f"--listen {asked.socket}: {packaging.unit} has PrivateTmp=yes, a /tmp and /var/tmp "
            "of its own, and can't see the socket; use /run"
        )
    if packaging and front.drops_groups:
        said.append(
            f"{title} keeps only its primary group, {packaging.group}: it has to be the socket's "
            f"(--front {front.name}, or --group {packaging.group})"
        )
    said += asked.outage.warnings(front, asked.hop == "http", packaging.logs if packaging else "")
    if asked.hop_socket:
        directory = asked.hop_socket.rpartition("/")[0]
        said.append(
            f"--behind unix: all who can enter {directory} speak for all clients. Make it for the "
            f"balancer's group, by a line in /etc/tmpfiles.d: d {directory} 0750 root GROUP"
        )
    if asked.distribution == "fedora":
        said.append(
            "where SELinux is enforcing, the front (httpd_t) has to be allowed to use the socket: "
            f"`semanage fcontext -a -t httpd_var_run_t '{asked.socket}'`, restart the socket "
            "unit, and look for what else is denied with `ausearch -m avc -ts recent`"
        )
    if asked.php and packaging and packaging.user == fronts.PHP_USER[asked.distribution]:
        said.append(
            f"--php: PHP-FPM runs as {packaging.user}, as {title} does: PHP code can connect to "
            "the application's socket and go round what the front checks. Give the socket a group "
            "of its own that only the front is in, or run the PHP pool as another user"
        )
    if asked.auth_file and asked.speaks == "http" and "remote_user" not in settings:
        said.append(
            "--auth-file: over HTTP the service has to be told that this front sets Remote-User, "
            "or the user does not reach the application: generate it with --remote-user yes, or "
            f"with --front {front.name} and the same --auth-file"
        )
    if (
        asked.mount
        and asked.speaks == "http"
        and "X-Script-Name" not in header_names(settings.get("trust_headers", ""))
    ):
        said.append(
            "--mount: over HTTP the service has to be told that this front sets X-Script-Name, or "
            f"the application takes {asked.mount} for a part of its own paths: generate it with "
            f"--trust-headers X-Script-Name, or with --front {front.name} and the same --mount"
        )
    if asked.auth_file and not front.reads_htpasswd:
        said.append(
            f"--auth-file {asked.auth_file}: {title} reads no htpasswd file, its lines are copied. "
            "Generate again when they change, and keep the result from others (mode 0640)"
        )
    return said
