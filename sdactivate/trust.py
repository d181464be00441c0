"""The table of what is believed of a request: which headers and variables, from which peers.

A front says things of its client that the client must not say itself: its address, the scheme,
the user who logged in. A CGI-like protocol (SCGI, FastCGI, uwsgi) has variables for them, which no
header field can set. HTTP has header fields, which a client can send as well.

Everything that depends on it is made of this table: what the servers obey, the header fields that
the generated fronts drop, the help of the settings, docs/server.md and the tests. Common ground:
it imports no wing.
"""

from collections.abc import Iterable
from typing import NamedTuple


def variable(field: str) -> str:
    """Return the variable that holds the header field `field` (RFC 3875, section 4.1.18)."""
    return "HTTP_" + field.upper().replace("-", "_")


class Claim(NamedTuple):
    """One thing that a front may say of its client."""

    what: str
    variables: tuple[str, ...]
    """Where a CGI-like protocol says it."""
    field: str
    """The HTTP header field that says it."""
    setting: str = ""
    """The setting that makes a server believe the field; "": it is believed without one."""


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "the client's address",
        ("REMOTE_ADDR", "REMOTE_PORT", "REMOTE_HOST", "REMOTE_IDENT"),
        "X-Forwarded-For",
    ),
    Claim("the scheme", ("HTTPS", "REQUEST_SCHEME"), "X-Forwarded-Proto"),
    Claim("the host", ("SERVER_NAME",), "X-Forwarded-Host", "trust_headers"),
    Claim("the port", ("SERVER_PORT",), "X-Forwarded-Port", "trust_headers"),
    Claim("address, scheme and host in one field (RFC 7239)", (), "Forwarded", "trust_headers"),
    Claim("the mount", ("SCRIPT_NAME",), "X-Script-Name", "trust_headers"),
    Claim("the user", ("REMOTE_USER", "AUTH_TYPE"), "Remote-User", "remote_user"),
)
"""What a front may say, and where. Any other variable that is not the client's own request is the
front's too."""


class Peer(NamedTuple):
    """One kind of peer: who has connected."""

    name: str
    who: str
    believed: bool
    """Whether it may speak for its client; otherwise only what a client may say itself counts."""
    protocol: str
    """What is spoken where nothing is pinned, by --protocol or by the socket's name."""


UNIX = Peer("unix", "on a unix socket: every peer that may connect", True, "auto")
TRUSTED = Peer("trusted", "on TCP: a peer that `--trust` names", True, "http")
OTHER = Peer("other", "on TCP: any other peer; on vsock: every peer", False, "http")
PEERS: tuple[Peer, ...] = (UNIX, TRUSTED, OTHER)

CLIENT_VARIABLES: frozenset[str] = frozenset(
    {
        *("REQUEST_METHOD", "REQUEST_URI", "DOCUMENT_URI", "PATH_INFO", "QUERY_STRING"),
        *("SERVER_PROTOCOL", "CONTENT_TYPE", "CONTENT_LENGTH"),
    }
)
"""What a client says itself, besides HTTP_…: all that is taken from a peer that is not believed."""

_NEVER_BELIEVED = (
    "Proxy",
    "Script-Name",
    "X-Forwarded-Prefix",
    "X-Forwarded-Protocol",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-User",
    "X-Real-IP",
    "X-Remote-User",
)
# Other servers and applications believe these

FORGEABLE: tuple[str, ...] = tuple(sorted({*_NEVER_BELIEVED, *(claim.field for claim in CLAIMS)}))
"""Header fields that only a front may set: no client's ever reaches the application."""

FORGEABLE_VARIABLES: frozenset[str] = frozenset(map(variable, FORGEABLE))

BY_DEFAULT: tuple[str, ...] = tuple(claim.field for claim in CLAIMS if not claim.setting)
"""Fields that are believed of a peer that may speak for its client."""

SELECTABLE: tuple[str, ...] = tuple(
    claim.field for claim in CLAIMS if claim.setting == "trust_headers"
)
"""Fields that the setting `trust_headers` adds. A front that does not set one itself passes the
client's on, and then the client would choose the host, the port or the mount."""

_CANONICAL = {field.lower(): field for field in (*BY_DEFAULT, *SELECTABLE)}


def header_name(text: str) -> str:
    """Return the field of `SELECTABLE` or `BY_DEFAULT` that `text` names, in its usual spelling.

    Raises ValueError, with what is allowed, for any other.
    """
    try:
        return _CANONICAL[text.lower()]
    except KeyError:
        own = next((c for c in CLAIMS if c.field.lower() == text.lower()), None)
        if own is not None:
            option = own.setting.replace("_", "-")
            raise ValueError(f"{own.field} has a setting of its own: --{option} yes") from None
        allowed = ", ".join(SELECTABLE)
        raise ValueError(f"{text!r} can't be trusted, only {allowed}") from None


def believed(trust_headers: Iterable[str], remote_user: bool) -> frozenset[str]:
    """Return the variables of the fields that are believed, with these settings."""
    fields = {*BY_DEFAULT, *trust_headers}
    fields.update(claim.field for claim in CLAIMS if claim.setting == "remote_user" and remote_user)
    return frozenset(map(variable, fields))
