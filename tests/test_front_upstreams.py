"""What a front passes requests on to, from generated configurations and from others'."""

from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.front_config import read
from sdactivate.front_upstreams import upstreams
from sdactivate.fronts import FRONTS
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.install.image import inside
from sdactivate.site import Site
from tests.front_trees import TREES, make
from tests.test_front_config import family, placed

READ = ("nginx", "apache", "lighttpd", "caddy")
GENERATED = [(name, protocol) for name in READ for protocol in FRONTS[name].protocols]


@pytest.mark.parametrize(("name", "protocol"), GENERATED)
def test_a_generated_front_asks_for_the_sites_socket(name: str, protocol: str) -> None:
    asked = front_request(FRONTS[name], Site("mysite", settings={"protocol": protocol}))
    text = config(asked)
    found = upstreams(name, {"f": text})
    assert [it.path for it in found] == ["/run/mysite.sock"]
    assert "/run/mysite.sock" in text.splitlines()[found[0].line - 1]


@pytest.mark.parametrize(("front", "layout"), [it for it in TREES if it[0] in READ])
def test_it_is_found_in_each_distribution_s_layout(front: str, layout: str, tmp_path: Path) -> None:
    packaging = FRONTS[front].packaging[family(layout)]
    asked = front_request(FRONTS[front], Site("mysite"), distribution=family(layout))
    at = partial(inside, make(tmp_path, TREES[front, layout]))
    path = placed(packaging)
    read_ = read(FRONTS[front], packaging, at, {path: config(asked)})
    found = [it for it in upstreams(front, read_.files) if it.path == "/run/mysite.sock"]
    assert [it.file for it in found] == [path]


OTHERS = {
    "nginx": (
        "upstream app {\n  server unix:/run/gunicorn.sock fail_timeout=0;\n"
        "  # server unix:/run/old.sock;\n  server 127.0.0.1:8001 backup;\n}\n"
        "server {\n  listen unix:/run/front.sock;\n  server_name localhost;\n"
        "  location / { proxy_pass http://app; }\n"
        "  location /a { proxy_pass http://unix:/run/a.sock:/x; }\n"
        "  location /b { uwsgi_pass unix:///run/b/b.sock; }\n"
        "  location /c { fastcgi_pass localhost:9000; proxy_pass http://10.0.0.1:8000; }\n"
        "  location /d { proxy_pass http://unix:$where; }\n}\n",
        ["/run/gunicorn.sock", "port 8001", "/run/a.sock", "/run/b/b.sock", "port 9000"],
    ),
    "apache": (
        'ProxyPass "/" "unix:/run/web.sock|http://localhost/"\n'
        "#ProxyPass / unix:/run/old.sock|http://old/\n"
        'SetHandler "proxy:unix:/run/php/php8.2-fpm.sock|fcgi://localhost/"\n'
        "ProxyPass /b http://127.0.0.1:8000/\nProxyPass /c http://10.0.0.1:8000/\n",
        ["/run/web.sock", "/run/php/php8.2-fpm.sock", "port 8000"],
    ),
    "lighttpd": (
        'fastcgi.server = ( "/" => (( "socket" => "/run/web.sock", "check-local" => "disable" )))\n'
        'proxy.server = ( "" => (( "host" => "127.0.0.1", "port" => 8000 )))\n'
        '# "socket" => "/run/old.sock"\n'
        'proxy.server = ( "" => (( "host" => "10.0.0.1", "port" => 8001 )))\n',
        ["/run/web.sock", "port 8000"],
    ),
    "caddy": (
        ":80 {\n  reverse_proxy unix//run/web.sock\n  # reverse_proxy unix//run/old.sock\n"
        "  reverse_proxy /a unix+h2c//run/a.sock {\n    flush_interval -1\n  }\n"
        "  reverse_proxy /b localhost:8000 10.0.0.1:1\n  php_fastcgi 127.0.0.1:9000\n}\n"
        "localhost:8080 {\n  respond ok\n}\n",
        ["/run/web.sock", "/run/a.sock", "port 8000", "port 9000"],
    ),
}


@pytest.mark.parametrize("front", OTHERS)
def test_what_others_have_written(front: str) -> None:
    text, wanted = OTHERS[front]
    assert [it.name for it in upstreams(front, {"f": text})] == wanted


def test_each_is_told_once_with_its_first_place() -> None:
    files = {"a": "\n\nproxy_pass http://unix:/run/a.sock;", "b": "uwsgi_pass unix:/run/a.sock;"}
    (found,) = upstreams("nginx", files)
    assert (found.file, found.line) == ("a", 3)


@given(st.sampled_from((*READ, "haproxy", "cherokee")), st.text())
def test_any_text_is_read(front: str, text: str) -> None:
    for found in upstreams(front, {"f": text}):
        assert bool(found.path) != bool(found.port)
