"""The command line of each server: what it is told of sockets, application and settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sdactivate import backends, external_servers
from sdactivate.errors import UsageError
from sdactivate.runtime.serve import SERVERS
from sdactivate.settings import TABLE, Setting, resolve

PYTHON = "/srv/mysite/.venv/bin/python"


def line(
    server: str, app: str = "", families: Sequence[str] = ("unix",), **given: object
) -> list[str]:
    row = external_servers.SERVERS[server]
    kind = "wsgi" if "wsgi" in row.application else "asgi"
    return external_servers.command(
        row, PYTHON, app or f"mysite.{kind}:application", resolve(given, {}, {}), families
    )


def test_every_server_has_a_row_that_starts_it_or_runs_in_our_process() -> None:
    others = {name for name, backend in backends.BACKENDS.items() if not backend.in_process}
    assert set(external_servers.SERVERS) == others
    assert set(SERVERS) == set(backends.BACKENDS) - others


@pytest.mark.parametrize("server", external_servers.SERVERS.values(), ids=external_servers.SERVERS)
def test_every_server_can_be_told_each_application_that_it_takes(
    server: external_servers.ExternalServer,
) -> None:
    assert set(server.application) == set(server.backend.interfaces)


@pytest.mark.parametrize("server", external_servers.SERVERS)
def test_every_server_is_told_its_application_last(server: str) -> None:
    argv = line(server)
    assert argv[0].startswith("/srv/mysite/.venv/bin/")
    assert argv[-1].endswith("application")
    assert not [word for word in argv if "{" in word]


@pytest.mark.parametrize("server", external_servers.SERVERS)
def test_no_server_is_given_an_address_of_its_own(server: str) -> None:
    """It would bind that, beside what it inherits or instead of it."""
    told = " ".join(line(server))
    assert "/run/" not in told
    assert "fd://3" not in told or server == "hypercorn"  # gunicorn deletes the file behind it
    assert not {"--bind=", "-b", "-s", "--socket", "--uds"} & set(line(server))


def test_each_socket_is_named() -> None:
    argv = line("hypercorn", families=("unix", "inet"))
    assert [argv[i + 1] for i, word in enumerate(argv) if word == "--bind"] == ["fd://3", "fd://4"]
    argv = line("daphne", families=("inet6",))
    assert "systemd:domain=INET6:index=0" in argv


@pytest.mark.parametrize(
    ("server", "families", "why"),
    [("uvicorn", ("unix", "unix"), "one socket"), ("daphne", ("unix", "inet"), "one family")],
)
def test_no_socket_is_left_unserved(server: str, families: tuple[str, ...], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        line(server, families=families)


def test_settings_are_told_in_the_servers_own_words() -> None:
    argv = line("gunicorn", threads=3, graceful_timeout="1.5", max_requests=10, protocol="uwsgi")
    told = " ".join(argv)
    for words in ("--threads 3", "--graceful-timeout 2", "--max-requests 10", "--protocol uwsgi"):
        assert words in told
    assert "--max-requests-jitter" not in told
    assert "--reload-on-rss 512" in " ".join(line("uwsgi", max_memory="512M"))


@pytest.mark.parametrize("server", external_servers.SERVERS)
def test_a_setting_that_a_server_has_not_is_refused(server: str) -> None:
    with pytest.raises(UsageError, match=f"--allow-peer: {server} has no such setting"):
        line(server, allow_peer="unit:nginx.service")


def test_on_tcp_http_is_spoken_unless_something_else_is_asked() -> None:
    """Anybody may connect there, and what uwsgi carries is for a front to say."""
    for families, asked, spoken in (
        (("unix",), "auto", "uwsgi"),
        (("inet",), "auto", "http"),
        (("unix", "inet6"), "auto", "http"),
        (("inet",), "uwsgi", "uwsgi"),
    ):
        argv = line("uwsgi", families=families, protocol=asked)
        assert argv[argv.index("--protocol") + 1] == spoken
    assert "--protocol" not in line("gunicorn", families=("inet",))


def test_forwarded_headers_are_believed_on_unix_sockets_only() -> None:
    assert line("uvicorn")[-3:-1] == ["*", "--no-access-log"]
    assert "--forwarded-allow-ips" not in line("uvicorn", families=("inet",))
    argv = line("uvicorn", families=("inet",), trust="10.0.0.1 10.0.0.2")
    assert argv[argv.index("--forwarded-allow-ips") + 1] == "10.0.0.1,10.0.0.2"


@pytest.mark.parametrize(
    ("server", "app", "meant"),
    [
        ("gunicorn", "mysite.asgi:application", ["--worker-class", "asgi"]),
        ("gunicorn", "mysite.web:app", ["0", "mysite.web:app"]),
        ("hypercorn", "mysite.wsgi:application", ["wsgi:mysite.wsgi:application"]),
        ("hypercorn", "mysite.asgi:application", ["mysite.asgi:application"]),
        ("uvicorn", "mysite.web:app", ["mysite.web:app"]),
    ],
)
def test_the_application_is_what_its_module_is_called(
    server: str, app: str, meant: list[str]
) -> None:
    argv = line(server, app)
    assert any(argv[at : at + len(meant)] == meant for at in range(len(argv)))


@pytest.mark.parametrize(
    ("server", "app"), [("uvicorn", "mysite.wsgi:app"), ("uwsgi", "mysite.asgi:app")]
)
def test_an_application_of_the_other_kind_is_refused(server: str, app: str) -> None:
    with pytest.raises(UsageError, match=f"{app}: {server} speaks"):
        line(server, app)


def test_the_virtual_environment_is_named_where_there_is_one() -> None:
    assert "/srv/mysite/.venv" in line("uwsgi")
    argv = external_servers.command(
        external_servers.UWSGI, "/usr/bin/python3", "a.wsgi:b", resolve({}, {}, {}), ("unix",)
    )
    assert argv[0] == "/usr/bin/uwsgi"
    assert "--virtualenv" not in argv


DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "servers.md").read_text()


def told(server: external_servers.ExternalServer, name: str) -> str:
    """The option by which a server is told a setting, as the documentation shows it."""
    if name not in server.options:
        return ""
    samples: dict[str, Any] = {"trust": ("*",), "protocol": "uwsgi"}
    for sample in (samples.get(name, 2), False):
        if words := server.options[name](sample):
            return f"`{words[0]}`"
    raise AssertionError(f"{server.name} is never told {name}")


@pytest.mark.parametrize(
    "setting",
    [
        row
        for row in TABLE
        if any(row.name in server.options for server in external_servers.SERVERS.values())
    ],
    ids=lambda row: row.name,
)
def test_the_document_shows_what_each_server_is_told(setting: Setting) -> None:
    cells = [
        f"`{setting.option}`",
        *(told(server, setting.name) for server in external_servers.SERVERS.values()),
    ]
    assert f"| {' | '.join(cells)} |" in DOCUMENT
