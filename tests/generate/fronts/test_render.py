"""What is generated for a front, and what is refused. tests/machine/test_fronts.py runs it."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate import fronts, trust
from sdactivate.cli import main
from sdactivate.errors import Error, UsageError
from sdactivate.generate.fronts import options
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request
from sdactivate.generate.kinds import KINDS
from sdactivate.generate.options import Option
from sdactivate.generate.output import Target
from sdactivate.site import Site
from sdactivate.values import parse_listen
from tests.generate.strategies import HOSTILE

FRONTS = list(fronts.FRONTS.values())
SPOKEN = [(front, protocol) for front in FRONTS for protocol in front.protocols]
SITE = Site("mysite")


def name_of(value: object) -> str:
    """How a parameter is called in the name of a test."""
    return str(getattr(value, "name", value))


def text(front: fronts.Front, protocol: str = "", **options: object) -> str:
    settings = {"protocol": protocol} if protocol else {}
    options.setdefault("distribution", "debian")
    return config(front_request(front, Site("mysite", settings=settings), **options))


def active(text: str) -> str:
    """The lines that are not comments."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


# --- the command ----------------------------------------------------------------------------


@pytest.mark.parametrize("front", FRONTS, ids=name_of)
def test_gen_prints_the_configuration_and_nothing_else(
    front: fronts.Front, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["gen", "mysite", "--kind", front.name, "--server-name", "example.org"]
    assert main([*argv, "--distribution", "debian"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"# {front.title} in front of mysite: {front.recommended} to /")
    assert "example" in out
    assert out.endswith("\n")
    assert all(line.startswith("sdactivate gen: warning: ") for line in err.splitlines())


@pytest.mark.parametrize("name", ["ngnix", "h2o", "cherokee"])
def test_a_front_without_a_known_group_is_no_group(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gen", "mysite", "--front", name]) == 2
    assert capsys.readouterr().err.startswith(f"sdactivate gen: --front {name}")


def test_the_socket_unit_gets_the_fronts_group(capsys: pytest.CaptureFixture[str]) -> None:
    for front, distribution, group in (
        ("nginx", "debian", "www-data"),
        ("nginx", "fedora", "nginx"),
        ("apache", "fedora", "apache"),
        ("lighttpd", "arch", "http"),
        ("caddy", "arch", "caddy"),
    ):
        assert main(["gen", "mysite", "--front", front, "--distribution", distribution]) == 0
        out = capsys.readouterr().out
        assert f"SocketGroup={group}\n" in out
        assert "ListenStream=/run/mysite.sock\n" in out
    assert main(["gen", "mysite", "--front", "cherokee", "--group", "www-data"]) == 0
    assert main(["gen", "mysite", "--front", "nginx", "--group", "web"]) == 0
    assert "SocketGroup=web\n" in capsys.readouterr().out


def test_haproxys_socket_lies_where_it_can_see_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gen", "mysite", "--front", "haproxy", "--distribution", "debian"]) == 0
    unit = capsys.readouterr().out
    assert "ListenStream=/var/lib/haproxy/mysite.sock\n" in unit
    assert "SocketGroup=haproxy\n" in unit
    assert main(["gen", "mysite", "--kind", "haproxy", "--distribution", "debian"]) == 0
    assert "    server application unix@/mysite.sock\n" in capsys.readouterr().out


def test_a_socket_that_the_front_cannot_see_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["gen", "mysite", "--front", "haproxy", "--distribution", "debian"]
    assert main([*argv, "--listen", "/run/mysite.sock"]) == 2
    assert "can't see a socket outside; use /var/lib/haproxy/mysite.sock" in capsys.readouterr().err
    assert main([*argv, "--listen", "/var/lib/haproxy/a.sock", "--listen", "127.0.0.1:8000"]) == 0


# --- the texts ------------------------------------------------------------------------------


@pytest.mark.parametrize(("front", "protocol"), SPOKEN, ids=name_of)
def test_every_protocol_has_a_text_of_its_own(front: fronts.Front, protocol: str) -> None:
    texts = {active(text(front, each)) for each in front.protocols}
    assert len(texts) == len(front.protocols)
    assert f": {protocol} to /" in text(front, protocol)


@pytest.mark.parametrize("front", FRONTS, ids=name_of)
def test_no_comments_leaves_only_the_comments_out(front: fronts.Front) -> None:
    output = KINDS[front.name].load()(SITE, Target(252, comments=False), distribution="debian")
    assert not re.search(r"(?m)^\s*#", output.files[0].text)
    assert output.files[0].text.split() == active(text(front)).split()


@pytest.mark.parametrize("front", [f for f in FRONTS if f.name != "cherokee"], ids=name_of)
def test_every_spoofable_field_is_dropped_or_set(front: fronts.Front) -> None:
    for protocol in front.protocols:
        config_text = active(text(front, protocol, mount="/app")).lower()
        for header in trust.FORGEABLE:
            first, _, rest = header.lower().partition("-")
            wildcard = f"-{first}-{rest.partition('-')[0]}*" if rest.count("-") else f"-{first}*"
            variable = f"http_{header.lower().replace('-', '_')} "
            assert re.search(
                "|".join(map(re.escape, (header.lower(), variable, wildcard, f"-{first}*"))),
                config_text,
            ), (protocol, header)


# Cherokee's HTTP proxy reaches no unix socket, and ASGI servers speak HTTP
BEFORE_ASGI = [front for front in FRONTS if "http" in front.protocols]


def for_server(front: fronts.Front, server: str, app: str = "", **options: object) -> str:
    site = Site("mysite", app=app, settings={"server": server})
    return active(config(front_request(front, site, distribution="debian", **options)))


@pytest.mark.parametrize("front", BEFORE_ASGI, ids=name_of)
def test_websockets_are_passed_where_the_application_may_be_asgi(front: fronts.Front) -> None:
    asgi = [
        ("uvicorn", ""),
        ("hypercorn", ""),
        ("daphne", "mysite.asgi:application"),
        ("gunicorn", "mysite.asgi:application"),
    ]
    wsgi = [("native", ""), ("gunicorn", ""), ("hypercorn", "mysite.wsgi:application")]
    for server, app in asgi:
        assert "websocket" in for_server(front, server, app).lower(), (server, app)
    for server, app in wsgi:
        assert "websocket" not in for_server(front, server, app).lower(), (server, app)


@pytest.mark.parametrize("front", BEFORE_ASGI, ids=name_of)
def test_a_websocket_may_be_silent_for_longer_than_a_request(front: fronts.Front) -> None:
    said = for_server(front, "uvicorn", timeout=61.0, websocket_timeout=7261.0)
    assert "61" in said
    # Caddy has no such limit
    assert ("7261" in said) == (front is not fronts.CADDY)


@pytest.mark.parametrize("front", [fronts.CADDY, fronts.HAPROXY], ids=name_of)
def test_no_upgrade_passes_where_the_front_would_let_any_pass(front: fronts.Front) -> None:
    """By h2c a client could send requests that the front does not see."""
    drop = {"caddy": "request_header -Upgrade\n", "haproxy": "del-header Upgrade\n"}[front.name]
    assert drop in active(text(front, "http"))
    assert drop in for_server(front, "hypercorn", "mysite.wsgi:application")


@pytest.mark.parametrize("front", [fronts.APACHE, fronts.LIGHTTPD], ids=name_of)
def test_mixed_spellings_are_dropped_where_the_server_would_take_them(front: fronts.Front) -> None:
    for mount in ("", "/app"):
        said = for_server(front, "uvicorn", mount=mount)
        for field in ("X-Forwarded_For", "X_Forwarded-For", "X-Script_Name", "X_Real-IP"):
            assert re.search(rf"\b{field}\b", said), (mount, field)
    assert "X-Forwarded_For" not in active(text(front, "http"))


def test_the_longest_url_comes_first() -> None:
    files = (options.files("/s=/srv/short"), options.files("/s/deep=/srv/deep"))
    for front in (f for f in FRONTS if f.static):
        config_text = text(front, static=files)
        assert config_text.index("/srv/deep") < config_text.index("/srv/short")


def test_apache_never_shares_a_backend_between_two_sockets() -> None:
    names = {
        re.search(
            r"://(mysite-\w+)", config(front_request(fronts.APACHE, Site("mysite", listen=(a,))))
        )
        for a in (parse_listen("/run/a.sock"), parse_listen("/run/b.sock"))
    }
    assert len({found[1] for found in names if found}) == 2


def test_the_cherokee_text_has_the_shape_that_was_tried() -> None:
    lines = active(text(fronts.CHEROKEE, "scgi", mount="/app", server_name=("a.test",)))
    pairs = dict(line.split(" = ", 1) for line in lines.splitlines() if line)
    rule = "vserver!20!rule!300!"
    assert pairs["source!20!host"] == "/run/mysite.sock"
    assert pairs[f"{rule}match"] == "directory"
    assert pairs[f"{rule}match!directory"] == "/app"
    assert pairs[f"{rule}handler"] == "scgi"
    assert pairs[f"{rule}handler!check_file"] == "0"
    assert pairs["vserver!20!match!domain!1"] == "a.test"
    root = active(text(fronts.CHEROKEE, "uwsgi"))
    assert "vserver!20!rule!1!match = default\n" in root
    assert "vserver!20!rule!1!handler!pass_wsgi_vars = 1" in root
    full = active(
        text(
            fronts.CHEROKEE,
            server_name=("a.test",),
            mount="/app",
            php="/run/php.sock",
            tls=options.tls("/c,/k"),
            auth_file="/etc/htpasswd",
            static=(options.files("/static=/srv/static"),),
        )
    )
    numbers = [int(n) for n in re.findall(r"rule!(\d+)!match = ", full)]
    assert numbers == [600, 500, 399, 300, 200, 1]  # the application before PHP
    assert all(re.fullmatch(r"[a-z_0-9!]+ = \S.*", line) for line in full.splitlines() if line)


# --- a balancer in front ----------------------------------------------------------------------

BALANCERS = tuple(map(options.behind, ("192.0.2.1", "2001:db8::/32")))


@pytest.mark.parametrize("front", [f for f in FRONTS if "http" not in f.not_behind], ids=name_of)
def test_nobody_is_believed_unless_named(front: fronts.Front) -> None:
    believing = ("realip", "real_ip", "RemoteIP", "extforward", "remote_ip", "set-src", "CONN_REM")
    for protocol in front.protocols:
        assert not [word for word in believing if word in text(front, protocol)]
        if (front.name, protocol) != ("lighttpd", "http"):
            told = text(front, protocol, behind=BALANCERS)
            assert [word for word in believing if word in told]
            assert "192.0.2.1" in told
            assert "2001:db8::/32" in told


@pytest.mark.parametrize("front", [fronts.NGINX, fronts.APACHE, fronts.CADDY, fronts.HAPROXY])
def test_the_host_is_a_balancers_only_where_the_field_is_named(front: fronts.Front) -> None:
    def reads(field: str) -> bool:
        site = Site("mysite", settings={"trust_headers": field} if field else {})
        asked = front_request(front, site, behind=BALANCERS, distribution="debian")
        written = config(asked)
        reading = ("$http_x_forwarded_host", "y('X-Forwarded-Host", "{header.X-Forwarded-Host")
        return any(word in written for word in (*reading, "req.hdr(x-forwarded-host"))

    assert not reads("")
    assert not reads("X-Forwarded-Port")
    assert reads("X-Forwarded-Host")


# --- limits and buffers -----------------------------------------------------------------------


def test_one_option_streams_in_front_and_service(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["gen", "mysite", "--kind", "all", "--app", "a:b", "--chdir", "/srv", "--front", "nginx"]
    argv += ["--distribution", "debian", "--stream", "/app/events", "--stream", "/up"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert "SDACTIVATE_STREAM=/app/events /up" in out
    for path in ("/app/events", "/up"):
        for location in (f"= {path}", f"^~ {path}/"):
            _, _, rest = out.partition(f"location {location} {{\n")
            block = rest.partition("}")[0]
            assert "fastcgi_request_buffering off;" in block
            assert "fastcgi_buffering off;" in block
    assert out.count("buffering off;") == 8
    assert "--stream" not in err


def test_everything_is_streamed_below_the_root() -> None:
    site = Site("mysite", settings={"stream": "/"})
    nginx = active(config(front_request(fronts.NGINX, site)))
    assert nginx.count("buffering off;") == 2
    assert "server.stream-request-body = 1" in config(front_request(fronts.LIGHTTPD, site))
    assert "buffering off;" not in active(text(fronts.NGINX))


def test_another_server_streams_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["gen", "mysite", "--kind", "service", "--app", "a:b", "--chdir", "/srv"]
    assert main([*argv, "--server", "gunicorn", "--stream", "/events"]) == 0
    assert "/events" not in capsys.readouterr().out


@pytest.mark.parametrize("front", [f for f in FRONTS if f.name != "cherokee"], ids=name_of)
def test_the_limit_of_a_body_is_the_services(front: fronts.Front) -> None:
    site = Site("mysite", settings={"body_bytes": "3M"})
    limit = 3072 if front.name == "lighttpd" else 3 << 20
    assert f" {limit}" in config(front_request(front, site, distribution="debian"))
    own = config(front_request(front, site, distribution="debian", max_body=1 << 20))
    assert f" {limit}" not in own


# --- htpasswd -------------------------------------------------------------------------------

BCRYPT = "$2y$04$0ke5X79Muv7S/GPKs4.I9Ok22Yg1YkSlBSKpqVglIOsPPlLQt4qmS"


@pytest.mark.parametrize("front", [fronts.CADDY, fronts.HAPROXY], ids=name_of)
def test_the_lines_are_copied_where_the_front_reads_no_file(
    front: fronts.Front, tmp_path: Path
) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(f"# who\nalice:{BCRYPT}\n\nbob:{BCRYPT}\n")
    config_text = text(front, auth_file=str(path))
    assert re.search(rf"alice (password )?{re.escape(BCRYPT)}", config_text)
    assert re.search(rf"bob (password )?{re.escape(BCRYPT)}", config_text)
    output = KINDS[front.name].load()(SITE, Target(252), distribution="debian", auth_file=str(path))
    assert output.files[0].mode == 0o640


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the file has no users"),
        ("alice\n", "line 1 is not USER:HASH"),
        (f"alice:{BCRYPT}\nb o b:{BCRYPT}\n", "line 2 is not USER:HASH"),
        (f"alice:{BCRYPT} }} evil\n", "line 1 is not USER:HASH"),
        ("alice:$apr1$x$y\n", "htpasswd -B"),
    ],
)
def test_an_htpasswd_file_that_cannot_be_copied_is_an_error(
    content: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "htpasswd"
    path.write_text(content)
    with pytest.raises(Error, match=re.escape(said)):
        text(fronts.CADDY, auth_file=str(path))


# --- nothing gets out of its place ----------------------------------------------------------

ALLOWED = re.compile(r"[A-Za-z0-9._~+@:=,/-]*")


@pytest.mark.parametrize("option", options.FRONT, ids=lambda option: option.name)
@given(value=HOSTILE | st.builds("/{}".format, HOSTILE) | st.builds("/a=/{}".format, HOSTILE))
def test_no_value_has_a_character_that_means_something_to_a_front(
    option: Option, value: str
) -> None:
    try:
        meant = option.parse(value, "--x")
    except UsageError:
        return
    for part in meant if isinstance(meant, tuple) else (meant,):
        assert isinstance(part, int | float) or ALLOWED.fullmatch(part)


@pytest.mark.parametrize("name", ["my.site", "my-site_2", r"a\x2db"])
def test_a_units_odd_name_stays_a_word_in_every_front(name: str) -> None:
    for front in FRONTS:
        asked = front_request(front, Site(name, listen=(parse_listen("/var/lib/haproxy/a"),)))
        assert re.fullmatch("[A-Za-z0-9._-]+", asked.name)


# --- files ----------------------------------------------------------------------------------

STATIC = (options.Files("/static/", "/srv/s/"),)
MEDIA = (options.Files("/media/", "/srv/m/"),)
PROTECTED = (options.Files("/protected/", "/srv/p/"),)
SERVING = [front for front in FRONTS if front.static]
LETTING_OUT = [
    (front, protocol)
    for front, protocol in SPOKEN
    if front.lets_out and protocol not in front.not_let_out
]


@pytest.mark.parametrize("front", SERVING, ids=name_of)
def test_how_long_files_are_kept(front: fronts.Front) -> None:
    """One table for all; where everybody has to log in, no shared cache keeps a file."""
    open_to_all = text(front, static=STATIC)
    assert "300" in open_to_all
    if front.name == "cherokee":
        return
    assert "31536000" in open_to_all
    if front.name in ("nginx", "apache"):
        assert "public, max-age=31536000, immutable" in open_to_all
        login = text(front, static=STATIC, media=MEDIA, auth_file="/etc/htpasswd")
        assert "private, max-age=31536000, immutable" in login
        assert "public" not in login
        assert login.count("private, max-age=300") == 2


@pytest.mark.parametrize("protocol", fronts.NGINX.protocols)
def test_no_location_of_nginx_cancels_what_the_server_adds(protocol: str) -> None:
    """One add_header, or one *_param or proxy_set_header, cancels all those around it."""
    configured = text(
        fronts.NGINX, protocol, static=STATIC, media=MEDIA, protected=PROTECTED, mount="/app"
    )
    for location in re.findall(r"(?ms)^    location [^{]*\{(.*?)^    \}", active(configured)):
        assert not re.search(r"add_header|_param|proxy_set_header", location)


@pytest.mark.parametrize(("front", "protocol"), LETTING_OUT, ids=name_of)
def test_protected_files_are_not_asked_for_directly(front: fronts.Front, protocol: str) -> None:
    lines = text(front, protocol, protected=PROTECTED)
    closed = {
        "nginx": "location ^~ /protected/ {\n        internal;",
        "apache": "<If \"reqenv('REDIRECT_LET_OUT') != 'yes'\">\n            Redirect 404",
        "lighttpd": '$HTTP["url"] =~ "^/protected/" {\n        url.access-deny = ( "" )',
        "caddy": "handle /protected/* {\n\t\terror 404",
    }
    assert closed[front.name] in lines
    assert "/srv/p" in lines
    assert "protected" not in text(front, protocol)


@pytest.mark.parametrize("front", SERVING, ids=name_of)
def test_nothing_new_without_files(front: fronts.Front) -> None:
    for protocol in front.protocols:
        lines = active(text(front, protocol)).lower()
        assert not re.search(r"cache-control|expire|gzip|rewriteengine|sendfile\" =>", lines)
