"""Which location of nginx's a request gets to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.doctor.nginx_locations import location, locations

SERVER = r"""server {
    listen 80;
    location = / { return 200; }
    location / { proxy_pass http://a; }
    location /static/ { alias /srv/static/; }
    location ^~ /media/ { root /srv; }
    location ~* \.(png|jpg)$ { expires max; }
    location ~ ^/api/v\d { if ($x) { return 403; } uwsgi_pass a; }
    location @site { proxy_pass http://b; }
}
"""


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "location = /"),
        ("/page", "location /"),
        ("/static/a.css", "location /static/"),
        ("/static/a.PNG", r"location ~* \.(png|jpg)$"),
        ("/media/a.png", "location ^~ /media/"),
        ("/api/v1/x", r"location ~ ^/api/v\d"),
        ("/API/v1/x", "location /"),
    ],
)
def test_the_location_of_a_path(path: str, name: str) -> None:
    found = location(SERVER, path)
    assert found
    assert found.name == name
    assert SERVER[found.start :].startswith(name)
    assert found.text.startswith(name)
    assert found.text.endswith("}")


def test_no_location_and_one_that_python_cannot_read() -> None:
    assert location("server { listen 80; }", "/") is None
    found = location("server { location ~ [ { return 403; } location / { root /a; } }", "/")
    assert found
    assert found.what == "/"


@given(st.text("server{} location/=~*^;\"'#\n\\", max_size=80), st.text("/ab.%", max_size=9))
def test_any_text_is_read(text: str, path: str) -> None:
    assert all(text[it.start :].startswith(it.text) for it in locations(text))
    location(text, path)
