"""Which server of a front answers, by the configurations that distributions bring in."""

from functools import partial
from pathlib import Path

import pytest

from sdactivate import fronts
from sdactivate.front_config import Configuration, InTheWay, in_the_way, include_line, read
from sdactivate.fronts import FRONTS, Packaging
from sdactivate.generate.fronts.default_server import warnings
from sdactivate.generate.fronts.options import Tls
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.generate.output import Target
from sdactivate.install.image import inside
from sdactivate.site import Site
from tests.front_trees import TREES, make

NAMED = {"server_name": ("example.org", "www.example.org")}
LOCALHOST = {"server_name": ("localhost",)}


def family(layout: str) -> str:
    return next((name for name in fronts.DISTRIBUTIONS if layout.startswith(name)), "fedora")


def placed(packaging: Packaging) -> str:
    return (packaging.link or packaging.config).replace("NAME", "mysite")


def look(
    root: Path, front: str, layout: str, **options: object
) -> tuple[Configuration, list[InTheWay]]:
    """What is read of a tree with the site's file in it, and what is in its way."""
    found = FRONTS[front]
    packaging = found.packaging[family(layout)]
    asked = front_request(found, Site("mysite"), distribution=family(layout), **options)
    path = placed(packaging)
    at = partial(inside, make(root, TREES[front, layout]))
    configuration = read(found, packaging, at, {path: config(asked)})
    rivals = in_the_way(found, packaging, configuration.servers, lambda it: it.file == path)
    return configuration, rivals


IN_THE_WAY = {
    ("nginx", "debian"): ("rm /etc/nginx/sites-enabled/default", "systemctl reload nginx.service"),
    ("nginx", "rhel"): ("take that server out of /etc/nginx/nginx.conf",),
    ("nginx", "nginx.org"): (
        "mv /etc/nginx/conf.d/default.conf /etc/nginx/conf.d/default.conf.off",
    ),
    ("nginx", "arch"): ("take that server out of /etc/nginx/nginx.conf",),
    ("nginx", "arch with conf.d"): ("take that server out of /etc/nginx/nginx.conf",),
    ("apache", "debian"): ("a2dissite 000-default", "systemctl reload apache2.service"),
    ("caddy", "debian"): ("take that server out of /etc/caddy/Caddyfile",),
    ("caddy", "fedora"): ("take that server out of /etc/caddy/Caddyfile",),
    ("caddy", "arch"): ("take that server out of /etc/caddy/Caddyfile",),
}
"""Where a site of no particular name would not be answered, and what is said."""


@pytest.mark.parametrize(("front", "layout"), TREES)
def test_the_packaged_default_server_is_seen_where_it_answers(
    front: str, layout: str, tmp_path: Path
) -> None:
    _, found = look(tmp_path, front, layout)
    expected = IN_THE_WAY.get((front, layout), ())
    assert len(found) == bool(expected)
    for words in expected:
        assert words in found[0].fix


@pytest.mark.parametrize(("front", "layout"), TREES)
def test_it_is_not_in_the_way_of_names(front: str, layout: str, tmp_path: Path) -> None:
    tls = {} if front == "haproxy" else {"tls": Tls("/etc/ssl/a.pem", "/etc/ssl/a.key")}
    assert look(tmp_path / "http", front, layout, **NAMED)[1] == []
    assert look(tmp_path / "https", front, layout, **NAMED, **tls)[1] == []


def test_a_name_that_the_default_server_has_is_its_own(tmp_path: Path) -> None:
    for layout in ("nginx.org", "arch"):
        _, (found,) = look(tmp_path / layout, "nginx", layout, **LOCALHOST)
        assert "answers localhost instead of the site" in found.because
    assert look(tmp_path / "debian", "nginx", "debian", **LOCALHOST)[1] == []


READ = {
    ("nginx", "arch"): "include /etc/nginx/conf.d/*.conf;",
    ("apache", "arch"): "IncludeOptional /etc/httpd/conf/extra/mysite.conf",
    ("lighttpd", "fedora"): 'include "/etc/lighttpd/vhosts.d/*.conf"',
    ("lighttpd", "arch"): 'include "/etc/lighttpd/conf.d/*.conf"',
    ("caddy", "debian"): "import /etc/caddy/*.caddyfile",
}
"""Where the packaged configuration does not include the site's file, and the line that does."""


