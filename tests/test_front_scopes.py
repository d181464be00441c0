"""Which directives of nginx's hold at a place: the innermost block's that has any of that name."""

import pytest

from sdactivate.front_scopes import at, innermost

TEXT = """
server {
    listen 80;  # proxy_set_header Host none;
    proxy_set_header Host $host;
    client_max_body_size 5m;
    include shared;
    location /plain/ { proxy_pass http://a; }
    location /own/ {
        proxy_set_header X-Real-IP "$remote_addr";
        if ($request_method = POST) { set $x "}"; }
        proxy_pass http://b;
    }
    location / { client_max_body_size 1g; proxy_pass http://c/${uri}; }
}
"""
FILES = {"shared": "proxy_buffering off;\ninclude more; types { a b; }\n", "more": "expires 1d;"}


def held(place: str, name: str) -> list[tuple[str, ...]]:
    blocks = at(TEXT, TEXT.index(place), lambda it: FILES.get(it, ""))
    return [it.words[1:] for it in innermost(blocks, name)]


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        ("proxy_pass http://a", "proxy_set_header", [("Host", "$host")]),
        ("proxy_pass http://b", "proxy_set_header", [("X-Real-IP", "$remote_addr")]),
        ("proxy_pass http://c", "proxy_set_header", [("Host", "$host")]),
        ("proxy_pass http://a", "client_max_body_size", [("5m",)]),
        ("proxy_pass http://c", "client_max_body_size", [("1g",)]),
        ("proxy_pass http://b", "proxy_buffering", [("off",)]),
        ("proxy_pass http://b", "expires", [("1d",)]),
        ("proxy_pass http://a", "a", []),
        ("proxy_pass http://a", "nothing", []),
    ],
)
def test_what_holds(place: str, name: str, expected: list[tuple[str, ...]]) -> None:
    assert held(place, name) == expected


@pytest.mark.parametrize("text", ["", "}", "{{{", "a {", "}}}} a;", 'a "b', "include shared;"])
def test_any_text_may_be_given(text: str) -> None:
    assert at(text, 0, lambda _: "include again;")[0].words == ()
