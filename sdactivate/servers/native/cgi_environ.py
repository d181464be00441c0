"""One right environ from whatever a front sends over a CGI-like protocol.

Fronts differ in what they leave empty, leave out, repeat or decode; each line here answers
something that a front was seen to do. RFC 3875 is the meaning, PEP 3333 the form.

What a client may have put there itself is not passed on: X-Forwarded-* and its kind reach a
CGI-like backend only where the front forgot to drop them, for these protocols have variables
of their own for it (REMOTE_ADDR, HTTPS, SERVER_NAME), which no client can set.
"""

from typing import Any

from sdactivate.servers.native.wire import Malformed, Variables
from sdactivate.servers.native.wire.http import FORWARDED

Environ = dict[str, Any]

# What only a front may say, and on these protocols says otherwise; what would be obeyed; and
# what has variables without HTTP_ (RFC 3875, section 4.1.18)
_DROPPED = FORWARDED | {"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"}

# Digits of a length: more would be more than there are bytes in the world, and int() has a limit
_LONGEST_LENGTH = 19

_TRUE = ("on", "1", "yes", "true", "https")


def host_name(host: str) -> str:
    """Return the host of a Host field, without the port; an IPv6 address keeps its brackets."""
    name, _, port = host.rpartition(":")
    return name if name and port.isdigit() else host


def environ(variables: Variables, base: Environ) -> Environ:
    """Return the environ of a request with these variables.

    `base` holds the variables that are the same for every request, and the defaults of those
    that a front may leave out. Raises Malformed for a length that is none, and
    without a method.
    """
    if "REQUEST_METHOD" not in variables:
        raise Malformed("there is no REQUEST_METHOD among the variables")
    found = base | variables
    if not variables.keys().isdisjoint(_DROPPED):
        for name in _DROPPED:
            found.pop(name, None)
    length = found["CONTENT_LENGTH"]
    # Empty from nginx (fastcgi, uwsgi), -1 from Caddy where the body is chunked
    if not (length.isascii() and length.isdigit() and len(length) <= _LONGEST_LENGTH):
        if length not in ("", "-1"):
            raise Malformed(f"CONTENT_LENGTH={length!r} is not a number of bytes")
        del found["CONTENT_LENGTH"]
    https = found.get("HTTPS")
    if https is not None:
        if https.lower() in _TRUE:
            found["wsgi.url_scheme"] = "https"
        else:
            del found["HTTPS"]  # "off" from Cherokee, "" from others: absent is what it means
    elif found.get("REQUEST_SCHEME") == "https":
        found["wsgi.url_scheme"] = "https"
    name = found["SERVER_NAME"]
    if ":" in name:  # HAProxy: with the port
        found["SERVER_NAME"] = host_name(name)
    script = found["SCRIPT_NAME"]
    if script[-1:] == "/":  # Apache's uwsgi: "/app/"; "/" for the root
        found["SCRIPT_NAME"] = script.rstrip("/")
    path = found["PATH_INFO"]
    if path[:1] != "/" and (path or not found["SCRIPT_NAME"]) and path != "*":
        # No path at all is the root's; one without its slash lost it to a mount at "/"
        found["PATH_INFO"] = "/" + path
    return found
