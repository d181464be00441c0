"""A service is told what its generated front says of clients, and on TCP whom to believe."""

import json
import re
from pathlib import Path

import pytest

from sdactivate.cli import main

APP = ["--app", "mysite.wsgi:application", "--python", "/usr/bin/python3"]
LOGIN = ["--auth-file", "/etc/mysite.htpasswd"]
MOUNT = ["--mount", "/app"]
TOLD = ("TRUST_HEADERS", "REMOTE_USER")


def generated(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[str, str]:
    """What gen prints, and what it warns of."""
    assert main(["gen", "mysite", "--distribution", "debian", *argv]) == 0
    found = capsys.readouterr()
    return found.out, found.err


def told(text: str) -> dict[str, str]:
    """The settings in a unit."""
    return dict(re.findall(r'(?m)^Environment="?SDACTIVATE_(\w+)=([^"\n]*)"?$', text))


@pytest.mark.parametrize(
    ("front", "options", "settings"),
    [
        ("caddy", MOUNT, {"TRUST_HEADERS": "X-Script-Name"}),
        ("haproxy", [*MOUNT, *LOGIN], {"TRUST_HEADERS": "X-Script-Name", "REMOTE_USER": "yes"}),
        ("caddy", [*LOGIN, "--remote-user", "no"], {"REMOTE_USER": "no"}),
        ("caddy", [], {}),
        ("caddy", [*MOUNT, "--protocol", "fastcgi"], {}),
        ("nginx", [*MOUNT, *LOGIN], {}),
        ("nginx", [*MOUNT, "--protocol", "http"], {"TRUST_HEADERS": "X-Script-Name"}),
        (
            "apache",
            [*MOUNT, "--protocol", "http", "--trust-headers", "x-forwarded-host"],
            {"TRUST_HEADERS": "X-Forwarded-Host X-Script-Name"},
        ),
        ("caddy", [*MOUNT, "--server", "waitress"], {}),
    ],
)
def test_a_service_is_told_what_its_front_says(
    capsys: pytest.CaptureFixture[str],
    front: str,
    options: list[str],
    settings: dict[str, str],
) -> None:
    """Over HTTP: the other protocols have variables for it."""
    text, said = generated(capsys, "--kind", "service", *APP, "--front", front, *options)
    found = {name: value for name, value in told(text).items() if name in TOLD}
    assert found == settings
    assert "does not use it" not in said


def test_a_front_that_is_not_named_has_to_be_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = generated(capsys, "--kind", "caddy", *MOUNT)
    assert "--trust-headers X-Script-Name, or with --front caddy" in said
    _, said = generated(capsys, "--kind", "caddy", *MOUNT, "--trust-headers", "X-Script-Name")
    assert "X-Script-Name" not in said
    _, said = generated(capsys, "--kind", "nginx", *MOUNT)
    assert "X-Script-Name" not in said
    _, said = generated(capsys, "--kind", "service", *APP, *MOUNT)
    assert "--mount: --kind service does not use it" in said


def test_all_kinds_agree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["--kind", "all", *APP, "--front", "caddy", *MOUNT, "--out", str(tmp_path)]
    _, said = generated(capsys, *argv)
    assert "X-Script-Name" not in said
    assert "TRUST_HEADERS=X-Script-Name" in (tmp_path / "mysite.service").read_text()
    assert "header_up X-Script-Name /app" in (tmp_path / "mysite.caddy.conf").read_text()


def test_nobody_is_believed_on_tcp_unless_named(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("socket", "service", "dockerfile"):
        argv = ["--kind", kind, "--listen", "0.0.0.0:9000", *(APP if kind != "socket" else [])]
        _, said = generated(capsys, *argv, "--protocol", "scgi")
        assert "give the front's address with --trust" in said
        _, said = generated(capsys, *argv, "--protocol", "scgi", "--trust", "10.0.0.5")
        assert "give the front's address" not in said
        _, said = generated(capsys, *argv)
        assert "believed" not in said
    _, said = generated(capsys, "--listen", "uwsgi=127.0.0.1:9000")
    assert "over uwsgi no peer is trusted on TCP" in said
    _, said = generated(capsys, "--listen", "vsock::9000", "--protocol", "scgi", "--trust", "3")
    assert "no peer is trusted on vsock" in said


def test_an_image_that_listens_by_itself_is_told_whom_to_believe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, said = generated(capsys, "--kind", "dockerfile", *APP, "--protocol", "fastcgi")
    assert json.dumps(["launch", "--listen", "0.0.0.0:8000"])[1:-1] in text
    assert "--listen 0.0.0.0:8000: over fastcgi no peer is trusted on TCP" in said


def test_flup_is_not_asked_for_http(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--listen", "127.0.0.1:80"], ["--kind", "dockerfile", *APP]):
        assert main(["gen", "mysite", "--server", "flup", *argv]) == 2
        assert (
            "flup does not speak it: choose --protocol scgi or fastcgi" in capsys.readouterr().err
        )
        assert main(["gen", "mysite", "--server", "flup", *argv, "--protocol", "scgi"]) == 0
        capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "page"),
    [
        (["--health", "/up"], "/up"),
        (["--health", "/up", "--server-name", "example.org"], "http://example.org/up"),
        (
            [
                "--health",
                "/up",
                "--server-name",
                "a.org",
                "--server-name",
                "b.org",
                "--tls",
                "/c,/k",
            ],
            "https://a.org/up",
        ),
        (["--health", "http://c.org/", "--server-name", "a.org"], "http://c.org/"),
    ],
)
def test_the_health_page_is_asked_as_the_front_would_ask(
    capsys: pytest.CaptureFixture[str], options: list[str], page: str
) -> None:
    text, said = generated(capsys, "--kind", "service", *APP, *options)
    assert told(text) == {"HEALTH": page}
    assert "does not use it" not in said
