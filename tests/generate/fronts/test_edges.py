"""What was wrong at the edges: names, limits and fields that nobody writes by chance."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from sdactivate import fronts
from sdactivate.fronts import Front
from sdactivate.generate.fronts import options
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.site import Site

HOPS = tuple(map(options.behind, ("192.0.2.1", "2001:db8::/32")))
TLS: dict[str, Any] = {"tls": options.tls("/c.pem,/c.pem.key"), "server_name": ("a.test",)}
NAMED = "X-Forwarded-Host,X-Forwarded-Port"
PLAIN: Mapping[str, str] = {}


def active(
    front: Front, name: str = "mysite", settings: Mapping[str, str] = PLAIN, **asked: Any
) -> str:
    """The generated text without its comments."""
    text = config(
        front_request(front, Site(name, settings=settings), distribution="debian", **asked)
    )
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("name", ["a", "2026", "the-site-of-a-long-name-and-a-half.example"])
def test_nginxs_names_are_good_ones_whatever_the_site_is_called(name: str) -> None:
    """PCRE takes 32 characters for a group's name, letters, digits and _, no digit at its begin."""
    for server in ("native", "uvicorn"):
        settings = {"server": server, "trust_headers": NAMED, "protocol": "http"}
        text = active(fronts.NGINX, name, settings, behind=HOPS)
        groups = re.findall(r"\(\?<([^>=!]*)>", text)
        assert len(groups) >= 3
        for group in groups:
            assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,31}", group), group


def test_two_sites_share_no_name_in_nginx() -> None:
    variables = [
        set(re.findall(r"\$(site_\w+?)_", active(fronts.NGINX, name)))
        for name in ("the-site-of-a-long-name-1", "the-site-of-a-long-name-2")
    ]
    assert all(map(len, variables))
    assert not variables[0] & variables[1]


@pytest.mark.parametrize(
    ("mount", "stream", "locations", "unbuffered"),
    [
        ("/app", ("/app",), [], 1),
        ("/app", ("/app", "/app/a"), [], 1),
        ("/app", ("",), [], 1),
        ("/app/b", ("/app",), [], 1),
        ("/app", ("/app/a", "/apple", "/other"), ["= /app/a", "^~ /app/a/"], 2),
        ("", ("/a",), ["= /a", "^~ /a/"], 2),
        ("", ("", "/a"), [], 1),
    ],
)
def test_a_streamed_path_has_a_location_where_it_is_a_part_of_the_application(
    mount: str, stream: tuple[str, ...], locations: list[str], unbuffered: int
) -> None:
    """One of its own would be a duplicate of the mount's, or take in what is not the site's."""
    settings = {"stream": " ".join(path or "/" for path in stream)}
    text = active(fronts.NGINX, settings=settings, mount=mount)
    own = ["= " + mount, f"^~ {mount}/", "/"] if mount else ["/"]
    assert re.findall(r"location (.*) \{", text) == [*locations, *own]
    assert text.count("fastcgi_buffering off;") == unbuffered


@pytest.mark.parametrize(("said", "written"), [("512", 1024), ("1024", 1024), ("9000", 9000)])
def test_nginx_gets_no_buffer_that_it_refuses(said: str, written: int) -> None:
    for protocol in fronts.NGINX.protocols:
        text = active(fronts.NGINX, settings={"header_bytes": said, "protocol": protocol})
        assert f"large_client_header_buffers 1 {written};" in text


def test_an_applications_own_418_is_not_asked_for_again() -> None:
    text = active(fronts.NGINX, settings={"server": "uvicorn"})
    assert "proxy_intercept_errors off;" in text.partition("location")[0]


