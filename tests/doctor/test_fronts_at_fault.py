"""What fronts log and are told, and what applications know of them: the patterns of their rules."""

import pytest

from sdactivate.doctor import advice
from sdactivate.doctor.checks import front_headers, front_health, front_logs, prefixes
from sdactivate.front_upstreams import haproxy_sections


@pytest.mark.parametrize(
    ("text", "knows"),
    [
        ('environ["SCRIPT_NAME"] = "/shop"', True),
        ("app = FastAPI(root_path='/shop')", True),
        ("app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)", True),
        ('app.config["APPLICATION_ROOT"] = "/shop"', True),
        ('root = environ["SCRIPT_NAME"]', False),
        ('if environ["SCRIPT_NAME"] == "/shop":', False),
        ("app = Flask(__name__)", False),
    ],
)
def test_a_module_that_sets_its_prefix_knows_it(text: str, knows: bool) -> None:
    assert bool(prefixes._KNOWS.search(text)) is knows


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('request.headers["api_key"]', "api_key"),
        ('request.headers.get("access_token")', "access_token"),
        ('dict(scope["headers"]).get(b"remote_user")', "remote_user"),
        ('APIKeyHeader(name="secret_key")', "secret_key"),
        ('request.headers["api-key"]', None),
        ('request.headers["Authorization"]', None),
        ('headers = {"x": 1}\nname = "a_b"', None),
    ],
)
def test_names_of_fields_with_underscores(text: str, name: str | None) -> None:
    found = front_headers._READS.search(text)
    assert (found["name"] if found else None) == name


LINES = {
    "apache": (
        "[proxy_http:error] [pid 220] (70007)The timeout specified has expired: [client ::1:47356] "
        "AH01102: error reading status line from remote server 127.0.0.1:8000",
        "[proxy_http:warn] (28)No space left on device: [client ::1:41014] AH10124: header size is "
        "over the limit allowed by ResponseFieldSize (8192 bytes). Bad response header: 'a'",
    ),
    "haproxy": (
        "127.0.0.1:37618 [29/Nov/2026:22:49:44.000] web wiki/wiki 0/0/0/-1/1002 504 198 - - sH-- "
        '1/1/0/0/0 0/0 "GET / HTTP/1.1"',
        "127.0.0.1:42064 [29/Nov/2026:22:50:15.294] web wiki/wiki 0/0/0/-1/1 502 209 - - PH-- "
        '1/1/0/0/0 0/0 "GET / HTTP/1.1"',
    ),
    "lighttpd": (
        "(gw_backend.c.2708) read timeout on socket: tcp:127.0.0.1:8000 (fd: 11)",
        "(http-header-glue.c.1128) response headers too large for /",
        "(response.c.377) request-size too long: 2000000 -> 413",
    ),
    "caddy": (
        '"logger":"http.log.error","msg":"net/http: timeout awaiting response headers","request":',
        'requestbody.go:63): HTTP 413: http: request body too large","request":{"headers":'
        '{"Content-Length":["2000000"]}}',
    ),
}


@pytest.mark.parametrize(("front", "line"), [(k, it) for k, all_ in LINES.items() for it in all_])
def test_each_line_of_a_front_has_one_row(front: str, line: str) -> None:
    rows = (*front_logs.GIVEN_UP, *front_logs.REFUSED)
    (row,) = (it for it in rows if it.pattern.search(line))
    assert row.front == front


def test_the_sections_of_haproxy() -> None:
    text = "global\n  daemon\ndefaults\n  mode http\nfrontend web\n  bind *:80\nbackend a # b\n  x"
    found = haproxy_sections({"f": text})
    assert [(it.kind, it.name) for it in found] == [
        ("global", ""),
        ("defaults", ""),
        ("frontend", "web"),
        ("backend", "a"),
    ]
    assert found[2].text == "frontend web\n  bind *:80"


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        (
            '[emerg] cannot load certificate "/etc/a.pem": BIO_new_file() failed (SSL: error:'
            "80000002:system library::No such file or directory)",
            "create the certificate at /etc/a.pem",
        ),
        ("[emerg] invalid URL prefix in /etc/nginx/a:7", "in /etc/nginx/a, line 7"),
        ("[ALERT] config : parsing [/etc/haproxy/haproxy.cfg:20] : unknown keyword 'a'", ""),
    ],
)
def test_what_a_front_s_check_says_is_known(reason: str, fix: str) -> None:
    assert front_health._REASONS.search(reason)
    assert fix in front_health._fix(reason, str)


@pytest.mark.parametrize(
    ("reason", "port"),
    [
        ("[emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)", "80"),
        ("[emerg] bind() to [::]:8080 failed (98: Address already in use)", "8080"),
        ("(98)Address already in use: AH00072: make_sock: could not bind to address [::]:80", "80"),
        ("Starting frontend web: cannot bind socket (Address already in use) [0.0.0.0:443]", "443"),
        ("http app module: start: listen tcp :80: bind: address already in use", "80"),
        ("bind() to unix:/run/a.sock failed (98: Address already in use)", ""),
        ("open() /etc/a:80 failed", ""),
    ],
)
def test_which_port_another_program_has(reason: str, port: str) -> None:
    assert front_health._fix(reason, str) == port


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("ModuleNotFoundError: No module named '/srv/shop/app'", "MODULE:NAME"),
        ("ModuleNotFoundError: No module named 'shop.app'", "install the package"),
        ("[Errno 99] Cannot assign requested address", "network-online.target"),
        ('unable to load plugin "python3"', "built in"),
        ("uwsgi: unrecognized option '--wsgi-file'", "uwsgi-plugin-python3"),
    ],
)
def test_a_server_s_last_words_have_a_fix(said: str, fix: str) -> None:
    assert fix in str(advice.fix(said))
