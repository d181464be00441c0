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

READ = ("nginx", "apache", "lighttpd", "caddy", "haproxy")
GENERATED = [(name, protocol) for name in READ for protocol in FRONTS[name].protocols]


@pytest.mark.parametrize(("name", "protocol"), GENERATED)
def test_a_generated_front_asks_for_the_sites_socket(name: str, protocol: str) -> None:
    asked = front_request(FRONTS[name], Site("mysite", settings={"protocol": protocol}))
    text = config(asked)
    if name == "haproxy":  # its paths are seen from inside
        text = text.replace("unix@/mysite.sock", "unix@/run/mysite.sock")
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
    "haproxy": (
        "global\n\tchroot /var/lib/haproxy\n\tstats socket /run/haproxy/admin.sock\n"
        "backend web\n  server one unix@/web.sock check\n  server two /b/b.sock # server x /c\n"
        "  # server old unix@/old.sock\n  default-server inter 1s\n  server far 10.0.0.1:80\n"
        "  server name abns@web\n  server near 127.0.0.1:8000 backup\n"
        "listen all\n  bind unix@/run/front.sock\n  server six ipv6@::1:8001\n"
        "  server here localhost:8002\n  server var unix@/$WHERE\n"
        "ring log\n  server syslog /dev/log\npeers all\n  server me 127.0.0.1:10000\n",
        ["/web.sock", "/b/b.sock", "port 8000", "port 8001", "port 8002"],
    ),
}


@pytest.mark.parametrize("front", OTHERS)
def test_what_others_have_written(front: str) -> None:
    text, wanted = OTHERS[front]
    assert [it.name for it in upstreams(front, {"f": text})] == wanted


def test_haproxy_s_paths_begin_at_its_root_and_have_the_names_of_its_log() -> None:
    server = "backend web\n  server one unix@/web.sock\n  server two 127.0.0.1:80\n"
    for main, root in (("global\n  chroot /var/lib/haproxy/\n", "/var/lib/haproxy"), ("", "")):
        path, port = upstreams("haproxy", {"/etc/haproxy/haproxy.cfg": main, "b": server})
        assert (path.path, path.name, path.server) == (f"{root}/web.sock", "/web.sock", "web/one")
        assert (path.file, path.line) == ("b", 2)
        assert (port.path, port.port, port.name, port.server) == ("", 80, "port 80", "web/two")


def test_haproxy_s_files_are_those_that_its_unit_names(tmp_path: Path) -> None:
    (tmp_path / "etc/haproxy/conf.d").mkdir(parents=True)
    (tmp_path / "etc/haproxy/haproxy.cfg").write_text("global\n")
    (tmp_path / "etc/haproxy/conf.d/a.cfg").write_text("backend a\n")
    (tmp_path / "etc/haproxy/conf.d/a.cfg.old").write_text("backend b\n")
    at = partial(inside, tmp_path)
    for family_, files in (("debian", []), ("fedora", ["/etc/haproxy/conf.d/a.cfg"])):
        found = read(FRONTS["haproxy"], FRONTS["haproxy"].packaging[family_], at)
        assert list(found.files) == ["/etc/haproxy/haproxy.cfg", *files]


def test_each_is_told_once_with_its_first_place() -> None:
    files = {"a": "\n\nproxy_pass http://unix:/run/a.sock;", "b": "uwsgi_pass unix:/run/a.sock;"}
    (found,) = upstreams("nginx", files)
    assert (found.file, found.line) == ("a", 3)


_TEXTS = st.text() | st.lists(
    st.sampled_from(("global", "backend a", "server", " chroot", " /x", " unix@", ":1", "\n", " b"))
).map("".join)


@given(st.sampled_from((*READ, "cherokee")), _TEXTS)
def test_any_text_is_read(front: str, text: str) -> None:
    for found in upstreams(front, {"f": text}):
        assert bool(found.path) != bool(found.port)
