"""Every Django that is kept alive, as far as this Python runs it: checks, serve, runfcgi.

The suite's own is the newest that there is for this Python; beside it the two long-term releases.
For another Python: `PYTHON=python3.13 script/test tests/django`.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from tests.conftest import CHECKOUT
from tests.servers.peers import Request, ask
from tests.servers.service import listener

# The last Python that each runs on (docs.djangoproject.com, faq/install)
SERIES = {"": (9, 9), "4.2": (3, 12), "5.2": (3, 14)}

PROJECT = """\
SECRET_KEY = "x" * 50 + "abcdefgh"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["sdactivate.django"]
ROOT_URLCONF = "project"
WSGI_APPLICATION = "project.application"
SDACTIVATE_SOCKET = "/nowhere"
from django import VERSION
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("%d.%d" % VERSION[:2]))]
def __getattr__(name):
    if name == "application":
        from django.core.wsgi import get_wsgi_application
        return get_wsgi_application()
    raise AttributeError(name)
"""


@pytest.fixture(
    scope="module", params=[s for s, last in SERIES.items() if sys.version_info[:2] <= last]
)
def installed(request: pytest.FixtureRequest) -> str:
    """A directory with this Django and what it requires; "" where it is the suite's own."""
    if not request.param:
        return ""
    directory = CHECKOUT / "build" / "django" / f"{request.param}-py3.{sys.version_info[1]}"
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as draft:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", f"{draft}/new"]
            subprocess.run([*pip, f"Django=={request.param}.*"], check=True, timeout=600)
            Path(draft, "new").rename(directory)
    return str(directory)


@pytest.fixture
def environ(installed: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "project.py").write_text(PROJECT)
    return {
        **{name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"},
        "PYTHONPATH": f"{installed}:{tmp_path}:{CHECKOUT}",
        "DJANGO_SETTINGS_MODULE": "project",
    }


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with listener(tmp_path) as sock:
        yield sock


def answer(listening: socket.socket) -> str:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60)
        peer.connect(listening.getsockname())
        body = ask(peer, "http", Request()).body
    return body.decode()


def test_the_checks(installed: str, environ: dict[str, str]) -> None:
    command = [sys.executable, "-m", "django", "check", "--deploy", "--tag", "sdactivate"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "(sdactivate.W003) ALLOWED_HOSTS contains '*'" in done.stderr


@pytest.mark.parametrize(
    "words", [["serve", "--threads", "2"], ["runfcgi", "protocol=http", "method=threaded"]]
)
def test_it_serves(
    installed: str,
    environ: dict[str, str],
    listening: socket.socket,
    tmp_path: Path,
    words: list[str],
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "django", *words],
        env=environ,
        stdin=listening.fileno(),
        cwd=tmp_path,
    )
    try:
        found = answer(listening)
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert found == (
        Path(installed).name.partition("-")[0] or ".".join(map(str, django.VERSION[:2]))
    )