@pytest.mark.parametrize(("front", "layout"), TREES)
def test_whether_the_sites_file_is_read(front: str, layout: str, tmp_path: Path) -> None:
    packaging = FRONTS[front].packaging[family(layout)]
    configuration, _ = look(tmp_path, front, layout)
    line = READ.get((front, layout))
    assert bool(configuration.missed) == bool(line)
    if line:
        assert include_line(FRONTS[front], packaging, "mysite") == line
        main = tmp_path / packaging.main.lstrip("/")
        text = main.read_text().rstrip()
        end = "\n}\n" if front == "nginx" else "\n"
        main.write_text(f"{text.removesuffix('}') if front == 'nginx' else text}\n{line}{end}")
        again = read(FRONTS[front], packaging, partial(inside, tmp_path), {placed(packaging): ""})
        assert again.missed == ()


def test_gen_warns_only_where_the_text_will_be_read(tmp_path: Path) -> None:
    root = make(tmp_path, TREES["nginx", "debian"])
    asked = front_request(FRONTS["nginx"], Site("mysite"), distribution="debian")
    (said,) = warnings(asked, config(asked), Target(at=partial(inside, root)))
    assert said.startswith("nginx's server in /etc/nginx/sites-enabled/default, line 2, answers")
    assert "give the site's names with --server-name, or `rm " in said
    make(
        tmp_path / "again", {**TREES["nginx", "fedora"], "/etc/nginx/conf.d/a.conf": config(asked)}
    )
    fedora = front_request(FRONTS["nginx"], Site("mysite"), distribution="fedora")
    again = Target(at=partial(inside, tmp_path / "again"))
    assert list(warnings(fedora, config(fedora), again)) == []
    empty = Target(at=partial(inside, tmp_path / "empty"))
    assert list(warnings(asked, config(asked), empty)) == []
    other = next(name for name in fronts.DISTRIBUTIONS if name != fronts.distribution())
    elsewhere = front_request(FRONTS["nginx"], Site("mysite"), distribution=other)
    assert list(warnings(elsewhere, config(elsewhere), Target())) == []


def nginx(root: Path, text: str) -> Configuration:
    make(root, {"/etc/nginx/nginx.conf": text})
    return read(FRONTS["nginx"], FRONTS["nginx"].packaging["debian"], partial(inside, root))


def test_nginx_is_read_as_nginx_reads_it(tmp_path: Path) -> None:
    text = """
    stream { server { listen 80; } }
    http {
        upstream app { server unix:/run/a.sock; }
        map $uri $x { default "a;b}"; '~^{' ${host}; }
        server { listen 192.0.2.1:80; server_name one.test; }
        server {  # no listen: port 80
            server_name A.test *.a.test;
            location / { if ($x) { return 204; } proxy_pass http://app; }
        }
        server { listen *:8080; listen [::]:443 ssl default_server; server_name "b.test"; }
        include loop*.conf;
    }
    """
    make(tmp_path, {"/etc/nginx/loop1.conf": "include loop1.conf;\nserver { listen 81; }\n"})
    found = nginx(tmp_path, text)
    assert [(sorted(it.ports), it.names, it.is_default) for it in found.servers] == [
        ([], ("one.test",), False),
        ([80], ("a.test", "*.a.test"), False),
        ([443, 8080], ("b.test",), True),
        ([81], (), False),
    ]
    assert "proxy_pass" in found.servers[1].text
    assert found.servers[1].line == 7


@pytest.mark.parametrize(
    "text", ["", "}", "server {", "http { server { listen", '"', "include;", "listen 80;"]
)
def test_what_nginx_would_refuse_is_no_reason_to_fail(text: str, tmp_path: Path) -> None:
    assert nginx(tmp_path, text).servers == ()


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, {"/etc/nginx/nginx.conf": "-> /nowhere"})
    found = FRONTS["nginx"]
    assert read(found, found.packaging["debian"], partial(inside, tmp_path)).files == {}
