"""Checks on the running system: Django's static files that nothing serves."""

import re
from collections.abc import Iterator, Mapping

from sdactivate.doctor import uwsgi_options
from sdactivate.doctor.checks import common
from sdactivate.doctor.checks.access_logs import NOT_FOUND, answered
from sdactivate.doctor.checks.front_requests import application, site_settings
from sdactivate.doctor.checks.front_ways import rest, ways
from sdactivate.doctor.checks.static_files import not_found, to_collect
from sdactivate.doctor.django_settings import Settings
from sdactivate.doctor.finding import Advice, Case, Hit
from sdactivate.systemd.unitfile import Unit

_SERVED_ELSEWHERE = re.compile(r"whitenoise|StaticFilesHandler|dj_static|staticfiles_urlpatterns")
_BY_FRONT: Mapping[str, str] = {
    "nginx": "add location {url} {{ alias {root}/; }} to the server of {place}",
    "apache": "add Alias {url} {root}/, ProxyPass {url} ! (above the other ProxyPass lines) and "
    "<Directory {root}> Require all granted </Directory> to the virtual host of {place}",
    "caddy": "add handle_path {url}* {{ root * {root}; file_server }} to the site of {place}",
    "lighttpd": 'add alias.url += ( "{url}" => "{root}/" ) to {place}, and pass on the other paths '
    "only",
}
_BY_DJANGO = "add whitenoise.middleware.WhiteNoiseMiddleware to MIDDLEWARE"
_AROUND = re.compile(
    r"try_files|file_server|^[ \t]*(?:include|import)[ \t]+(?!\S*(?:_params|mime\.types))",
    re.MULTILINE,
)
"""What may serve files in another way, or be in another file."""


def not_served(case: Case) -> Iterator[Hit]:
    """Django's static files that no front serves: Django itself does so only with DEBUG."""
    site = site_settings(case)
    url = _local_url(site) if site else ""
    if not site or not url:
        return
    for service in common.services(case.service):
        found = [it for it in ways(case) if it.protocol != ""]
        if common.is_ours(service) or not found or _serves_itself(case, service, site):
            continue
        around = (f"{it.text}\n{rest(case, it.installed)}" for it in found)
        if any(url.rstrip("/") in text or _AROUND.search(text) for text in around):
            continue
        way = found[0]
        logged = [
            it.path
            for it in answered(case, way.installed)
            if it.status == NOT_FOUND and it.path.startswith(url)
        ]
        if "django.contrib.admin" not in site.words("INSTALLED_APPS") and not logged:
            continue
        root = site.text("STATIC_ROOT").rstrip("/")
        set_root = "" if root else f'set STATIC_ROOT = "/var/www/{service.prefix}" in {site.file}, '
        told = _BY_FRONT.get(way.front, _BY_DJANGO).format(
            url=url, root=root or f"/var/www/{service.prefix}", place=way.place
        )
        yield Hit(
            way.installed.packaging.unit,
            f"{way.installed.front.title} passes {url} on to Django ({way.place}), which serves "
            f"static files only with DEBUG = True ({site.file}): it answers 404{not_found(logged)}",
            Advice(f"{set_root}{to_collect(site, root)}{told}, then {way.renewed}"),
            way.unit,
        )


def _local_url(site: Settings) -> str:
    """Return STATIC_URL of a site without DEBUG, "" if it is elsewhere or not certain."""
    is_off = site.lacks("DEBUG") or site.values.get("DEBUG") is False
    has_app = "django.contrib.staticfiles" in site.words("INSTALLED_APPS")
    url = site.text("STATIC_URL")
    if not site.is_whole or not is_off or not has_app or not url or "://" in url:
        return ""
    return f"/{url.strip('/')}/" if url.strip("/") else ""


def _serves_itself(case: Case, service: Unit, site: Settings) -> bool:
    held = [*site.words("MIDDLEWARE"), *site.words("INSTALLED_APPS")]
    module = application(case, service)
    if module is None or any(map(_SERVED_ELSEWHERE.search, (*held, module[1]))):
        return True
    return bool(uwsgi_options.values(service, "static-map", "static-map2", "check-static"))
