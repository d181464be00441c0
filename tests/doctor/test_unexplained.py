"""Lines of fronts' logs: what they mean, whose they are, and what strangers can cause."""

import string
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.doctor.checks import unexplained
from sdactivate.front_upstreams import Upstream

_NGINX = (
    '2026/11/30 09:00:00 [error] 7#7: *1 {}, client: ::1, server: a, request: "GET {} HTTP/1.1"'
)
_APACHE = "[Mon Nov 30 09:00:00.1 2026] [{}:error] [pid 7:tid 7] [client ::1:5] {}"
_CADDY = '{{"level":"error","logger":"http.log.error","msg":"{}","request":{{"host":"a:80"}}}}'


def nginx(text: str, path: str = "/page", upstream: str = "") -> str:
    line = _NGINX.format(text, path)
    return f'{line}, upstream: "{upstream}", host: "a"' if upstream else f'{line}, host: "a"'


def way(front: str, path: str = "", port: int = 8000) -> Any:
    installed = SimpleNamespace(
        user="www-data", packaging=SimpleNamespace(log_command="tail /var/log/error.log")
    )
    upstream = Upstream("", 0, path, port)
    return SimpleNamespace(
        front=front, place="/etc/a, line 7", unit="a.service", installed=installed,
        upstream=upstream, names=("a",),
    )  # fmt: skip


MEANT = [
    ("nginx", nginx("upstream prematurely closed connection while reading response header from "
                    "upstream"), "without a response", "journalctl -u a.service"),
    ("nginx", nginx("recv() failed (104: Connection reset by peer) while reading response header "
                    "from upstream"), "without a response", "journalctl -u a.service"),
    ("nginx", nginx('rewrite or internal redirection cycle while redirect to named location "@x"'),
     "leads to @x", "end try_files"),
    ("nginx", nginx('connect() failed (111: Connection refused) while connecting to upstream',
                    upstream="http://127.0.0.1:9000/page"), "can't connect to 127.0.0.1:9000",
     "start what should listen there"),
    ("nginx", nginx('open() "/var/lib/nginx/body/0001" failed (13: Permission denied)'),
     "www-data may not open /var/lib/nginx/body/0001", "namei -l /var/lib/nginx/body/0001"),
    ("nginx", nginx('open() "/srv/{x}/a" failed (28: No space left on device)'), "is full",
     "df -h"),
    ("nginx", nginx("something new"), "", "tail /var/log/error.log"),
    ("apache", _APACHE.format("core", "AH00124: Request exceeded the limit of 10 internal "
                              "redirects"), "leads to itself", "%{REQUEST_URI}"),
    ("apache", _APACHE.format("core", "AH00037: Symbolic link not allowed or link target not "
                              "accessible: /a/b"), "may not follow", "FollowSymLinks"),
    ("apache", _APACHE.format("proxy", "AH00898: Error reading from remote server returned by /"),
     "without a response", "journalctl"),
    ("caddy", _CADDY.format("EOF"), "without a response", "journalctl"),
    ("caddy", _CADDY.format("dial tcp: lookup db.internal: no such host"), "db.internal",
     "correct"),
]  # fmt: skip


@pytest.mark.parametrize(("front", "line", "means", "fix"), MEANT)
def test_what_a_line_means(front: str, line: str, means: str, fix: str) -> None:
    assert unexplained._LEVEL[front].search(line)
    said = unexplained._Said(unexplained._text(front, line), line)
    assert not unexplained._is_strangers(front, said)
    found = unexplained._meaning(way(front), said)
    assert means in found[0]
    assert fix in found[1]


@pytest.mark.parametrize(
    ("front", "line"),
    [
        ("nginx", nginx("client sent invalid request while reading client request line")),
        ("nginx", nginx("access forbidden by rule")),
        ("nginx", nginx('user "admin" was not found in "/etc/htpasswd"')),
        ("nginx", nginx('directory index of "/srv/static/" is forbidden')),
        ("nginx", nginx("limiting requests, excess: 5.1 by zone")),
        ("nginx", nginx('open() "/srv/favicon.ico" failed (2: No such file or directory)')),
        ("nginx", "2026/11/30 09:00:00 [crit] 7#7: *1 SSL_do_handshake() failed (SSL: error:1) "
                  "while SSL handshaking, client: ::1, server: 0.0.0.0:443"),
        ("apache", _APACHE.format("core", "AH00126: Invalid URI in request GET /%ff")),
        ("apache", _APACHE.format("auth_basic", "AH01618: user admin not found: /")),
        ("apache", _APACHE.format("authz_core", "AH01630: client denied by server configuration: "
                                  "/var/www/html/.htaccess")),
        ("apache", _APACHE.format("authz_core", "AH01630: client denied by server configuration: "
                                  "proxy:http://127.0.0.1:8000/admin/")),
        ("apache", _APACHE.format("proxy", "AH01095: prefetch request body failed to 127.0.0.1")),
        ("nginx", nginx('"/srv/static/a/index.html" is not found (2: No such file or directory)')),
        ("nginx", nginx("ModSecurity: Access denied with code 403")),
        ("caddy", _CADDY.format("aborting with incomplete response")),
    ],
)  # fmt: skip
def test_what_strangers_cause(front: str, line: str) -> None:
    said = unexplained._Said(unexplained._text(front, line), line)
    assert unexplained._is_strangers(front, said)


