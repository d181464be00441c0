"""What a trusted front says about its client, over HTTP.

A CGI-like front has variables for the client's address and scheme. An HTTP front has header
fields, which a client can send as well; so they are believed from trusted peers only, and taken
away from everybody else's requests. Of several values the last one counts: the one that the
trusted peer itself has put there. On a unix socket every peer is trusted that its owner, group
and mode let in; on TCP those that were named.

X-Forwarded-For, -Proto, -Host, -Port and X-Script-Name (where the site is mounted) are read, and
Forwarded (RFC 7239) where X-Forwarded-For is absent.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from sdactivate.errors import UsageError
from sdactivate.servers.native.cgi import SPOOFABLE

# REMOTE_ADDR of a peer on a unix socket that has said nothing about its client: the address
# that means none. (An empty one breaks applications that parse it, and 127.0.0.1 is one that
# applications trust.)
UNKNOWN = "0.0.0.0"  # noqa: S104

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(names: Sequence[str]) -> list[Network]:
    """Return the networks of the setting `trust`. Raises UsageError for what is none."""
    try:
        return [ipaddress.ip_network(name, strict=False) for name in names]
    except ValueError as error:
        raise UsageError(
            f"trust: {error}; an address or a network (10.0.0.0/8) is wanted"
        ) from None


def is_trusted(address: Any, trusted: Sequence[Network]) -> bool:
    """Whether the peer at `address`, as accept(2) gave it, may speak for its clients."""
    if not isinstance(address, tuple) or not isinstance(address[0], str):
        return not isinstance(address, tuple)  # unix: whoever could connect; vsock: nobody
    try:
        found = ipaddress.ip_address(address[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in trusted)


def apply(environ: dict[str, Any], trusted: bool) -> None:
    """Make the environ of an HTTP request tell of the client, not of the front.

    Takes every field away that only a front may set, whether it was believed or not.
    """
    found = {name: environ.pop(name) for name in SPOOFABLE.intersection(environ)}
    if not trusted or not found:
        return
    client = _last(found.get("HTTP_X_FORWARDED_FOR", ""))
    scheme = _last(found.get("HTTP_X_FORWARDED_PROTO", "")).lower()
    host = _last(found.get("HTTP_X_FORWARDED_HOST", ""))
    if "HTTP_FORWARDED" in found and "HTTP_X_FORWARDED_FOR" not in found:
        element = _element(_last(found["HTTP_FORWARDED"]))
        client = element.get("for", "")
        scheme = scheme or element.get("proto", "").lower()
        host = host or element.get("host", "")
    address, port = _split_port(client)
    if address:
        environ["REMOTE_ADDR"] = address
        environ["REMOTE_PORT"] = port
    if host:
        environ["HTTP_HOST"] = host
    if scheme in ("http", "https"):
        environ["wsgi.url_scheme"] = scheme
        environ["SERVER_PORT"] = "443" if scheme == "https" else "80"
        if scheme == "https":
            environ["HTTPS"] = "on"
    port = _last(found.get("HTTP_X_FORWARDED_PORT", ""))
    if port.isascii() and port.isdigit():
        environ["SERVER_PORT"] = port
    mount = found.get("HTTP_X_SCRIPT_NAME", "").rstrip("/")
    if mount.startswith("/"):
        path = environ["PATH_INFO"]
        environ["SCRIPT_NAME"] = mount
        if path == mount or path.startswith(mount + "/"):
            environ["PATH_INFO"] = path[len(mount) :]


def _last(value: str) -> str:
    return value.rpartition(",")[2].strip()


def _element(text: str) -> dict[str, str]:
    """Return the parameters of one forwarded-element (RFC 7239, section 4)."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _split_port(client: str) -> tuple[str, str]:
    """Split "192.0.2.1:47", "[2001:db8::1]:47", "2001:db8::1" into address and port.

    What is no address ("unknown", "_hidden") is none.
    """
    address, port = client, ""
    if client[:1] == "[":
        address, _, rest = client[1:].partition("]")
        port = rest.removeprefix(":")
    elif client.count(":") == 1:
        address, _, port = client.partition(":")
    try:
        return str(ipaddress.ip_address(address)), port if port.isdigit() else ""
    except ValueError:
        return "", ""
