"""Render a front's configuration: nginx, Apache, lighttpd, Caddy, HAProxy, Cherokee.

There is one template for each front, verified line by line. The values come from `options`, whose
parsers refuse everything that could be syntax to a front, and pass through a `FrontRequest`, which
has refused conflicting options.
"""

import hashlib
import math
import os
import re
from dataclasses import fields
from functools import cache, partial
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from sdactivate import fronts, trust
from sdactivate.errors import Error
from sdactivate.generate.fronts import certificates, default_server
from sdactivate.generate.fronts.lifetimes import HASHED, LIFETIMES
from sdactivate.generate.fronts.outage import RETRY_AFTER
from sdactivate.generate.fronts.request import FrontRequest, front_request, warnings
from sdactivate.generate.fronts.tls_policy import POLICY
from sdactivate.generate.output import File, Output, Target
from sdactivate.generate.render import SIGNATURE, environment
from sdactivate.site import Site

_TEMPLATES = {
    "nginx": "nginx.conf.j2",
    "apache": "apache.conf.j2",
    "lighttpd": "lighttpd.conf.j2",
    "caddy": "Caddyfile.j2",
    "haproxy": "haproxy.cfg.j2",
    "cherokee": "cherokee.conf.j2",
}


def config(asked: FrontRequest, comments: bool = True) -> str:
    """Return the front's configuration for a site, with comments that say why.

    Raises Error if an htpasswd file must be copied (the front can't read it itself) and is not
    readable, or has a hash that this front does not support.
    """
    packaging = asked.packaging
    served = _served(asked)
    values: dict[str, Any] = {
        **{field.name: getattr(asked, field.name) for field in fields(asked)},
        "protocol": asked.speaks,
        "socket": asked.seen_socket,
        "timeout": math.ceil(asked.timeout),
        "websocket_timeout": math.ceil(asked.websocket_timeout),
        "tls": certificates.files(asked),
        "tls_policy": POLICY[asked.front.name],
        "hsts": asked.hsts if asked.https else None,
        "challenge": certificates.WEBROOT if asked.by_certbot else "",
        "standalone": certificates.STANDALONE,
        "hop": asked.hop,
        "hop_addresses": asked.hop_addresses,
        "hop_socket": asked.hop_socket,
        "hop_host": asked.hop == "http" and "X-Forwarded-Host" in asked.hop_fields,
        "hop_port": asked.hop == "http" and "X-Forwarded-Port" in asked.hop_fields,
        "files": [it for it in served if it.kind != "protected"],
        "served": served,
        "unsniffed": [url for url, _ in (*asked.media, *asked.protected)],
        "hashed": HASHED,
        "keep": {
            name: row.directives(private=bool(asked.auth_file)) for name, row in LIFETIMES.items()
        },
        "lifetimes": LIFETIMES,
        "chroot": packaging.chroot if packaging else "",
        "unique": _unique(asked),
        "users": _users(asked) if asked.auth_file and not asked.front.reads_htpasswd else [],
        "pages": asked.outage.pages(asked.front),
        "error_pages": asked.outage.error_pages,
        "switch": asked.outage.switch,
        "log_file": asked.outage.log,
        "retry_after": RETRY_AFTER,
        "forgeable": trust.FORGEABLE,
        "mixed": _mixed,
        "header": _header(asked),
    }
    text = _environment().get_template(_TEMPLATES[asked.front.name]).render(values)
    if comments:
        return text
    lines = [line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#")]
    return "".join(lines).lstrip("\n")


class _Served(NamedTuple):
    """One URL of --static, --media or --protected, and how it relates to the others."""

    url: str
    directory: str
    kind: str
    """"static", "media" or "protected"."""
    inner: list[str]
    """The URLs below this one, without the part that this one has."""
    nested: bool
    """Whether it is below another one itself."""

    @property
    def media(self) -> bool:
        """Whether it has users' uploads."""
        return self.kind == "media"


def _served(asked: FrontRequest) -> list[_Served]:
    """All URLs of the three options, the longest first, for fronts that use the first match."""
    rows = [
        (url, directory, kind)
        for kind in ("static", "media", "protected")
        for url, directory in getattr(asked, kind)
    ]
    urls = [url for url, _, _ in rows]
    return [
        _Served(
            url,
            directory,
            kind,
            [other.removeprefix(url) for other in urls if other != url and other.startswith(url)],
            any(other != url and url.startswith(other) for other in urls),
        )
        for url, directory, kind in sorted(rows, key=lambda row: -len(row[0]))
    ]


class _User(NamedTuple):
    name: str
    hash: str


_USER = re.compile(r"(?P<name>[A-Za-z0-9._@+-]+):(?P<hash>[A-Za-z0-9./$]+)")
_BCRYPT = ("$2y$", "$2a$", "$2b$")


def _users(asked: FrontRequest) -> list[_User]:
    """Return the lines of the htpasswd file, for a front that can't read it itself."""
    path, title = asked.auth_file, asked.front.title
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Error(
            f"--auth-file {path}: {error.strerror}; gen must read the file, because {title} can't "
            "read an htpasswd file and gets a copy of its lines"
        ) from None
    users = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (found := _USER.fullmatch(line.strip())):
            raise Error(f"--auth-file {path}: line {number} is not USER:HASH")
        if not found["hash"].startswith(_BCRYPT):
            raise Error(
                f"--auth-file {path}: line {number}: {title} needs bcrypt; set the password again "
                f"with `htpasswd -B {path} {found['name']}`"
            )
        users.append(_User(found["name"], found["hash"]))
    if not users:
        raise Error(f"--auth-file {path}: the file has no users")
    return users


def _mixed(field: str, separators: str = "-_") -> list[str]:
    """Return the spellings of a field with several separators: X-Forwarded_For, X_Forwarded-For.

    The application gets all of them as the same variable: HTTP_X_FORWARDED_FOR.
    """
    first, *rest = field.split("-")
    return [
        first + "".join(map("".join, zip(chosen, rest, strict=True)))
        for chosen in product(separators, repeat=len(rest))
        if len(set(chosen)) > 1
    ]


def _header(asked: FrontRequest) -> str:
    front, packaging = asked.front, asked.packaging
    lines = [
        f"# {front.title} in front of {asked.name}: {asked.speaks} to {asked.socket}; {SIGNATURE}."
    ]
    if packaging:
        path = packaging.config.replace("NAME", asked.name)
        linked = f", linked from {os.path.dirname(packaging.link)}" if packaging.link else ""
        # Run as root, a checker that creates the log files would make root their owner.
        who = (
            f"runuser -u {packaging.user} -- "
            if asked.outage.log and front.checks_as_itself
            else ""
        )
        lines.append(f"# To {path}{linked}; check it with `{who}{front.check}`.")
    return "\n".join(lines)


def _unique(asked: FrontRequest) -> str:
    """Return a host name unique to the socket: Apache distinguishes backends only by that."""
    digest = hashlib.sha256(asked.socket.encode()).hexdigest()[:8]
    return re.sub("[^a-z0-9]+", "-", asked.name.lower()).strip("-") + "-" + digest


@cache
def _environment() -> jinja2.Environment:
    """Return the kit's environment without its check of each value.

    The parsers of the options have checked the values, and macros return text that is not
    escaped.
    """
    jinja = environment().overlay(finalize=None)
    literal = partial(re.sub, r"([.+])", r"\\\1")
    jinja.filters = {  # an overlay shares the original's settings
        **jinja.filters,
        "literal": literal,
        "slashes": lambda text: literal(text).replace("/", "/+"),
        "prefix": lambda text, prefix: prefix + text,
    }
    jinja.tests = {
        **jinja.tests,
        "network": lambda text: "/" in text,
        "below": lambda url, mount: url.startswith(f"{mount}/"),
    }
    return jinja


def _generate(front: fronts.Front, site: Site, target: Target, **options: Any) -> Output:
    asked = certificates.fitting(front_request(front, site, **options), target)
    mode = 0o640 if asked.auth_file and not front.reads_htpasswd else 0o644
    said = warnings(asked, site.settings)
    if not site.listen and asked.socket != site.path:
        said.insert(
            0,
            f"{front.title} can't see {site.path}, so its configuration uses {asked.socket}: "
            f"generate the socket unit with --front {front.name}, too",
        )
    text = config(asked, target.comments)
    warned = chain(
        said, certificates.warnings(asked, target), default_server.warnings(asked, text, target)
    )
    return Output((File(f"{asked.name}.{front.name}.conf", text, mode),), warned)


nginx = partial(_generate, fronts.NGINX)
apache = partial(_generate, fronts.APACHE)
lighttpd = partial(_generate, fronts.LIGHTTPD)
caddy = partial(_generate, fronts.CADDY)
haproxy = partial(_generate, fronts.HAPROXY)
cherokee = partial(_generate, fronts.CHEROKEE)
