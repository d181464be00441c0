"""What let a request past the login, the maintenance switch or the protection of a file.

Each was shown on the front itself; here is the line that closes it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sdactivate import fronts
from sdactivate.fronts import Front
from sdactivate.generate.fronts.options import files
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.site import Site

USER = "u:$2y$05$" + "a" * 53
PENDING: Mapping[str, Any] = {"tls": "pending", "server_name": ("a.test",)}
SERVED: Mapping[str, Any] = {
    "static": (files("/static/=/srv/static"),),
    "media": (files("/app/up/=/srv/up"),),
}


def text(front: Front, protocol: str = "", server: str = "", **asked: object) -> str:
    """The generated text without its comments."""
    settings = {"protocol": protocol, "server": server}
    site = Site("mysite", settings={name: value for name, value in settings.items() if value})
    return config(front_request(front, site, distribution="debian", **asked), comments=False)


def test_caddy_looks_for_the_switch_once_a_request(tmp_path: Path) -> None:
    """Removed between two looks, it would end the maintenance before the login had begun."""
    (tmp_path / "htpasswd").write_text(USER)
    written = text(
        fronts.CADDY,
        auth_file=f"{tmp_path}/htpasswd",
        maintenance="/etc/off",
        static=(files("/static/=/srv/static"),),
    )
    assert written.count("/etc/off") == 1
    assert (
        "@switch file {\n\t\troot /\n\t\ttry_files /etc/off\n\t}\n\tvars @switch down yes"
        in written
    )
    assert written.count("vars {vars.down} yes\n") == 2


@pytest.mark.parametrize(
    ("mount", "asked", "urls"),
    [
        ("", PENDING, ["/.well-known/acme-challenge/"]),
        ("", {**PENDING, **SERVED}, ["/.well-known/acme-challenge/", "/static/", "/app/up/"]),
        ("/app", {**PENDING, **SERVED}, ["/app/up/"]),
        ("/app", PENDING, []),
        ("", {}, []),
    ],
)
def test_apache_hands_no_websocket_what_it_answers_itself(
    mount: str, asked: Mapping[str, Any], urls: list[str]
) -> None:
    """The path is passed on as it was sent: /ws/../static/x is the application's and Apache's."""
    written = text(fronts.APACHE, server="uvicorn", mount=mount, **asked)
    conditions = written.partition('"=websocket" [NC]')[0].rpartition("RewriteRule")[2]
    refused = re.findall(r'RewriteCond "%\{REQUEST_URI\}" "!(.*)"', conditions)
    assert len(refused) == bool(urls)
    for url in urls:
        assert re.match(refused[0], url + "x"), url
        assert re.match(refused[0], url.replace("/", "//") + "x"), url  # to a Location // is /
    for url in ("/", "/ws", f"{mount}/", f"{mount}/ws/static/x"):
        assert not (refused and re.match(refused[0], url)), url


def test_php_lets_no_protected_file_out() -> None:
    """nginx believes X-Accel-Redirect of any FastCGI server, and PHP is not the application."""
    asked: dict[str, Any] = {"mount": "/app", "php": "/run/php.sock"}
    ignored = "fastcgi_ignore_headers X-Accel-Redirect;"
    written = text(fronts.NGINX, protected=(files("/files/=/srv/files"),), **asked)
    (php,) = re.findall(r"(?ms)^    location ~ \\.php\$ \{\n(.*?)^    \}", written)
    assert ignored in php
    assert written.count("X-Accel-Redirect") == 1  # the application's is heeded
    assert ignored not in text(fronts.NGINX, **asked)


def test_lighttpd_has_the_login_before_any_sites_own_removal_of_passwords() -> None:
    """Modules are asked in the order of the list, which all sites share."""
    login = '"mod_auth", "mod_authn_file"'
    first = text(fronts.LIGHTTPD)
    second = text(fronts.LIGHTTPD, auth_file="/etc/htpasswd")
    order = ["mod_indexfile"]
    for line in re.findall(r"(?m)^server\.modules .*", first + second):
        named = re.findall(r'"(\w+)"', line)
        order = named + order if line.endswith("+ server.modules") else order + named
    assert order.index("mod_auth") < order.index("mod_authn_file") < order.index("mod_setenv")
    assert second.count(login) == 1
    assert "mod_auth" not in first