@pytest.mark.parametrize(
    ("front", "line"),
    [
        ("nginx", nginx("something new") + ', referrer: "(28: No space left on device)"'),
        ("nginx", nginx("something new", "/(28: No space left on device)")),
        ("apache", _APACHE.format("core", "AH09999: something new, referer: AH00124: Request "
                                  "exceeded the limit of 10 internal redirects")),
    ],
)  # fmt: skip
def test_what_a_client_sends_has_no_meaning(front: str, line: str) -> None:
    said = unexplained._Said(unexplained._text(front, line), line)
    assert not unexplained._is_strangers(front, said)
    assert unexplained._meaning(way(front), said)[0] == ""


@pytest.mark.parametrize(
    ("line", "skipped"),
    [
        (nginx('open() "/srv/static/a.css" failed (2: x)', "/static/a.css?v=1"), True),
        (nginx('open() "/var/www/html/login" failed (2: x)', "/login"), True),
        (nginx('open() "/srv/my image.png" failed (2: x)', "/my%20image.png"), True),
        (nginx('open() "/srv/static/a.css" failed (20: x)', "/static/a.css/"), True),
        (nginx('open() "/srv/aaa" failed (36: File name too long)', "/aaa"), True),
        (nginx('open() "/etc/htpasswd" failed (2: x)', "/"), False),
        (nginx('open() "/etc/htpasswd" failed (2: x)', "/login"), False),
        (nginx('open() "/srv/a.css" failed (13: x)', "/a.css"), False),
    ],
)
def test_a_file_that_a_client_asks_for_may_be_a_strangers(line: str, skipped: bool) -> None:
    assert unexplained._is_asked_for(line) == skipped


@pytest.mark.parametrize("made", [False, True])
def test_a_file_that_was_made_since(tmp_path: Any, made: bool) -> None:
    file = tmp_path / "htpasswd"
    if made:
        file.touch()
    apache = f"(2)No such file or directory: [client ::1:5] AH01620: Could not open: {file}"
    for line in (nginx(f'open() "{file}" failed (2: x)'), apache):
        assert unexplained._is_there_now(line) == made


@pytest.mark.parametrize(
    ("line", "own"),
    [
        (nginx("connect() failed (111: x)", upstream="http://127.0.0.1:8000/"), True),
        (nginx("connect() failed (111: x)", upstream="http://127.0.0.1:9000/"), False),
        (nginx("recv() failed (104: x)", upstream="http://127.0.0.1:8000/"), False),
        ("AH00957: HTTP: attempt to connect to 127.0.0.1:8000 (127.0.0.1:8000) failed", True),
        ("AH00957: HTTP: attempt to connect to 127.0.0.1:80001 (*) failed", False),
    ],
)
def test_the_site_s_own_socket_is_another_rule_s(line: str, own: bool) -> None:
    assert unexplained._is_own_connect([way("nginx")], line) == own


def test_lines_of_one_shape_are_one_finding() -> None:
    said = [
        unexplained._Said(unexplained._text("nginx", line), line)
        for line in (nginx('open() "/a/1" failed (13: x)'), nginx('open() "/b/22" failed (13: x)'))
    ]
    assert said[0].text == 'open() "/a/1" failed (13: x)'
    assert said[0].shape == said[1].shape


@given(
    st.sampled_from(sorted(unexplained.ROWS)),
    st.text(string.printable, max_size=60),
    st.sampled_from([line for _, line, _, _ in MEANT]),
    st.integers(0, 200),
)
def test_any_line_is_read(front: str, noise: str, line: str, at: int) -> None:
    text = line[:at] + noise + line[at:]
    said = unexplained._Said(unexplained._text(front, text), text)
    means, fix = unexplained._meaning(way(front), said)
    assert isinstance(means, str)
    assert fix
    assert isinstance(said.shape, str)
    unexplained._is_strangers(front, said)
    unexplained._is_own_connect([way(front)], text)
    unexplained._is_asked_for(text)
    unexplained._is_there_now(text)
