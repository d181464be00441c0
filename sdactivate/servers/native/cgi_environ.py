"""Build the WSGI environ from the variables of an SCGI, FastCGI or uwsgi request.

Fronts differ in which variables they leave empty, leave out, repeat or decode; each special case
here was observed with a front. RFC 3875 defines the variables, PEP 3333 their form.

X-Forwarded-* and similar fields are removed: a client may have sent them. These protocols have
separate variables for this (REMOTE_ADDR, HTTPS, SERVER_NAME), which no client can set, so a front
has no reason to send the fields. `sdactivate.trust` says which peers may set the variables.
"""

from typing import Any
from urllib.parse import unquote_to_bytes

from sdactivate.servers.native.wire import HOSTS, METHODS, Malformed, Variables, check_host
from sdactivate.trust import CLIENT_VARIABLES, FORGEABLE_VARIABLES

Environ = dict[str, Any]

# Fields that only a front may set, and for which these protocols have other variables; fields that
# have variables without HTTP_ (RFC 3875, section 4.1.18); and the transfer encoding, which the
# front has decoded (section 4.1.2). A tuple, because each request iterates over it: faster than a
# set
DROPPED = (
    *FORGEABLE_VARIABLES,
    *("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"),
)

# The most digits of a length: no body is longer, and int() has a limit
_LONGEST_LENGTH = 19

MOUNTS: set[str] = set()
"""Values of SCRIPT_NAME that were checked and need no change: at most `_MOUNTS_KEPT`, of at most
`_LONGEST_MOUNT` characters, because a front may pass on what clients send."""
_MOUNTS_KEPT = 64
_LONGEST_MOUNT = 255

_TRUE = ("on", "1", "yes", "true", "https")

_NO_MOUNT = frozenset({*map(chr, range(32)), *"\x7f?#\\"})


def host_name(host: str) -> str:
    """Return the host of a Host field, without the port; an IPv6 address keeps its brackets."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def is_mount(text: str) -> bool:
    """Whether `text`, without a trailing slash, is a valid mount point of a site.

    It must be one absolute path (RFC 3986, section 3.3): applications prefix their links with it,
    and "//host" would be another host there, "/a/.." another path.
    """
    _, *segments = text.split("/")
    return (
        text[:1] == "/"
        and _NO_MOUNT.isdisjoint(text)
        and not any(segment in ("", ".", "..") for segment in segments)
    )


def of_client(variables: Variables, address: tuple[Any, ...]) -> Variables:
    """Return those of the `variables` that a client may set itself.

    They come from a peer that is not trusted, at `address` (as returned by accept(2)), so the peer
    counts as the client.
    """
    found = {
        name: value
        for name, value in variables.items()
        if name in CLIENT_VARIABLES or name.startswith("HTTP_")
    }
    return found | {"REMOTE_ADDR": str(address[0]), "REMOTE_PORT": str(address[1])}


def environ(variables: Variables, base: Environ) -> Environ:
    """Return the environ of a request with these variables.

    `base` holds the variables that are the same for every request, and the defaults of those
    that a front may leave out. Raises Malformed if the method is missing or unknown, and for an
    invalid length, host or mount.
    """
    if (method := variables.get("REQUEST_METHOD")) not in METHODS:
        if method is None:
            raise Malformed("there is no REQUEST_METHOD among the variables")
        raise Malformed(f"unknown method {method[:100]!r}", "501 Not Implemented")
    found = base | variables
    if not variables.keys().isdisjoint(DROPPED):
        for name in DROPPED:
            found.pop(name, None)
    if (host := variables.get("HTTP_HOST")) not in HOSTS and host:
        check_host(host)
    length = found["CONTENT_LENGTH"]
    # Empty from nginx (fastcgi, uwsgi), -1 from Caddy if the body is chunked
    if not (length.isascii() and length.isdigit() and len(length) <= _LONGEST_LENGTH):
        if length not in ("", "-1"):
            raise Malformed(f"CONTENT_LENGTH={length!r} is not a number of bytes")
        del found["CONTENT_LENGTH"]
    https = found.get("HTTPS")
    if https is not None:
        if https.lower() in _TRUE:
            found["wsgi.url_scheme"] = "https"
        else:
            del found["HTTPS"]  # "off" from Cherokee, "" from others: it is not HTTPS
    elif found.get("REQUEST_SCHEME") == "https":
        found["wsgi.url_scheme"] = "https"
    name = found["SERVER_NAME"]
    if ":" in name:  # HAProxy: with the port
        found["SERVER_NAME"] = host_name(name)
    if "PATH_INFO" not in variables:
        _locate(found)
    if (script := found["SCRIPT_NAME"]) and script not in MOUNTS:
        found["SCRIPT_NAME"] = _mount(script)
    path = found["PATH_INFO"]
    if path[:1] != "/" and (path or not found["SCRIPT_NAME"]) and path != "*":
        # An empty path means the root; one without a slash lost it to a mount at "/"
        found["PATH_INFO"] = "/" + path
    return found


def _mount(script: str) -> str:
    """Return a SCRIPT_NAME without trailing slashes. Raises Malformed if it is not a mount."""
    # Apache's uwsgi: "/app/"; "/" for the root
    mount = script.rstrip("/")
    if mount and not is_mount(mount):
        raise Malformed(f"SCRIPT_NAME={mount[:100]!r} is not one absolute path")
    if mount == script and len(script) <= _LONGEST_MOUNT:
        if len(MOUNTS) >= _MOUNTS_KEPT:
            MOUNTS.clear()
        MOUNTS.add(script)
    return mount


def _locate(found: Environ) -> None:
    """Set the PATH_INFO of a request without one, from its URI.

    nginx's stock fastcgi_params and scgi_params have none. lighttpd and HAProxy leave it out if
    the URI is exactly the mount.
    """
    uri: str | None = found.get("DOCUMENT_URI")
    script: str = found["SCRIPT_NAME"]
    if uri is None:
        encoded = found.get("REQUEST_URI", "").partition("?")[0].partition("#")[0]
        if "://" in encoded and encoded[:1] != "/":  # the absolute form
            encoded = "/" + encoded.partition("://")[2].partition("/")[2]
        if encoded[:1] != "/":
            return  # it is unknown, or "*"
        uri = unquote_to_bytes(encoded.encode("latin-1")).decode("latin-1")
    elif script == uri:
        found["SCRIPT_NAME"] = script = ""  # nginx's stock parameters set it to the whole path
    script = script.rstrip("/")
    if uri == script or uri.startswith(script + "/"):
        found["PATH_INFO"] = uri[len(script) :]
