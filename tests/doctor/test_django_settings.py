"""ALLOWED_HOSTS is read from a site's settings as text, and only where it is plain."""

from pathlib import Path

import pytest

from sdactivate.doctor.django_settings import allowed_hosts, application, settings
from sdactivate.systemd.unitfile import Unit, parse

WSGI = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'


def service(place: Path, command: str = "/bin/gunicorn shop.wsgi", more: str = "") -> Unit:
    text = f"[Service]\nWorkingDirectory={place}\n{more}\nExecStart={command}\n"
    return Unit("shop.service", [parse(text, "shop.service")], ["shop.service"])


def site(place: Path, settings: str) -> None:
    (place / "shop").mkdir()
    (place / "shop" / "wsgi.py").write_text(WSGI)
    (place / "shop" / "settings.py").write_text(settings)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ('ALLOWED_HOSTS = ["shop.test", ".example.com"]', ("shop.test", ".example.com")),
        ("DEBUG = True\nALLOWED_HOSTS = []", (".localhost", "127.0.0.1", "[::1]")),
        ("DEBUG = False\nALLOWED_HOSTS = []", ()),
        ("ALLOWED_HOSTS = os.environ['HOSTS'].split()", None),
        ("ALLOWED_HOSTS = ['a']\nALLOWED_HOSTS += more()", None),
        ("ALLOWED_HOSTS = ['a']\nif x:\n    ALLOWED_HOSTS = ['b']", None),
        ("ALLOWED_HOSTS = 'a'", None),
        ("ALLOWED_HOSTS = [1]", None),
        ("from shop.base import *", None),
        ("no python (", None),
        ("(" * 5000, None),
    ],
)
def test_what_settings_say(tmp_path: Path, text: str, hosts: tuple[str, ...] | None) -> None:
    site(tmp_path, text)
    found = allowed_hosts(service(tmp_path))
    assert (found.hosts if found else None) == hosts


def test_hosts_are_compared_as_django_does(tmp_path: Path) -> None:
    site(tmp_path, 'X = 1\nALLOWED_HOSTS = ["Shop.test", ".example.com", "[::1]"]')
    found = allowed_hosts(service(tmp_path))
    assert found is not None
    assert found.line == 2
    for host in ("shop.test", "shop.test:8000", "example.com", "a.b.example.com", "[::1]:80"):
        assert found.has(host), host
    for host in ("a.shop.test", "badexample.com", "example.com.test", "shop_test"):
        assert not found.has(host), host


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("/bin/sdactivate serve shop.wsgi:application", ""),
        ("/bin/uvicorn shop.asgi:application", "Environment=DJANGO_SETTINGS_MODULE=shop.settings"),
        ("/bin/uwsgi --module shop.wsgi:application", ""),
        ("/bin/uwsgi --wsgi-file shop/wsgi.py", ""),
    ],
)
def test_the_settings_are_found(tmp_path: Path, command: str, more: str) -> None:
    site(tmp_path, 'ALLOWED_HOSTS = ["a"]')
    found = allowed_hosts(service(tmp_path, command, more))
    assert found is not None
    assert found.file == str(tmp_path / "shop" / "settings.py")


def test_the_application_is_found_by_chdir(tmp_path: Path) -> None:
    site(tmp_path, "")
    found = application(service(Path("/srv"), f"/bin/gunicorn --chdir {tmp_path} shop.wsgi"))
    assert found == (str(tmp_path / "shop" / "wsgi.py"), WSGI)
    assert application(service(tmp_path, "/bin/gunicorn nothing.here")) is None


PATHS = """
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STATIC_ROOT = BASE_DIR / "static" / "all"
MEDIA_ROOT = os.path.join(ROOT, "media")
LOCALE = str(BASE_DIR.joinpath("locale"))
STATIC_URL = "/static/"
MIDDLEWARE = ["a.B", "c.D"]
SECURE_PROXY_SSL_HEADER = os.environ["HEADER"]
TWICE = "a"
TWICE = "b"
if MORE:
    USE_X_FORWARDED_HOST = True
"""


def test_settings_are_literals_and_plain_paths(tmp_path: Path) -> None:
    site(tmp_path, PATHS)
    held = settings(service(tmp_path))
    assert held is not None
    assert held.text("STATIC_ROOT") == f"{tmp_path}/static/all"
    assert held.text("MEDIA_ROOT") == f"{tmp_path}/media"
    assert held.text("LOCALE") == f"{tmp_path}/locale"
    assert held.words("MIDDLEWARE") == ["a.B", "c.D"]
    assert held.words("STATIC_URL") == []
    assert held.text("TWICE") == held.text("SECURE_PROXY_SSL_HEADER") == ""
    assert held.is_whole
    assert held.lacks("CSRF_TRUSTED_ORIGINS")
    assert not held.lacks("SECURE_PROXY_SSL_HEADER")
    assert not held.lacks("USE_X_FORWARDED_HOST")


@pytest.mark.parametrize("more", ["from .base import *", "globals().update(more)"])
def test_what_another_module_may_bind_is_not_lacking(tmp_path: Path, more: str) -> None:
    site(tmp_path, f"{more}\nDEBUG = False")
    held = settings(service(tmp_path))
    assert held is not None
    assert not held.is_whole
    assert not held.lacks("SECURE_PROXY_SSL_HEADER")


@pytest.mark.parametrize("text", ["no python (", "(" * 5000, "X = " + "-" * 5000 + "1"])
def test_settings_that_are_no_python_are_unknown(tmp_path: Path, text: str) -> None:
    site(tmp_path, text)
    held = settings(service(tmp_path))
    assert held is None or held.values == {}


def test_without_settings_nothing_is_known(tmp_path: Path) -> None:
    assert settings(service(tmp_path)) is None
