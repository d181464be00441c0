"""The names of applications, as text and as what is served."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate import external_servers
from sdactivate.app_name import parse
from sdactivate.errors import UsageError
from sdactivate.runtime.serve import ImportFailed, find
from sdactivate.settings import Settings

SITE = """
import os
def create():
    def application(environ, start_response): ...
    return application
class factory:
    create = create
def fails(): raise ValueError("no database")
def returns_nothing(): pass
application = create()
not_callable = 1
"""


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("mysite.wsgi:application", "mysite.wsgi:application"),
        ("mysite.wsgi", "mysite.wsgi:application"),
        ("app", "app:application"),
        ("a.b.c:d.e", "a.b.c:d.e"),
        ("müsli:app", "müsli:app"),
        ("mysite:create_app()", "mysite:create_app()"),
        ("/srv/my-site/mysite.wsgi", "/srv/my-site/mysite.wsgi:application"),
        ("./app.py:make()", "./app.py:make()"),
    ],
)
def test_names(text: str, longest: str) -> None:
    assert str(parse(text)) == longest
    assert parse(longest) == parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "app:", ":app", "a b:c", "a:b:c", "a..b:c", "1a:b", "a:b\n", "-m:x", "a:()", "a()"),
        *("a:b(1)", "a:b()()", "/srv/app", "app.wsgi.", "/srv/a b.wsgi", "/srv/a.wsgi:", "/a.pyc"),
    ],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError, match="MODULE:NAME"):
        parse(text)


@given(st.text())
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = parse(text)
    except UsageError:
        return
    assert parse(str(name)) == name
    assert bool(name.module) != bool(name.file)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text(SITE)
    (tmp_path / "site.wsgi").write_text(SITE)
    (tmp_path / "imports_more.py").write_text("import imports")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    return tmp_path


@pytest.mark.parametrize(
    "text", ["shop", "shop:application", "shop:create()", "shop:factory.create()", "./site.wsgi"]
)
def test_what_is_found(site: Path, text: str) -> None:
    assert find(text).__name__ == "application"


def test_a_file_is_a_module_of_its_own(site: Path) -> None:
    found = find(f"{site}/site.wsgi:create()")
    assert found.__module__ == "_wsgi_site"
    assert sys.modules["_wsgi_site"].__file__ == f"{site}/site.wsgi"
    assert sys.modules["site"].__file__ != f"{site}/site.wsgi"
    assert not (site / "__pycache__").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("shop:fails()", r"calling shop:fails\(\) failed:\n(.*\n)*ValueError: no database$"),
        ("shop:returns_nothing()", "is of type 'NoneType', which can't be called"),
        ("shop:not_callable", "is of type 'int', which can't be called"),
        ("shop:nothing", "the module shop has no 'nothing'"),
        ("./site.wsgi:nothing", "the file ./site.wsgi has no 'nothing'"),
        ("/nowhere/site.wsgi", "can't read /nowhere/site.wsgi"),
        ("nowhere.wsgi", "there is no module 'nowhere' to import nowhere.wsgi from"),
        ("imports_more:app", r"importing imports_more failed:\n(.*\n)*ModuleNotFoundError"),
    ],
)
def test_what_is_not_found(site: Path, text: str, why: str) -> None:
    with pytest.raises(ImportFailed, match=why):
        find(text)


@pytest.mark.parametrize(
    ("server", "app", "last"),
    [
        ("gunicorn", "shop:create()", ["shop:create()"]),
        ("uwsgi", "shop:create()", ["--module", "shop:create()"]),
        ("hypercorn", "shop:create()", ["wsgi:shop:create()"]),
        ("uvicorn", "shop:create()", ["--factory", "shop:create"]),
    ],
)
def test_other_servers_are_told_of_a_factory(server: str, app: str, last: list[str]) -> None:
    argv = external_servers.command(
        external_servers.SERVERS[server], "/v/bin/python", app, Settings(), ["unix"]
    )
    assert argv[-len(last) :] == last


def test_what_other_servers_can_not_be_told() -> None:
    for server, app in (("daphne", "shop:create()"), ("gunicorn", "/srv/site.wsgi")):
        with pytest.raises(UsageError, match=server):
            external_servers.command(
                external_servers.SERVERS[server], "/v/bin/python", app, Settings(), ["unix"]
            )
