"""Client address, scheme, host and mount from a trusted front's X-Forwarded headers.

A CGI-like front has variables for the client's address and scheme. An HTTP front has header fields,
which a client can send as well. So they are accepted only from trusted peers, and removed from
other peers' requests. If a field has several values, the last one is used: the trusted peer added
it. On a unix socket every peer that can connect is trusted, on TCP those in the setting `trust`.

`sdactivate.trust` lists the trusted fields: a front that is not configured to drop one passes a
client's on, and then any client could choose the host, the mount or the user.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from sdactivate import log, trust
from sdactivate.errors import UsageError
from sdactivate.servers.native.cgi_environ import host_name, is_mount, of_client
from sdactivate.servers.native.wire import Malformed, Variables, check_host
from sdactivate.settings import Settings

# REMOTE_ADDR if a peer on a unix socket sends nothing about its client: the unspecified address.
# (An empty one breaks applications that parse it, and applications may trust 127.0.0.1.)
UNKNOWN = "0.0.0.0"  # noqa: S104

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(names: Sequence[str]) -> list[Network]:
    """Return the networks of the setting `trust`. Raises UsageError for an invalid one."""
    try:
        return [ipaddress.ip_network(name, strict=False) for name in names]
    except ValueError as error:
        raise UsageError(
            f"--trust: {error}; give an address or a network, such as 10.0.0.0/8"
        ) from None


class Trust:
    """The peers and fields that a server trusts: settings `trust`, `trust_headers`, `remote_user`.

    variables: those of the trusted header fields. Raises UsageError for an invalid network.
    """

    __slots__ = ("_networks", "_said", "variables")

    def __init__(self, settings: Settings) -> None:
        self._networks = networks(settings.trust)
        self._said: set[str] = set()
        self.variables = trust.believed(settings.trust_headers, settings.remote_user)

    def believes(self, address: Any) -> bool:
        """Whether the peer at `address`, as returned by accept(2), may speak for its clients."""
        if not isinstance(address, tuple) or not isinstance(address[0], str):
            return not isinstance(address, tuple)  # unix: every peer; vsock: none
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address[0].partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._networks)

    def believed_of(self, variables: Variables, address: tuple[Any, ...]) -> Variables:
        """Return the variables of a CGI-like request that are accepted from the peer at `address`.

        Those that a client may set itself are always accepted. Other ones are logged once.
        """
        if self.believes(address):
            return variables
        found = of_client(variables, address)
        more = sorted(name for name in variables.keys() & _CLAIMED if variables[name])
        if more and not self._said & _CLAIMED:
            self._said.update(more)
            log.say(
                log.WARNING,
                f"{address[0]}: it sends {', '.join(more)}, which only a front may set; ignored. "
                f"If this peer is the front: --trust {address[0]}",
            )
        return found

    def only_believed(self, found: Variables, host: str) -> Variables:
        """Return those of the fields `found` that are trusted.

        host: the Host of the request. An ignored field is logged once if it would have made a
        difference and the front may have set it itself.
        """
        for variable, option in _MISSED.items():
            value = found.get(variable)
            if value and value != host and variable not in self._said | self.variables:
                self._said.add(variable)
                log.say(
                    log.WARNING,
                    f"the front sends {option.field}: {log.escape(value[:100])}, which is "
                    "ignored. If the front sets this field itself and never passes a client's "
                    f"on: --{option.setting.replace('_', '-')} {option.field}",
                )
        return {name: found[name] for name in found.keys() & self.variables}


_CLAIMED = {name for claim in trust.CLAIMS for name in claim.variables} - {
    *("SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR", "REMOTE_PORT")  # which every client has
}

# Most fronts send the other fields whether the site needs them or not
_MISSED = {
    trust.variable(claim.field): claim
    for claim in trust.CLAIMS
    if claim.field in ("X-Forwarded-Host", "X-Script-Name")
}


def apply(environ: dict[str, Any], found: Variables, believed: Trust) -> None:
    """Update the environ of a trusted peer's request, so that it describes the client.

    Raises Malformed for an invalid mount or host.
    """
    told = told_of_client(believed, found, environ.get("HTTP_HOST", ""))
    environ.update(told)
    if "SCRIPT_NAME" in told:
        mount(environ, told["SCRIPT_NAME"])


def told_of_client(believed: Trust, found: Variables, asked: str) -> dict[str, str]:
    """Return the variables for the fields `found` of a trusted peer; see `mount` for a mount.

    asked: the Host of the request itself. The result is cached, so it must not be changed. Raises
    Malformed for an invalid mount or host.
    """
    key: tuple[Any, ...] = (believed, *found, *found.values(), asked)
    told = _told.get(key)
    if told is None:
        told = _read(believed, found, asked)
        if sum(map(len, key[1:])) <= _LONGEST_KEPT:
            if len(_told) >= _KEPT:
                _told.clear()
            _told[key] = told
    return told


def mount(environ: dict[str, Any], name: str) -> None:
    """Remove the mount `name` from the beginning of PATH_INFO, if it is there."""
    path = environ["PATH_INFO"]
    if path == name or path.startswith(name + "/"):
        environ["PATH_INFO"] = path[len(name) :]


# A cache of the results, since a front sends the same fields again and again. A client can choose
# their values, so long ones are not cached, and the cache is cleared when it is full.
_KEPT = 1024
_LONGEST_KEPT = 384
_told: dict[tuple[Any, ...], dict[str, str]] = {}


def _read(believed: Trust, found: Variables, asked: str) -> dict[str, str]:
    """Return the variables for the fields `found`, including SCRIPT_NAME for a mount.

    asked: the Host of the request itself. Raises Malformed for an invalid mount or host.
    """
    if not found.keys() <= believed.variables:
        found = believed.only_believed(found, asked)
    get = found.get
    told = _address(
        get("HTTP_X_FORWARDED_FOR"),
        get("HTTP_X_FORWARDED_PROTO", ""),
        get("HTTP_X_FORWARDED_HOST", ""),
        get("HTTP_X_FORWARDED_PORT", ""),
        get("HTTP_FORWARDED", ""),
        asked,
    )
    if user := get("HTTP_REMOTE_USER"):
        told["REMOTE_USER"] = user
    if mount := get("HTTP_X_SCRIPT_NAME", "").rstrip("/"):
        if not is_mount(mount) or "," in mount:
            raise Malformed(f"X-Script-Name {mount[:100]!r} is not one absolute path")
        told["SCRIPT_NAME"] = mount
    return told


def _address(
    client: str | None, scheme: str, host: str, port: str, forwarded: str, asked: str
) -> dict[str, str]:
    """Return the variables for the client's address, the scheme and the host."""
    scheme = _last(scheme).lower()
    host = _last(host)
    if client is None and forwarded:
        element = _element(_last(forwarded))
        client = element.get("for", "")
        scheme = scheme or element.get("proto", "").lower()
        host = host or element.get("host", "")
    variables = {}
    address, client_port = _split_port(_last(client or ""))
    if address:
        variables["REMOTE_ADDR"] = address
        variables["REMOTE_PORT"] = client_port
    if host:
        check_host(host)
        variables["HTTP_HOST"] = host
    if name := host_name(host or asked):
        variables["SERVER_NAME"] = name
    if scheme in ("http", "https"):
        variables["wsgi.url_scheme"] = scheme
        variables["SERVER_PORT"] = "443" if scheme == "https" else "80"
        if scheme == "https":
            variables["HTTPS"] = "on"
    port = _last(port)
    if port.isascii() and port.isdigit():
        variables["SERVER_PORT"] = port
    return variables


def _last(value: str) -> str:
    return value.rpartition(",")[2].strip()


def _element(text: str) -> dict[str, str]:
    """Return the parameters of one forwarded-element (RFC 7239, section 4)."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _split_port(client: str) -> tuple[str, str]:
    """Split "192.0.2.1:47", "[2001:db8::1]:47", "2001:db8::1" into address and port.

    Return empty strings for what is not an address ("unknown", "_hidden").
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