def test_no_client_has_the_fronts_own_fields_removed_by_connection() -> None:
    """Apache removes what Connection names, which would be the front's own fields."""
    text = active(fronts.APACHE, settings={"protocol": "http"}, mount="/app")
    (line,) = re.findall(r'RequestHeader edit\* Connection "(.*)" "" early', text)
    own = set(re.findall(r"(?m)^ *RequestHeader set ([\w-]+)", text))
    assert own == {"X-Forwarded-Proto", "X-Script-Name"}
    for field in (*own, "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "Remote-User"):
        for spelling in (field, field.lower(), field.upper()):
            assert re.sub(line, "", spelling) == "", spelling
    assert re.sub(line, "", "close, Upgrade, keep-alive") == "close, Upgrade, keep-alive"
    assert 'proxy_set_header Connection "";' in active(fronts.NGINX, settings={"protocol": "http"})


def test_nginx_goes_by_the_targets_host_whatever_its_scheme() -> None:
    """nginx chooses the server by it (ftp://a.test/), so it is the application's host too."""
    (pattern,) = re.findall(r'"~\*(.*)" \$\w+_authority;', active(fronts.NGINX))
    for scheme in ("http", "https", "FTP", "a+b-c.d"):
        found = re.match(
            pattern.replace("(?<", "(?P<"), f"GET {scheme}://a.test:81/x HTTP/1.1", re.I
        )
        assert found
        assert found[1] == "a.test:81"
    assert not re.match(pattern.replace("(?<", "(?P<"), "GET /x://a.test/ HTTP/1.1", re.I)


def test_nginxs_own_error_pages_stay_where_a_websocket_has_a_location() -> None:
    """An error_page in a location cancels those of the server; beside them it does not."""
    text = active(fronts.NGINX, settings={"server": "uvicorn"}, mount="/app")
    before, *locations = text.partition("server {")[2].split("location ")
    assert before.count("error_page 418 = @site_") == 1
    assert not any("error_page" in each for each in locations)


@pytest.mark.parametrize("front", [fronts.NGINX, fronts.APACHE, fronts.CADDY])
def test_a_servers_name_is_without_its_port(front: Front) -> None:
    """RFC 3875, section 4.1.14: the balancer's X-Forwarded-Host has one."""
    text = active(front, settings={"trust_headers": NAMED, "protocol": "fastcgi"}, behind=HOPS)
    written = {
        "nginx": r"SERVER_NAME +\$site_\w+_name;",
        "apache": r"SERVER_NAME %\{reqenv:SAID_NAME\}",
        "caddy": r"SERVER_NAME \{vars\.name\}",
    }
    assert re.search(written[front.name], text)
    patterns = {
        "nginx": r'"~(\^.*_host_name>.*)" ',
        "apache": r"=~ /(.*)/\" SAID_NAME=\$1",
        "caddy": r"\n\t\t~(\S+) \"\$\{1\}\" \"\$\{2\}\"",
    }
    (pattern,) = re.findall(patterns[front.name], text)
    for said, name in {"d.test:8443": "d.test", "[::1]:80": "[::1]", "[2001:db8::1]:1": ""}.items():
        found = re.search(pattern.replace("(?<", "(?P<"), said)
        assert found
        assert found.groups()[-1] == (name or "[2001:db8::1]")


def test_caddy_takes_only_an_address_for_the_client() -> None:
    text = active(fronts.CADDY, behind=HOPS)
    (pattern,) = re.findall(r'\n\t\t~(\S+) "\$\{1\}"\n\t\tdefault \{remote_host\}', text)
    for said, client in {
        "203.0.113.7": "203.0.113.7",
        "6.6.6.6, 2001:db8::7": "2001:db8::7",
        "6.6.6.6,::ffff:203.0.113.7 ": "::ffff:203.0.113.7",
        "6.6.6.6, 203.0.113.7, 192.0.2.1": "203.0.113.7",
        "6.6.6.6, unknown": None,
        "6.6.6.6, _hidden": None,
        "6.6.6.6, x203.0.113.7": None,
        "6.6.6.6,": None,
        "": None,
    }.items():
        found = re.search(pattern, said)
        assert (found and found[1]) == client, said


@pytest.mark.parametrize("mount", ["", "/app"])
def test_apache_passes_a_websockets_path_as_it_was_sent(mount: str) -> None:
    text = active(fronts.APACHE, settings={"server": "uvicorn"}, mount=mount)
    _, _, rules = text.partition('"=websocket" [NC]\n')
    condition, rule = rules.splitlines()[:2]
    (pattern,) = re.findall(r'RewriteCond "%\{THE_REQUEST\}" "(.*)"', condition)
    found = re.search(pattern, f"GET {mount}/a%252Fb%3Fc?d=%3F HTTP/1.1")
    assert found
    assert found[1] == f"{mount}/a%252Fb%3Fc"
    assert '-websocket%1" [P,NE]' in rule  # not the decoded $1, and not encoded again


def test_haproxy_redirects_nobody_who_speaks_for_a_client() -> None:
    """On its unix socket there is no TLS: --behind unix says the scheme."""
    both = active(fronts.HAPROXY, behind=(options.behind("unix"),), **TLS)
    redirects = [line.split("301 ")[1] for line in both.splitlines() if " redirect " in line]
    assert redirects == [
        "unless { ssl_fc } or { so_name mysite-front }",
        "if { var(txn.scheme) -m str http }",
    ]
    assert "so_name" not in active(fronts.HAPROXY, behind=HOPS, **TLS)


def test_haproxy_believes_no_empty_host_and_no_odd_port() -> None:
    text = active(fronts.HAPROXY, settings={"trust_headers": NAMED}, behind=HOPS)
    host, port = (
        next(line for line in text.splitlines() if f"set-var(txn.{what}) req.hdr" in line)
        for what in ("host", "port")
    )
    assert "{ req.hdr(x-forwarded-host,-1) -m len gt 0 }" in host
    assert "{ req.hdr(x-forwarded-port,-1) -m reg ^[0-9]{1,5}$ }" in port


def test_lighttpd_drops_every_mixture_where_the_server_would_take_it() -> None:
    """lighttpd makes HTTP_X_FORWARDED_HOST of X-Forwarded.Host as well; so does no other front."""
    text = active(fronts.LIGHTTPD, settings={"server": "uvicorn"}, mount="/app")
    for field in ("X-Forwarded-Host", "X-Script-Name", "X-Real-IP"):
        first, second, third = field.split("-")
        for one in "-_.":
            for other in "-_.":
                spelling = f"{first}{one}{second}{other}{third}"
                assert f'"{spelling}" => ' in text, spelling


def test_caddy_takes_a_scheme_in_any_case() -> None:
    """RFC 3986, section 3.1."""
    text = active(fronts.CADDY, behind=HOPS)
    _, _, rows = text.partition("map {header.X-Forwarded-Proto} {said_scheme} {\n")
    patterns = [row.split(" ") for row in rows.partition("}")[0].strip().splitlines()[:2]]
    assert len(patterns) == 2
    for words in patterns:
        pattern, scheme = words[0].strip().removeprefix("~"), words[1]
        for said in (scheme, scheme.upper(), f"x, {scheme.title()} "):
            assert re.search(pattern, said), said
        assert not re.search(pattern, f"{scheme}, x")
        assert not re.search(pattern, f"x{scheme}")
