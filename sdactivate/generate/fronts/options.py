"""Options that only a front's configuration reads: server names, TLS, static files, limits.

The fronts' configuration languages quote differently, so a value may have only characters that are
not special in any of them. The templates write these values unchanged.
"""

import ipaddress
import posixpath
import re
from typing import Final, NamedTuple

from sdactivate import settings
from sdactivate.errors import UsageError, option_value
from sdactivate.generate.options import DISTRIBUTION, Option
from sdactivate.values import absolute_path

COLD_START = 10.0
"""Seconds that an application may take to start; no front may time out sooner."""


class Files(NamedTuple):
    """A URL that the front serves from a directory; `url` and `directory` both end with a slash."""

    url: str
    directory: str


class Tls(NamedTuple):
    """A certificate with its chain, and its key: the paths of two PEM files."""

    certificate: str
    key: str


AUTO: Final = "auto"
"""--tls: a certificate that is obtained and renewed automatically; see `certificates`."""
PENDING: Final = "pending"
"""--tls: HTTP, with all that is needed to get the first certificate of `AUTO`."""

YEAR = 31_536_000
"""The default of --hsts, in seconds."""


UNIX = "unix"
"""The value of --behind for a peer on the front's own unix socket."""


class Hop(NamedTuple):
    """A peer in front of the front that speaks for its clients."""

    form: str
    """A key of `fronts.HOPS`."""
    peer: str
    """Its address or network, or `UNIX`."""


_PATH = re.compile(r"/[A-Za-z0-9._~+@:=/-]*")
_URL = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


def host_name(text: str) -> str:
    """Return the host name `text` (RFC 1123, section 2.1) in lower case. Raises UsageError."""
    if not _HOST.fullmatch(text):
        raise UsageError(f"{text!r} is not a host name, such as example.org")
    return text.lower()


def url_path(text: str) -> str:
    """Return `text`, a URL path below the root, without a trailing slash.

    Raises UsageError for anything but letters, digits and . _ ~ - between the slashes, and for a
    component that begins with a dot, which a front would normalise.
    """
    if not _URL.fullmatch(path := text.rstrip("/")):
        raise UsageError(f"{text!r} is not a URL path below the root, such as /app")
    return path


def stream_path(text: str) -> str:
    """Return `text`, a path of --stream, as `url_path` does; "" for the root.

    Raises UsageError as `url_path` does.
    """
    return option_value("--stream", url_path, text) if text.strip("/") else ""


def file_path(text: str) -> str:
    """Return `text`, an absolute path that every front can write without quoting.

    Raises UsageError for anything but letters, digits and . _ ~ + @ : = - between the slashes.
    """
    if not _PATH.fullmatch(text):
        raise UsageError(f"{text!r} is not an absolute path of letters, digits and . _ ~ + @ : = -")
    return absolute_path(text)


def lies_in(path: str, directory: str) -> bool:
    """Return whether `path` is `directory` or below it, without resolving links."""
    path, directory = posixpath.normpath(path), posixpath.normpath(directory)
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def files(text: str) -> Files:
    """Parse "URL=DIR". Raises UsageError."""
    url, equals, directory = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not URL=DIR, such as /static/=/srv/mysite/staticfiles")
    return Files(url_path(url) + "/", file_path(directory).rstrip("/") + "/")


def tls(text: str) -> Tls | str:
    """Parse "CERT,KEY", `AUTO` or `PENDING`. Raises UsageError."""
    if text in (AUTO, PENDING):
        return text
    certificate, comma, key = text.partition(",")
    if not comma:
        raise UsageError(f"{text!r} is not CERT,KEY, the paths of two PEM files, nor 'auto'")
    return Tls(file_path(certificate), file_path(key))


def behind(text: str) -> Hop:
    """Parse "ADDRESS", "NETWORK", "unix" or "proxy:ADDRESS".

    Raises UsageError for anything else.
    """
    if text == UNIX:
        return Hop("unix", UNIX)
    form, colon, peer = text.partition(":")
    form, peer = ("proxy", peer) if colon and form == "proxy" else ("http", text)
    try:
        network = ipaddress.ip_network(peer)
        if "%" in peer:
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{text!r} is not an address (192.0.2.1), a network (192.0.2.0/24, without host bits), "
            "'unix' or 'proxy:' with an address or a network"
        ) from None
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    if mapped and network.prefixlen >= 96:
        # Fronts use the IPv4 form of the address, and refuse or never match this one.
        network = ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
    if not network.prefixlen:
        raise UsageError(f"{text!r}: that is every address; give only the load balancer's")
    single = network.prefixlen == network.max_prefixlen
    return Hop(form, str(network.network_address if single else network))


