"""Pass the tables and policies of the pure-Python hot path to the compiled one (`_accel`).

Everything here is None if the compiled path is not used (`accel.py`). The compiled path handles
requests in plain form, as _accel.c defines it, and leaves the rest to the pure-Python code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

from sdactivate.servers import forks
from sdactivate.servers.native import cgi_environ, forwarded, wsgi
from sdactivate.servers.native.accel import module
from sdactivate.servers.native.wire import HOSTS, METHODS, Malformed, http
from sdactivate.settings import Settings

# Names that applications look up, interned like the string constants in their code
_USUAL = {
    name: sys.intern(name)
    for name in (
        *("AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "DOCUMENT_ROOT", "DOCUMENT_URI"),
        *("GATEWAY_INTERFACE", "HTTPS", "HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING"),
        *("HTTP_ACCEPT_LANGUAGE", "HTTP_AUTHORIZATION", "HTTP_CACHE_CONTROL", "HTTP_CONNECTION"),
        *("HTTP_COOKIE", "HTTP_HOST", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH"),
        *("HTTP_ORIGIN", "HTTP_REFERER", "HTTP_USER_AGENT", "HTTP_X_CSRFTOKEN"),
        *("HTTP_X_REQUESTED_WITH", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REMOTE_PORT"),
        *("REMOTE_USER", "REQUEST_METHOD", "REQUEST_SCHEME", "REQUEST_URI", "SCRIPT_NAME"),
        *("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE"),
    )
}
# Fields that llhttp or the Python parser interprets: requests with one are left to them
_PARSERS = frozenset(
    {
        *("HTTP_EXPECT", "HTTP_HTTP2_SETTINGS", "HTTP_PROXY_CONNECTION", "HTTP_TE"),
        *("HTTP_TRAILER", "HTTP_TRANSFER_ENCODING", "HTTP_UPGRADE"),
    }
)


def roomy(environ: dict[str, Any]) -> dict[str, Any]:
    """Return a copy whose copies have room for a request's variables, so that they need not grow.

    A dictionary keeps the size that it once had; so does its copy, if at most a third of its items
    were removed.
    """
    found: dict[Any, Any] = dict.fromkeys(range(len(environ) // 2))
    found.update(environ)
    for number in range(len(environ) // 2):
        del found[number]
    return found


def variables(base: dict[str, Any]) -> Any:
    """Return the reader of plain SCGI, uwsgi and FastCGI requests (`_accel.Variables`), or None.

    base: as `cgi_environ.environ` takes it.
    """
    if module is None:
        return None
    compiled = module
    kinds = {
        **dict.fromkeys(cgi_environ.DROPPED, compiled.DROPPED),
        "REQUEST_METHOD": compiled.METHOD,
        "HTTP_HOST": compiled.HOST,
        "CONTENT_LENGTH": compiled.LENGTH,
        "HTTPS": compiled.HTTPS,
        "REQUEST_SCHEME": compiled.SCHEME,
        "QUERY_STRING": compiled.QUERY,
        "SERVER_PORT": compiled.PORT,
        "SERVER_PROTOCOL": compiled.PROTOCOL,
        "SERVER_SOFTWARE": compiled.SOFTWARE,
        "SERVER_NAME": compiled.SERVER,
        "SCRIPT_NAME": compiled.MOUNT,
        "PATH_INFO": compiled.PATH,
    }
    own = base.keys() - kinds.keys()

    def meaning(name: bytes) -> tuple[str, int]:
        text = name.decode("latin-1")
        kind = compiled.ODD if text in own else kinds.get(text, compiled.VARIABLE)
        return _USUAL.get(text, text), kind

    begun = roomy({name: base[name] for name in base if name != "CONTENT_LENGTH"})
    return compiled.Variables(begun, METHODS, HOSTS, cgi_environ.MOUNTS, meaning)


def _field(name: bytes) -> tuple[str | None, int]:
    assert module is not None
    key = http.key(name)
    if key is None:
        return None, module.IGNORED
    if key in _PARSERS:
        kind = module.PARSERS
    elif key in http.FORWARDED:
        kind = module.FORWARDED
    else:
        kind = {
            "HTTP_HOST": module.FIELD_HOST,
            "CONTENT_LENGTH": module.FIELD_LENGTH,
            "HTTP_CONNECTION": module.CONNECTION,
        }.get(key, module.FIELD)
    return _USUAL.get(key, key), kind


fields: Any = None if module is None else module.Fields(HOSTS, _field)
"""Reads plain requests of HTTP (`_accel.Fields`), or None."""


def _header(name: bytes) -> tuple[None, int]:
    return None, wsgi.kind_of(name.decode("ascii"))


def responder(server_and_date: Callable[[], str] = str) -> Any:
    """Return the maker of exchanges, which replace a `Response` (`_accel.Responder`), or None.

    server_and_date: returns the current Server and Date fields for HTTP.
    """
    if module is None:
        return None

    def fields() -> bytes:
        return server_and_date().encode("ascii")

    return module.Responder(wsgi.Response, wsgi.statuses, fields, forks, wsgi.PeerGone, _header)


def handler(
    variables: Any,
    cgi: Any,
    http_responder: Any,
    server: Any,
) -> Any:
    """Return the handler of a server's plain requests (`_accel.Handler`), or None.

    variables, cgi, http_responder: the reader and the responders, made by the functions above.
    server: the server that gets the requests.
    """
    if module is None:
        return None
    settings: Settings = server.settings
    return module.Handler(
        variables=variables,
        fields=fields,
        cgi=cgi,
        http=http_responder,
        server=server,
        pool=server.pool,
        workers=server.pool.workers,
        loop=server.loop,
        base=roomy(server.http_base),
        buffer=BytesIO,
        tell=partial(forwarded.told_of_client, server.trust),
        mount=forwarded.mount,
        malformed=Malformed,
        kept=http.KEPT,
        last=http.LAST,
        limits=(settings.header_bytes, settings.header_count, settings.request_line),
        most=settings.body_bytes or sys.maxsize,
        timeout=float(settings.keepalive_timeout),
        is_logged=settings.access_log,
    )
