"""manage.py check --deploy, on a real project: each finding, and silence where all is well."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

GOOD = """\
SECRET_KEY = "x" * 50 + "abcdefgh"
DEBUG = False
ALLOWED_HOSTS = ["site.test"]
INSTALLED_APPS = ["django.contrib.staticfiles", "sdactivate.django"]
STATIC_URL = "static/"
STATIC_ROOT = "{home}/static"
ROOT_URLCONF = "project"
WSGI_APPLICATION = "project.application"
SDACTIVATE_SOCKET = "{home}/s"
urlpatterns = []
LOGGING = {{"version": 1, "disable_existing_loggers": False}}
LOGGING["handlers"] = {{"journal": {{"class": "logging.StreamHandler"}}}}
LOGGING["root"] = {{"handlers": ["journal"], "level": "INFO"}}
"""


Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "style.css").touch()

    def run(extra: str = "", *options: str, verb: str = "check", **environ: str) -> list[str]:
        (tmp_path / "project.py").write_text(GOOD.format(home=tmp_path) + extra + "\n")
        done = subprocess.run(
            [sys.executable, "-m", "django", verb, *(options or ("--deploy",))],
            cwd=tmp_path,
            env={
                **os.environ,
                **environ,
                "DJANGO_SETTINGS_MODULE": "project",
                "PYTHONPATH": str(tmp_path),
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        # `serve` has no socket to serve here: it ends after its checks
        assert (done.returncode == 0) == (verb == "check"), done.stderr
        return re.findall(r"\(sdactivate\.(W\d+)\)", done.stderr)

    return run


def test_nothing_is_said_of_a_good_site(check: Check) -> None:
    assert check() == []


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ("SECURE_PROXY_SSL_HEADER = ('HTTP_X_FORWARDED_PROTO', 'https')", "W002"),
        ("ALLOWED_HOSTS = ['*']", "W003"),
        ("STATIC_ROOT = None", "W005"),
        ("STATIC_ROOT = '/nonexistent'", "W005"),
    ],
)
def test_findings(check: Check, extra: str, found: str) -> None:
    assert check(extra) == [found]
    assert check(extra, "--tag=sdactivate") == []  # only with --deploy


@pytest.mark.parametrize("mode", [0o660, 0o666, 0o662])
def test_a_socket_that_all_can_connect_to(check: Check, mode: int) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as home,  # pytest's own is closed to others
        socket.socket(socket.AF_UNIX) as sock,
    ):
        path = Path(home, "s")
        sock.bind(str(path))
        path.chmod(mode)
        extra = f"SDACTIVATE_SOCKET = {str(path)!r}"
        assert check(extra) == []  # the directory is closed, too
        Path(home).chmod(0o711)
        assert check(extra) == (["W001"] if mode & 2 else [])


def test_static_files_elsewhere_are_not_missed(check: Check, tmp_path: Path) -> None:
    assert check("STATIC_ROOT = None\nSTATIC_URL = 'https://cdn.test/'") == []
    assert check("STATIC_ROOT = None\nINSTALLED_APPS = ['sdactivate.django']") == []
    base = "import django.core.files.storage as s\nclass Remote(s.Storage): ...\n"
    (tmp_path / "remote.py").write_text(base)
    storage = "STATIC_ROOT = None\nSTORAGES = {{'staticfiles': {{'BACKEND': '{}', 'OPTIONS': {}}}}}"
    assert check(storage.format("remote.Remote", {})) == []
    here = "django.contrib.staticfiles.storage.StaticFilesStorage"
    assert check(storage.format(here, {"location": f"{tmp_path}/static"})) == []
    assert check(storage.format(here, {"location": f"{tmp_path}/elsewhere"})) == ["W005"]
    assert check(storage.format("nowhere.Storage", {})) == []  # collectstatic says that


def test_debug_is_asked_about_where_a_supervisor_has_started_it(check: Check) -> None:
    assert check("DEBUG = True", "--tag=sdactivate") == []
    assert check("DEBUG = True", "--tag=sdactivate", LISTEN_FDS="1") == ["W004"]
    assert check("DEBUG = True", "--tag=sdactivate", NOTIFY_SOCKET="/x") == ["W004"]


@pytest.mark.parametrize(
    ("age", "found"), [("0", []), ("60", []), ("700", ["W006"]), ("None", ["W006"])]
)
def test_connections_that_are_kept_longer_than_the_site(
    check: Check, age: str, found: list[str]
) -> None:
    extra = (
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', "
        f"'NAME': ':memory:', 'CONN_MAX_AGE': {age}}}}}"
    )
    assert check(extra, SDACTIVATE_IDLE_TIMEOUT="10min") == found
    assert check(extra) == []


def test_serve_asks_of_the_idle_timeout_that_it_has(check: Check) -> None:
    extra = (
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', "
        "'NAME': ':memory:', 'CONN_MAX_AGE': 700}}"
    )
    assert check(extra, "--idle-timeout", "10min", verb="serve") == ["W006"]
    unit = {"SDACTIVATE_IDLE_TIMEOUT": "0"}  # which wins over the option
    assert check(extra, "--idle-timeout=10min", verb="serve", **unit) == []


MAIL = "LOGGING = {}; ADMINS = [('a', 'a@site.test')]"
QUIET = [
    "LOGGING = {}",  # Django's default: mail to nobody
    "LOGGING['handlers']['journal']['level'] = 'CRITICAL'",
    "LOGGING['handlers']['journal'] = {'class': 'logging.NullHandler'}",
    "LOGGING['loggers'] = {'django.request': {'level': 'CRITICAL'}}",
]
LAST_RESORT = "LOGGING['loggers'] = {'django': {'propagate': False, 'handlers': []}}"


@pytest.mark.parametrize("extra", QUIET)
def test_errors_that_nobody_would_see(check: Check, extra: str) -> None:
    assert check(extra, "--tag", "sdactivate") == ["W007"]


@pytest.mark.parametrize("extra", [MAIL, LAST_RESORT, "LOGGING = {}; DEBUG = True"])
def test_errors_that_somebody_sees(check: Check, extra: str) -> None:
    assert check(extra, "--tag", "sdactivate") == []


SEVERAL = {"SDACTIVATE_READY_PATH": "/ready"}
SQLITE = 'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "x"}}'
SERVER = 'CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache"}}\n'
FILES = SERVER.replace("redis.RedisCache", "filebased.FileBasedCache")
SESSIONS = 'INSTALLED_APPS += ["django.contrib.sessions"]\n'


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        (SERVER, []),
        ("", ["W009"]),
        (FILES, ["W009"]),
        (SERVER + SQLITE, ["W008"]),
        (SERVER + SESSIONS, []),
        (SERVER + SESSIONS + 'SESSION_ENGINE = "django.contrib.sessions.backends.file"', ["W010"]),
        (SERVER + SESSIONS + 'SESSION_ENGINE = "django.contrib.sessions.backends.cache"', []),
        (SESSIONS + 'SESSION_ENGINE = "django.contrib.sessions.backends.cache"', ["W009", "W010"]),
        (SERVER + 'MEDIA_ROOT = "/srv/uploads"', ["W011"]),
        (
            SERVER
            + 'MEDIA_ROOT = "/srv/uploads"\n'
            + 'STORAGES = {"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}, '
            + '"staticfiles": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}',
            [],
        ),
    ],
)
def test_what_several_machines_do_not_share(check: Check, extra: str, found: list[str]) -> None:
    assert check(extra, "--tag", "sdactivate", **SEVERAL) == found


def test_one_machine_needs_to_share_nothing(check: Check) -> None:
    assert check(SQLITE, "--tag", "sdactivate") == []
    assert check(SQLITE, "--tag", "sdactivate", SDACTIVATE_DRAIN_DELAY="0") == []
    assert check(SQLITE, "--tag", "sdactivate", SDACTIVATE_DRAIN_DELAY="5") == ["W008", "W009"]


def test_a_secret_that_this_machine_has_made(check: Check, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "large").write_bytes(b"x" * 100000)
    environ = {**SEVERAL, "STATE_DIRECTORY": str(state)}
    assert check(SERVER, "--tag", "sdactivate", **environ) == []
    (state / "secret").write_text("x" * 50 + "abcdefgh\n")
    assert check(SERVER, "--tag", "sdactivate", **environ) == ["W012"]
