"""The fields that a front adds to a response: once each, and only where they hold."""

import re
from typing import Any

from sdactivate import fronts
from sdactivate.fronts import Front
from sdactivate.generate.fronts import options
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.site import Site

HSTS = "Strict-Transport-Security"
SECURE: dict[str, Any] = {
    "server_name": ("a.test",),
    "tls": options.tls("/c.pem,/k.pem"),
    "hsts": 300,
}
PROTECTED: dict[str, Any] = {"protected": (options.files("/files/=/srv/files"),)}


def text(front: Front, **asked: Any) -> str:
    """The generated text without its comments."""
    protocol = "scgi" if "scgi" in front.protocols else "http"
    site = Site("mysite", settings={"protocol": protocol})
    return config(front_request(front, site, distribution="debian", **asked), comments=False)


def test_what_lets_a_protected_file_out_says_nothing_of_https_besides() -> None:
    """The front says it already: of two such fields a browser heeds the first (RFC 6797, 8.1)."""
    caddy = text(fronts.CADDY, **SECURE, **PROTECTED)
    (excluded,) = re.findall(r"(?m)^\s*exclude (.*)$", caddy)
    assert HSTS in excluded.split()
    assert HSTS not in text(fronts.CADDY, **PROTECTED)
    early = f"Header always unset {HSTS} early"
    assert early in text(fronts.APACHE, **SECURE, **PROTECTED)
    assert early not in text(fronts.APACHE, **SECURE)
    assert HSTS not in text(fronts.APACHE, **PROTECTED)


def test_lighttpd_says_nothing_of_https_over_http_not_even_to_certbots_challenge() -> None:
    """RFC 6797, section 7.2."""
    written = text(fronts.LIGHTTPD, **{**SECURE, "tls": options.AUTO})
    _, _, challenge = written.partition('$HTTP["url"] =~ "^/\\.well-known/acme-challenge/" {\n')
    silent = '        $HTTP["scheme"] == "http" {\n            setenv.set-response-header = ()'
    assert silent in challenge.partition("\n    }\n")[0]
    without = text(fronts.LIGHTTPD, **{**SECURE, "tls": options.AUTO, "hsts": None})
    assert "set-response-header" not in without


def test_no_browser_guesses_what_a_protected_file_is() -> None:
    """Users sent them. lighttpd can't tell a file that was let out from another answer."""
    for front in (fronts.NGINX, fronts.APACHE, fronts.CADDY):
        assert "nosniff" in text(front, **PROTECTED), front.name
        assert "nosniff" not in text(front), front.name
