"""Checks on the running system: HTTPS that Django, or an ASGI server, does not believe in."""

import re
from collections.abc import Iterator

from sdactivate.doctor import variables
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.front_requests import application, site_settings
from sdactivate.doctor.checks.front_ways import Way, ways
from sdactivate.doctor.checks.handling import options
from sdactivate.doctor.checks.protocols import ends_tls, tells_https
from sdactivate.doctor.django_settings import Settings
from sdactivate.doctor.finding import Advice, Case, Fix, Hit, Lines, restart
from sdactivate.systemd.unitfile import Unit

_ORIGIN = re.compile(
    r"Origin checking failed - (?P<origin>https://[^\s'\"]{1,255}) does not match any trusted"
)
_HEADER = 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")'


def not_believed(case: Case) -> Iterator[Hit]:
    """A front that tells the application of HTTPS, and a Django that does not read it."""
    for service in common.services(case.service):
        if common.is_ours(service):
            continue
        told = next(
            (
                it
                for it in ways(case)
                if it.protocol == "http" and ends_tls(it) and tells_https(case, it)
            ),
            None,
        )
        if told is None or _sets_scheme(service, told):
            continue
        site, refused = site_settings(case), _refused(case, service)
        certain = site is not None and _does_not_read(site) and _refuses_forms(site)
        if not certain and not refused:
            continue
        where = f"in {site.file}" if site else "in the site's settings"
        seen = (
            f". It has refused forms {common.times(len(refused))} in the last hour (Origin "
            f"checking failed - {refused[-1]})"
            if refused
            else ": it refuses forms of https:// pages (403, CSRF: Origin checking failed)"
        )
        yield Hit(
            service.name,
            f"the front tells that clients use HTTPS ({told.place}), but Django does not read it "
            f"(SECURE_PROXY_SSL_HEADER {where}), and treats every request as HTTP{seen}",
            Advice(f"add {_HEADER} {where}"),
            then=str(restart(service.name)),
        )


def _refused(case: Case, service: Unit) -> list[str]:
    lines = case.running.said(service.name) if "@." not in service.name else []
    return [it["origin"] for it in map(_ORIGIN.search, lines) if it]


def _does_not_read(site: Settings) -> bool:
    return site.lacks("SECURE_PROXY_SSL_HEADER") and site.lacks("CSRF_TRUSTED_ORIGINS")


def _refuses_forms(site: Settings) -> bool:
    return "django.middleware.csrf.CsrfViewMiddleware" in site.words("MIDDLEWARE")


def _sets_scheme(service: Unit, way: Way) -> bool:
    """Whether the server itself makes wsgi.url_scheme or scope["scheme"] of X-Forwarded-Proto.

    gunicorn does for a front on this host, uvicorn only where it trusts the peer, which a unix
    socket is not without --forwarded-allow-ips.
    """
    words = common.words(service)
    given = dict(options(words))
    allowed = given.get("--forwarded-allow-ips") or variables.value(service, "FORWARDED_ALLOW_IPS")
    name = common.server(service)
    if _runs_uvicorn(service) and name in ("uvicorn", "gunicorn"):
        return "--no-proxy-headers" not in words and (
            not way.upstream.path or "*" in allowed or not variables.are_all_known(service)
        )
    if name == "gunicorn":
        return True
    if name == "waitress":
        return any("trusted-proxy" in it or "url-scheme" in it for it in words)
    return name == "daphne" and "--proxy-headers" in words


def _runs_uvicorn(service: Unit) -> bool:
    """Return whether uvicorn serves, by itself or as gunicorn's worker class."""
    words = common.words(service)
    return common.server(service) == "uvicorn" or any("uvicorn" in it.lower() for it in words)


_BUILDS = re.compile(r"\bscheme\b|url_for|base_url|request\.url|Redirect|fastapi|starlette", re.I)
"""What an application has in it that makes addresses of its own of the scheme."""


def not_trusted(case: Case) -> Iterator[Hit]:
    """An ASGI server that does not trust the front, and an application that uses the scheme."""
    if site_settings(case):
        return
    for service in common.services(case.service):
        module = application(case, service)
        if common.is_ours(service) or not _runs_uvicorn(service) or module is None:
            continue
        told = [
            it
            for it in ways(case)
            if it.protocol == "http" and ends_tls(it) and tells_https(case, it)
        ]
        if not told or _sets_scheme(service, told[0]) or not _BUILDS.search(module[1]):
            continue
        yield Hit(
            service.name,
            f"the front tells that clients use HTTPS ({told[0].place}), but "
            f"{common.server(service)} does not trust it, because it connects by a unix socket: "
            f"the application's own addresses and redirects begin with http:// ({module[0]})",
            _trust(service),
        )


def _trust(service: Unit) -> Fix:
    given = dict(options(common.words(service)))
    held = variables.of(service).get("FORWARDED_ALLOW_IPS")
    if "--no-proxy-headers" in given:
        return Advice(f"remove --no-proxy-headers from ExecStart= of {service.name}")
    if "--forwarded-allow-ips" in given:
        return Advice(f"set --forwarded-allow-ips '*' in ExecStart= of {service.name}")
    if held and held.file:
        return Advice(f"write FORWARDED_ALLOW_IPS=* in {held.file}")
    return Lines(service.name, "Service", ("Environment=FORWARDED_ALLOW_IPS=*",))
