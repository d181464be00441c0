"""Which path a front passes on for the path of a request, by its configuration.

nginx replaces a location's prefix if the address has a path, and then sends the path decoded and
with several slashes as one; Apache replaces the prefix of ProxyPass, or of the Location that it is
in; Caddy removes the prefix of handle_path and strip_prefix. Of others nothing is known.

    https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_pass
    https://httpd.apache.org/docs/2.4/mod/mod_proxy.html#proxypass
    https://caddyserver.com/docs/caddyfile/directives/handle_path
"""

import re
from collections.abc import Iterator

from sdactivate.doctor.nginx_locations import location
from sdactivate.front_upstreams import Upstream

_NGINX = re.compile(
    r"\bproxy_pass\s+\"?\w+://(?:unix:[^\s;:\"]+:|(?!unix:)[^\s;/\"]+)(?P<path>/[^\s;\"]*)"
)
_BY_SLASHES = re.compile(r"\bmerge_slashes\s+off\b")
_APACHE = re.compile(
    r'^[ \t]*ProxyPass[ \t]+"?(?P<prefix>/[^\s"]*)"?[ \t]+"?(?P<target>[^\s"]+)',
    re.MULTILINE | re.IGNORECASE,
)
_APACHE_INSIDE = re.compile(
    r'<Location[ \t]+"?(?P<prefix>/[^\s">]*)"?>(?:(?!</Location).)*?'
    r'^[ \t]*ProxyPass[ \t]+"?(?P<target>\w+:[^\s"]+)',
    re.MULTILINE | re.IGNORECASE | re.DOTALL,
)
_CADDY = re.compile(r"\b(?:handle_path|strip_prefix)[ \t]+(?P<prefix>/[^\s*{]+)")


def proxy_pass(text: str, path: str) -> re.Match[str] | None:
    """Return Apache's ProxyPass for the requests of a path: the first whose prefix it has.

    It has the groups prefix and target; the target is ! for requests that are not passed on.
    """
    for hit in _APACHE.finditer(text):
        if f"{path.rstrip('/')}/".startswith(f"{hit['prefix'].rstrip('/')}/"):
            return hit
    return None


def sent_paths(front: str, text: str, upstream: Upstream, path: str) -> Iterator[tuple[str, str]]:
    """Yield the paths that a front may pass on for `path`, each with what it does.

    front: its name. text: its server's configuration, without comments. upstream: what it passes
    the request to.
    """
    if front == "nginx":
        found = location(text, path)
        given = _NGINX.search(found.text) if found else None
        if found and given and found.how in ("", "^~"):
            new = f"{given['path']}{path.removeprefix(found.what)}"
            yield new, f"proxy_pass replaces {found.what} by {given['path']}"
        if "//" in path and not _BY_SLASHES.search(text):
            yield re.sub("/+", "/", path), "nginx merges slashes, unless merge_slashes is off"
    elif front == "apache":
        names = upstream.path or f":{upstream.port}"
        for hit in (*_APACHE.finditer(text), *_APACHE_INSIDE.finditer(text)):
            target, prefix = hit["target"], hit["prefix"]
            if names in target and path.startswith(prefix):
                address = (target.rpartition("|")[2]).partition("://")[2]
                given_path = "".join(address.partition("/")[1:])
                new = f"{given_path}{path.removeprefix(prefix)}"
                yield new, f"ProxyPass replaces {prefix} by {given_path or 'nothing'}"
    elif front == "caddy":
        for hit in _CADDY.finditer(text):
            prefix = hit["prefix"].rstrip("/")
            if path.startswith(f"{prefix}/"):
                yield path.removeprefix(prefix), f"{hit[0]} removes {prefix}"
