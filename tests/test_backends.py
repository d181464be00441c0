"""What each server speaks: with applications, with fronts, and in the document."""

from pathlib import Path

import pytest

from sdactivate import backends
from sdactivate.backends import BACKENDS, Backend
from sdactivate.errors import UsageError

IN_PROCESS = [backend for backend in BACKENDS.values() if backend.in_process]


@pytest.mark.parametrize("backend", IN_PROCESS, ids=lambda backend: backend.name)
def test_our_own_servers_speak_wsgi(backend: Backend) -> None:
    assert backend.interface("mysite.wsgi:application") == "wsgi"
    assert backend.interface("mysite.web:app") == "wsgi"
    with pytest.raises(UsageError, match="speaks ASGI: gunicorn, uvicorn, hypercorn, daphne"):
        backend.interface("mysite.asgi:application")


def test_one_that_can_not_inherit_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="no option to inherit a socket"):
        backends.find("granian")


@pytest.mark.parametrize(
    ("server", "asked", "offered", "spoken"),
    [
        ("native", "auto", ("scgi", "http"), "scgi"),
        ("native", "uwsgi", ("scgi", "http"), "uwsgi"),
        ("flup", "auto", ("http", "fastcgi"), "fastcgi"),
        ("waitress", "auto", ("scgi", "http"), "http"),
        ("gunicorn", "auto", ("scgi", "http"), "http"),
        ("gunicorn", "auto", ("uwsgi", "http"), "http"),
        ("uwsgi", "auto", ("scgi", "http"), "uwsgi"),
        ("uwsgi", "scgi", ("scgi", "http"), "scgi"),
    ],
)
def test_a_front_speaks_what_the_server_does(
    server: str, asked: str, offered: tuple[str, ...], spoken: str
) -> None:
    assert BACKENDS[server].front_protocol(asked, offered) == spoken


@pytest.mark.parametrize(
    ("server", "asked"), [("flup", "http"), ("waitress", "scgi"), ("gunicorn", "fastcgi")]
)
def test_a_front_can_not_be_made_to_speak_another(server: str, asked: str) -> None:
    with pytest.raises(UsageError, match=f"--protocol {asked}: {server} speaks"):
        BACKENDS[server].front_protocol(asked, ("scgi",))


DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "servers.md").read_text()


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_the_document_has_every_server_and_what_it_speaks(backend: Backend) -> None:
    interfaces = ", ".join(backend.interfaces).upper()
    row = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{backend.name}` |"))
    _, _, speaks, fronts, *_ = map(str.strip, row.split("|"))
    assert speaks == interfaces
    spoken = fronts.lower().replace("one of ", "").replace(" (default)", "")
    assert spoken.split(", ") == list(backend.protocols)


@pytest.mark.parametrize("server", backends.REFUSED)
def test_the_document_says_who_is_refused(server: str) -> None:
    assert f"| `{server}` | | | refused |" in DOCUMENT
