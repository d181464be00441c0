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
    return config(front_request(front, Site("mysite"), distribution="debian", **asked), False)


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
