"""What fronts send, as the application gets it. Every case was seen with the front it names."""

from typing import Any

import pytest

from sdactivate import fronts
from sdactivate.servers.native import cgi, forwarded
from sdactivate.servers.native.wire.http import FORWARDED

BASE = {
    "CONTENT_LENGTH": "",
    "PATH_INFO": "",
    "QUERY_STRING": "",
    "SCRIPT_NAME": "",
    "SERVER_NAME": "localhost",
    "wsgi.url_scheme": "http",
}


def cgi_environ(**variables: str) -> dict[str, Any]:
    return cgi.environ({"REQUEST_METHOD": "GET", **variables}, BASE)


def test_the_server_and_the_fronts_agree_on_what_a_client_may_not_say() -> None:
    dropped = {f"HTTP_{name.upper().replace('-', '_')}" for name in fronts.SPOOFABLE}
    assert dropped == FORWARDED | {"HTTP_PROXY"}


@pytest.mark.parametrize("name", fronts.SPOOFABLE)
def test_a_spoofable_variable_is_dropped(name: str) -> None:
    variable = f"HTTP_{name.upper().replace('-', '_')}"
    assert variable not in cgi_environ(PATH_INFO="/", **{variable: "evil"})


@pytest.mark.parametrize(
    ("front", "sent", "name", "value"),
    [
        ("nginx", {"CONTENT_LENGTH": ""}, "CONTENT_LENGTH", None),
        ("Caddy, chunked", {"CONTENT_LENGTH": "-1"}, "CONTENT_LENGTH", None),
        ("Cherokee", {"HTTPS": "off"}, "HTTPS", None),
        ("Cherokee", {"HTTPS": "off"}, "wsgi.url_scheme", "http"),
        ("nginx", {"HTTPS": "on"}, "wsgi.url_scheme", "https"),
        ("HAProxy at the root", {"PATH_INFO": "/a"}, "SCRIPT_NAME", ""),
        ("lighttpd, exactly the prefix", {"SCRIPT_NAME": "/app"}, "PATH_INFO", ""),
        ("HAProxy", {"SERVER_NAME": "a.test:80"}, "SERVER_NAME", "a.test"),
        ("HAProxy", {"SERVER_NAME": "[::1]:80"}, "SERVER_NAME", "[::1]"),
        ("nginx", {"SERVER_NAME": "[::1]"}, "SERVER_NAME", "[::1]"),
        ("lighttpd", {"HTTP_CONTENT_LENGTH": "7"}, "HTTP_CONTENT_LENGTH", None),
    ],
)
def test_one_environ_comes_of_it(
    front: str, sent: dict[str, str], name: str, value: str | None
) -> None:
    assert cgi_environ(**sent).get(name) == value


def http_environ(remote_user: bool = False, **found: str) -> dict[str, Any]:
    environ = {**BASE, "PATH_INFO": "/app/x", "HTTP_HOST": "a.test:8080"}
    forwarded.apply(environ, found, remote_user)
    return environ


def test_over_http_the_server_is_called_what_the_client_called_it() -> None:
    assert http_environ(HTTP_X_FORWARDED_PROTO="https")["SERVER_NAME"] == "a.test"
    assert http_environ(HTTP_X_FORWARDED_HOST="b.test")["SERVER_NAME"] == "b.test"


def test_a_user_is_believed_only_where_the_setting_says_that_the_front_sets_it() -> None:
    assert "REMOTE_USER" not in http_environ(HTTP_REMOTE_USER="alice")
    assert http_environ(remote_user=True, HTTP_REMOTE_USER="alice")["REMOTE_USER"] == "alice"
    assert "REMOTE_USER" not in http_environ(remote_user=True, HTTP_REMOTE_USER="")


def test_the_mount_is_cut_off_the_path() -> None:
    environ = http_environ(HTTP_X_SCRIPT_NAME="/app")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")
