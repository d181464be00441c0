"""Paths that Apache joins, and what the front's access log says of them."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdactivate.doctor.checks import access_logs, front_paths
from sdactivate.front_upstreams import Upstream


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ProxyPass / http://localhost:9000", ("/", "")),
        ("ProxyPass / http://localhost:9000/", None),
        ("ProxyPass /app http://127.0.0.1:9000/", ("/app", "/")),
        ("ProxyPass /app/ http://127.0.0.1:9000/", None),
        ("ProxyPass /app http://127.0.0.1:9000", None),
        ("ProxyPass /app/ http://127.0.0.1:9000", ("/app/", "")),
        ('ProxyPass "/app/" "http://127.0.0.1:9000/app" timeout=3', ("/app/", "/app")),
        ("ProxyPass /static !", None),
        ("# ProxyPass / http://localhost:9000", None),
        ("ProxyPass / http://localhost:9001", None),
        ("ProxyPass / unix:/run/a.sock|http://localhost", None),
    ],
)
def test_what_apache_joins(line: str, found: tuple[str, str] | None) -> None:
    way: Any = SimpleNamespace(
        text=f"<VirtualHost *:80>\n    {line}\n</VirtualHost>\n",
        upstream=Upstream("a", 1, "", 9000),
        protocol="http",
        first=4,
    )
    hits = list(front_paths._by_apache(way))
    assert [(prefix, path) for prefix, _, path, _ in hits] == ([found] if found else [])
    assert all(line == 5 for *_, line in hits)


def test_what_a_front_has_answered(tmp_path: Path) -> None:
    now = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    log = tmp_path / "site_access.log"
    log.write_text(
        f'1.2.3.4 - - [{now}] "GET /a/b?c=d HTTP/1.1" 404 1 "-" "x"\n'
        f'1.2.3.4 - - [{now}] "HEAD /c HTTP/1.1" 200 1 "-" "x"\n'
        f'1.2.3.4 - - [{now}] "POST /d HTTP/1.1" 404 1 "-" "x"\n'
        '1.2.3.4 - - [01/Jan/2001:00:00:00 +0000] "GET /old HTTP/1.1" 404 1 "-" "x"\n'
        '1.2.3.4 - - [no time] "GET /e HTTP/1.1" 404 1 "-" "x"\n'
    )
    found = access_logs.read_access_logs([str(log), str(tmp_path / "none")])
    assert [(it.path, it.status) for it in found] == [("/a/b", 404), ("/c", 200)]
