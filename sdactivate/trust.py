"""The table of trusted request data: which headers and variables, from which peers.

A front passes on facts about its client that the client must not set itself: its address, the
scheme, the user who logged in. A CGI-like protocol (SCGI, FastCGI, uwsgi) has variables for them,
which no header field can set. HTTP has header fields, which a client can send as well.

Everything that depends on this is made from this table: what the servers accept, the header fields
that the generated fronts drop, the help of the settings, docs/server.md and the tests.
"""

from collections.abc import Iterable
from typing import NamedTuple


def variable(field: str) -> str:
    """Return the variable that holds the header field `field` (RFC 3875, section 4.1.18)."""
    return "HTTP_" + field.upper().replace("-", "_")


class Claim(NamedTuple):
    """One fact that a front may pass on about its client."""

    what: str
    variables: tuple[str, ...]
    """The variable that carries it in a CGI-like protocol."""
    field: str
    """The HTTP header field that carries it."""
    setting: str = ""
    """The setting that makes a server trust the field; "": it is trusted by default."""


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
"""The facts that a front may pass on. Every other variable that is not part of the client's own
request also comes from the front."""


class Peer(NamedTuple):
    """One kind of peer."""

    name: str
    who: str
    believed: bool
    """Whether it may speak for its client. If not, only what any client may send is accepted."""
    protocol: str
    """The protocol if neither --protocol nor the socket's name sets one."""


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
"""The variables, besides HTTP_…, that are accepted from a peer that is not trusted."""

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
# Other servers and applications trust these

FORGEABLE: tuple[str, ...] = tuple(sorted({*_NEVER_BELIEVED, *(claim.field for claim in CLAIMS)}))
"""Header fields that only a front may set: the application never gets a client's."""

FORGEABLE_VARIABLES: frozenset[str] = frozenset(map(variable, FORGEABLE))

BY_DEFAULT: tuple[str, ...] = tuple(claim.field for claim in CLAIMS if not claim.setting)
"""Fields that are trusted from a peer that may speak for its client."""

SELECTABLE: tuple[str, ...] = tuple(
    claim.field for claim in CLAIMS if claim.setting == "trust_headers"
)
"""Fields that the setting `trust_headers` adds. A front that does not set such a field passes the
client's on, and then the client would choose the host, the port or the mount point."""

_CANONICAL = {field.lower(): field for field in (*BY_DEFAULT, *SELECTABLE)}


def header_name(text: str) -> str:
    """Return the field of `SELECTABLE` or `BY_DEFAULT` that `text` names, in its usual spelling.

    Raises ValueError, with the allowed fields, for any other.
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
    """Return the variables of the fields that are trusted with these settings."""
    fields = {*BY_DEFAULT, *trust_headers}
    fields.update(claim.field for claim in CLAIMS if claim.setting == "remote_user" and remote_user)
    return frozenset(map(variable, fields))