def hsts(text: str) -> int:
    """Parse a time span into seconds (RFC 6797, section 6.1.1). Raises UsageError."""
    try:
        return int(settings.seconds(text))
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a time span, such as 300, 1d or 365d") from None


def body_size(text: str) -> int:
    """Parse a number of bytes; 0: no limit. Raises UsageError."""
    try:
        return settings.size(text)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}") from None


def timeout(text: str) -> float:
    """Parse a time span of at least `COLD_START` into seconds. Raises UsageError."""
    try:
        seconds = settings.seconds(text)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}") from None
    if seconds < COLD_START:
        raise UsageError(
            f"{text!r}: an application may take {COLD_START:g} s to start, and the first request "
            f"would fail: give at least {COLD_START:g}s"
        )
    return seconds


def websocket_timeout(text: str) -> float:
    """Parse a time span of at least a second into seconds. Raises UsageError."""
    try:
        seconds = settings.seconds(text)
    except ValueError as error:
        raise UsageError(f"{text!r} {error}") from None
    if seconds < 1:
        raise UsageError(f"{text!r} is not a time span of at least 1s, such as 1h")
    return seconds


FRONT: tuple[Option, ...] = (
    Option(
        "server-name",
        host_name,
        "a host name of the site; the first is the canonical one",
        "NAME",
        "front",
        many=True,
    ),
    Option("mount", url_path, "the URL path of the application, if not the root", "/PATH", "front"),
    Option(
        "static", files, "static files that the front serves itself", "URL=DIR", "front", many=True
    ),
    Option(
        "media", files, "users' uploads that the front serves itself", "URL=DIR", "front", many=True
    ),
    Option(
        "protected",
        files,
        "files that the front serves only if the application's response says so "
        "(X-Accel-Redirect, X-Sendfile)",
        "URL=DIR",
        "front",
        many=True,
    ),
    Option(
        "tls",
        tls,
        "HTTPS, and a redirect to it from HTTP; auto: certbot (or Caddy itself) gets the "
        "certificate; pending: HTTP until the certificate exists",
        "CERT,KEY",
        "front",
    ),
    Option(
        "hsts",
        hsts,
        "have browsers use only HTTPS for this long after each visit (default a year; 0: undo it)",
        "SECONDS",
        "front",
        types=(str, int),
        optional=True,
    ),
    Option(
        "behind",
        behind,
        "a load balancer or CDN in front of the front, by address or network: only its "
        "X-Forwarded-For and X-Forwarded-Proto are trusted; unix: a peer on a unix socket of the "
        "front; proxy:ADDRESS: a peer that speaks the PROXY protocol",
        "ADDRESS",
        "front",
        many=True,
    ),
    Option(
        "max-body",
        body_size,
        "the largest request body (default 100M); 0: no limit",
        "BYTES",
        "front",
    ),
    Option(
        "timeout",
        timeout,
        "how long the application may take to send something (default 60s, at least "
        f"{COLD_START:g}s)",
        "SECONDS",
        "front",
    ),
    Option(
        "websocket-timeout",
        websocket_timeout,
        "how long a WebSocket of an ASGI application may be idle (default 1h)",
        "SECONDS",
        "front",
    ),
    Option(
        "auth-file",
        file_path,
        "require a login from this htpasswd file; the user's name is REMOTE_USER",
        "PATH",
        "front",
    ),
    Option(
        "error-pages",
        file_path,
        "a directory with 502.html, 503.html and 504.html, which the front sends if the "
        "application can't be reached or does not answer in time",
        "DIR",
        "front",
    ),
    Option(
        "maintenance",
        file_path,
        "while this file exists, every request but those for static and media files is answered "
        "503 (default /etc/NAME.maintenance)",
        "FILE",
        "front",
        optional=True,
    ),
    Option(
        "front-log",
        file_path,
        "write an access log with the time of each request and, where the front knows it, the "
        "application's (default NAME-access.log beside the front's own logs)",
        "FILE",
        "front",
        optional=True,
    ),
    Option(
        "php", file_path, "the socket of PHP-FPM, for PHP beside the application", "SOCKET", "front"
    ),
    Option(
        "php-root", file_path, "where the PHP files are (default /var/www/html)", "DIR", "front"
    ),
    DISTRIBUTION,
)
