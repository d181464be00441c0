"""URLs of --static, --media and --protected one below another: what holds is the longest's own."""

import re
from typing import Any

from sdactivate import fronts
from sdactivate.fronts import Front
from sdactivate.generate.fronts.lifetimes import HASHED
from sdactivate.generate.fronts.options import files
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.site import Site

NESTED: dict[str, Any] = {
    "static": (files("/static/=/srv/s"), files("/files/css/=/srv/css")),
    "media": (files("/static/up/=/srv/up"), files("/static/pr/up/=/srv/prup")),
    "protected": (files("/static/pr/=/srv/spr"), files("/files/=/srv/pr")),
}
HASH = "a.0123456789ab.css"


def text(front: Front, **asked: Any) -> str:
    """The generated text without its comments."""
    site = Site("mysite", settings={"protocol": "scgi"})
    return config(front_request(front, site, distribution="debian", **asked), comments=False)


def test_nginx_says_of_no_protected_file_how_long_it_may_be_kept() -> None:
    (rows,) = re.findall(
        r"(?ms)^map \$uri \$site_\w+_keep \{\n(.*?)^\}", text(fronts.NGINX, **NESTED)
    )
    table = re.findall(r'"~(\^.*)" "(.*)";', rows)

    def kept(path: str) -> str:
        return next((value for pattern, value in table if re.search(pattern, path)), "")

    assert kept(f"/static/pr/{HASH}") == kept(f"/files/{HASH}") == ""
    assert kept(f"/static/up/{HASH}") == kept(f"/static/pr/up/{HASH}") == "max-age=300"
    assert "immutable" in kept(f"/static/{HASH}")
    assert "immutable" in kept(f"/files/css/{HASH}")
    apart = text(fronts.NGINX, static=NESTED["static"][:1], protected=NESTED["protected"][1:])
    assert HASHED in apart
    assert '"~^/files/"' not in apart.partition("_sniff")[0]


def test_apache_has_one_alias_and_one_location_for_each_file() -> None:
    """Of Aliases the first counts, of Locations all that fit, and for both // may stand for /."""
    written = text(fronts.APACHE, **NESTED)
    served = [f"/srv/{name}/" for name in ("s", "css", "up", "prup", "spr", "pr")]
    aliases = [row for row in re.findall(r'Alias "(.*)" "(.*)"', written) if row[1] in served]
    assert len(aliases) == len(served)
    sections = re.findall(
        r'(?ms)^    <Location(Match)? "([^"]*)">\n(        Require all granted\n.*?)^    </',
        written,
    )

    def section(path: str) -> tuple[str, str]:
        """The Alias that is taken, and the only section but the application's own."""
        merged = re.sub("/+", "/", path)
        directory = next(directory for url, directory in aliases if merged.startswith(url))
        (body,) = (
            body
            for match, where, body in sections
            if where != "/" and (re.match(where, path) if match else merged.startswith(where))
        )
        return directory, body

    kept, uploaded, refused = "immutable", "nosniff\n        Header set", "Redirect 404"
    for url, directory, said in (
        ("/static/", "/srv/s/", kept),
        ("/files/css/", "/srv/css/", kept),
        ("/static/up/", "/srv/up/", uploaded),
        ("/static/pr/up/", "/srv/prup/", uploaded),
        ("/static/pr/", "/srv/spr/", refused),
        ("/files/", "/srv/pr/", refused),
    ):
        for asked in (url, url.replace("/", "//"), url + "/", url + "static/"):
            found, body = section(asked + HASH)
            assert found == directory, asked
            assert [word for word in (kept, uploaded, refused) if word in body] == [said], asked
