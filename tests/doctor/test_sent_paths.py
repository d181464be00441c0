"""Which path a front passes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.doctor.sent_paths import sent_paths
from sdactivate.front_upstreams import Upstream

PORT = Upstream("", 0, "", 8000)


def nginx(inside: str, how: str = "/app/") -> str:
    return f"server {{ location {how} {{ {inside} }} }}"


@pytest.mark.parametrize(
    ("front", "text", "path", "sent"),
    [
        ("nginx", nginx("proxy_pass http://127.0.0.1:8000;"), "/app/x", []),
        ("nginx", nginx("proxy_pass http://127.0.0.1:8000/;"), "/app/x", ["/x"]),
        ("nginx", nginx("proxy_pass http://unix:/run/a.sock:/b/;"), "/app/x", ["/b/x"]),
        ("nginx", nginx("proxy_pass http://unix:/run/a.sock;"), "/app/x", []),
        ("nginx", nginx("proxy_pass http://127.0.0.1:8000/;", "/app"), "/app/x", ["//x"]),
        ("nginx", nginx("proxy_pass http://127.0.0.1:8000/;", "~ ^/app"), "/app/x", []),
        ("nginx", nginx("uwsgi_pass 127.0.0.1:8000;"), "/app//x//", ["/app/x/"]),
        ("nginx", nginx("uwsgi_pass a;") + "merge_slashes off;", "/app//x", []),
        ("apache", "ProxyPass /app http://127.0.0.1:8000/app", "/app/x", ["/app/x"]),
        ("apache", "ProxyPass / http://127.0.0.1:8000", "/app", ["app"]),
        ("apache", "ProxyPass /app http://127.0.0.1:9000/", "/app/x", []),
        ("apache", "<Location /app>\n ProxyPass http://a:8000\n</Location>", "/app/x", ["/x"]),
        ("apache", "<Location /app>\n</Location>\nProxyPass http://a:8000", "/app/x", []),
        ("apache", "ProxyPass /app unix:/run/a.sock|http://a/b", "/app/x", []),
        ("caddy", "handle_path /app/* {\n reverse_proxy :8000\n}", "/app/x", ["/x"]),
        ("caddy", "uri strip_prefix /app", "/app/x", ["/x"]),
        ("caddy", "uri strip_prefix /app", "/apps", []),
        ("lighttpd", "", "/app", []),
    ],
)
def test_the_path_that_is_sent(front: str, text: str, path: str, sent: list[str]) -> None:
    assert [new for new, _ in sent_paths(front, text, PORT, path)] == sent


@given(
    st.sampled_from(["nginx", "apache", "caddy"]),
    st.text(max_size=80),
    st.text("/ab.%", min_size=1, max_size=9),
)
def test_any_text_is_read(front: str, text: str, path: str) -> None:
    list(sent_paths(front, text, PORT, path))
    list(sent_paths(front, f"<Location />\nProxyPass http://a:8000{text}\n", PORT, path))
