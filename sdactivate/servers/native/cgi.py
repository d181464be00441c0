"""One right environ from whatever a front sends over a CGI-like protocol.

Fronts differ in what they leave empty, leave out, repeat or decode; each line here answers
something that a front was seen to do. RFC 3875 is the meaning, PEP 3333 the form.

What a client may have put there itself is not passed on: X-Forwarded-* and its kind reach a
CGI-like backend only where the front forgot to drop them, for these protocols have variables
of their own for it (REMOTE_ADDR, HTTPS, SERVER_NAME), which no client can set.
"""

from typing import Any

from sdactivate.servers.native.wire import Malformed

Environ = dict[str, Any]

# What only a front may say, and on these protocols says otherwise
SPOOFABLE = frozenset(
    {
        "HTTP_FORWARDED",
        "HTTP_PROXY",
        "HTTP_REMOTE_USER",
        "HTTP_SCRIPT_NAME",
        "HTTP_X_FORWARDED_FOR",
        "HTTP_X_FORWARDED_HOST",
        "HTTP_X_FORWARDED_PORT",
        "HTTP_X_FORWARDED_PREFIX",
        "HTTP_X_FORWARDED_PROTO",
        "HTTP_X_FORWARDED_PROTOCOL",
        "HTTP_X_FORWARDED_SCHEME",
        "HTTP_X_FORWARDED_SERVER",
        "HTTP_X_FORWARDED_SSL",
        "HTTP_X_REAL_IP",
        "HTTP_X_REMOTE_USER",
        "HTTP_X_SCRIPT_NAME",
    }
)
# They have variables without HTTP_ (RFC 3875, section 4.1.18)
_ELSEWHERE = frozenset({"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"})
_DROPPED = SPOOFABLE | _ELSEWHERE

_TRUE = ("on", "1", "yes", "true", "https")


def environ(fields: list[str], base: Environ) -> Environ:
    """Return the environ of a request with these alternating names and values.

    `base` holds the variables that are the same for every request, and the defaults of those
    that a front may leave out. Raises Malformed for a length that is none.
    """
    found = base.copy()
    pairs = iter(fields)
    variables = dict(zip(pairs, pairs, strict=True))
    found.update(variables)
    if len(variables) * 2 != len(fields):
        _join_repeated(found, fields)
    if not variables.keys().isdisjoint(_DROPPED):
        for name in _DROPPED:
            found.pop(name, None)
    length = found["CONTENT_LENGTH"]
    # Empty from nginx (fastcgi, uwsgi), -1 from Caddy where the body is chunked
    if not (length.isascii() and length.isdigit()):
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
    script = found["SCRIPT_NAME"]
    if script[-1:] == "/":  # Apache's uwsgi: "/app/"; "/" for the root
        found["SCRIPT_NAME"] = script.rstrip("/")
    path = found["PATH_INFO"]
    if path[:1] != "/" and (path or not found["SCRIPT_NAME"]) and path != "*":
        # No path at all is the root's; one without its slash lost it to a mount at "/"
        found["PATH_INFO"] = "/" + path
    return found


def _join_repeated(found: Environ, fields: list[str]) -> None:
    """Join what was sent more than once; of CONTENT_LENGTH and the like the last one counts.

    Cookies come as several variables from nginx, HAProxy and Cherokee.
    """
    values: dict[str, list[str]] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        values.setdefault(name, []).append(value)
    for name, several in values.items():
        if len(several) > 1 and name.startswith("HTTP_"):
            found[name] = ("; " if name == "HTTP_COOKIE" else ", ").join(several)
