"""Health before traffic: --health, and Django's URLconf, at a start and at a reload."""

import os
import signal
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.runtime.health_page import REQUESTS, Page, status
from sdactivate.settings import BY_NAME, resolve
from tests.runtime.life import ONE_AND_MORE, Life
from tests.servers.service import listener

# Behind the application of `life`: what it answers to /up, and what it is asked
UP = """
def up(environ, start_response):
    if environ["PATH_INFO"] != "/up":
        return application_of_life(environ, start_response)
    told = ("REQUEST_METHOD", "HTTP_HOST", "wsgi.url_scheme", "QUERY_STRING", "HTTP_USER_AGENT")
    print("asked", *(environ.get(name) for name in told), "by", os.getpid(), file=sys.stderr)
    {answer}
"""
WELL = 'start_response("204 No Content", []); return []'


class Checked(Life):
    """A service whose application has a page /up, which answers as it was told."""

    def release(self, more: str) -> None:
        super().release(more)
        text = (self.directory / "life.py").read_text()
        text = text.replace("def application(", "def application_of_life(")
        (self.directory / "life.py").write_text(
            text + UP.format(answer=self.answer) + "application = up\n"
        )

    answer = WELL


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    started: list[Life] = []

    def start(answer: str = WELL, **settings: Any) -> Checked:
        monkeypatch.setattr(Checked, "answer", answer)
        service = Checked(tmp_path, **{"health": "/up", **settings})
        started.append(service)
        return service

    yield start
    for service in started:
        service.close()


@ONE_AND_MORE
def test_the_page_is_asked_where_requests_are_served(checked: Any, workers: int) -> None:
    service = checked(workers=workers).ready()
    pids = {int(line.split()[-1]) for line in service.log.splitlines() if "asked" in line}
    assert len(pids) == workers
    assert service.pid() in pids
    assert service.process.pid not in pids or workers == 1
    assert "asked GET localhost http  sdactivate (health check)" in service.log


@pytest.mark.parametrize("protocol", ["http", "scgi", "fastcgi", "uwsgi", "auto"])
def test_it_is_asked_in_the_protocol_of_the_socket(checked: Any, protocol: str) -> None:
    service = checked(protocol=protocol, health="https://example.org:8443/up?a=b").ready()
    assert "asked GET example.org:8443 https a=b sdactivate" in service.log


@pytest.mark.parametrize(
    ("server", "kind"),
    [("flup", "unix"), ("waitress", "unix"), ("waitress", "tcp"), ("native", "tcp")],
)
def test_other_servers_and_sockets(checked: Any, tmp_path: Path, server: str, kind: str) -> None:
    pytest.importorskip(server if server != "native" else "os")
    service = checked(server=server, listeners=[listener(tmp_path, kind)]).ready()
    assert "asked GET localhost http" in service.log
    assert service.process.poll() is None


def test_an_exception_that_waitress_has_caught(checked: Any) -> None:
    pytest.importorskip("waitress")
    service = checked("raise RuntimeError('no database')", server="waitress", supervised=False)
    assert service.process.wait(60) == 1
    service.logged("its traceback is above:")


# What it answers, and what is said of it
FAULTS = {
    "an error": ('start_response("500 Oh no", []); return [b"x"]', "was answered 500 Oh no"),
    "not there": ('start_response("404 Not Found", []); return []', "was answered 404 Not Found"),
    "an exception": (
        "raise RuntimeError('no database')",
        "its traceback is above:\nRuntimeError: no database",
    ),
    "halfway": (
        'start_response("200 OK", []); return (1 / n for n in (1, 0))',
        "TypeError",
    ),
    "never": (
        "threading.Event().wait()",
        "got no answer within start_timeout=",
    ),
    "too little": (
        'start_response("200 OK", [("Content-Length", "5")]); return [b"1"]',
        "promised 5 bytes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_start_fails(checked: Any, fault: str) -> None:
    answer, said = FAULTS[fault]
    timeout = 2 if fault == "never" else 60
    service = checked(answer, start_timeout=timeout, supervised=False)
    assert service.process.wait(60) == 1
    for part in said.split("\n"):
        service.logged(part)


@pytest.mark.parametrize("fault", ["an error", "never"])
def test_a_start_of_several_workers_fails(checked: Any, fault: str) -> None:
    answer, said = FAULTS[fault]
    service = checked(answer, workers=2, start_timeout=3 if fault == "never" else 60)
    line = service.told_by(lambda line: line.startswith("STATUS=failed"), "STATUS=failed …")
    assert "health check: GET http://localhost/up" in line
    service.logged(said)


def test_a_reload_that_fails_changes_nothing(checked: Any) -> None:
    service = checked(threads=1).ready()
    before = service.pid()
    service.answer = "raise RuntimeError('no database')"
    service.release("")
    service.signal(signal.SIGHUP)
    line = service.told_by(lambda line: line.startswith("STATUS=reload failed"), "reload failed")
    assert "no database" in line
    assert service.pid() == before
    service.answer = WELL
    service.release("")
    service.signal(signal.SIGHUP)
    assert service.main() != before


def test_a_replacement_of_a_worker_serves_all_the_same(checked: Any) -> None:
    service = checked(
        'start_response("500 No" if os.path.exists("broken") else "200 OK", []); return []',
        workers=2,
    ).ready()
    Path("broken").touch()
    try:
        os.kill(service.pid(), signal.SIGKILL)
        service.logged("this replacement of a worker serves anyway: health check")
        assert service.ask().startswith(b"HTTP/1.1 200")
    finally:
        Path("broken").unlink()


def test_a_stop_ends_the_wait(checked: Any) -> None:
    service = checked("threading.Event().wait()", graceful_timeout=0.1)
    service.logged("asked")
    service.signal(signal.SIGTERM)
    assert service.process.wait(60) == 0


URLCONF = """
from django.conf import settings
settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["example.org"], SECRET_KEY="x",
                   MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
                   LOGGING_CONFIG=None)
import logging; logging.disable()
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
VIEWS = """
import os, sys
from django.http import HttpResponse
from django.urls import path
print("loaded by", os.getpid(), file=sys.stderr)
def up(request):
    {answer}
urlpatterns = [path("up", up)]
"""


class Django(Life):
    def release(self, more: str) -> None:
        (self.directory / "life.py").write_text(URLCONF)
        (self.directory / "urls.py").write_text(VIEWS.format(answer=more))


@pytest.fixture
def django(tmp_path: Path) -> Any:
    pytest.importorskip("django")
    started: list[Life] = []

    def start(answer: str = "return HttpResponse('x')", **settings: Any) -> Django:
        started.append(Django(tmp_path, answer, **settings))
        return started[-1]  # type: ignore[return-value]

    yield start
    for service in started:
        service.close()


@ONE_AND_MORE
def test_the_urlconf_is_loaded_where_requests_are_served(django: Any, workers: int) -> None:
    service = django(workers=workers).ready()
    pids = {int(line.split()[-1]) for line in service.log.splitlines() if "loaded" in line}
    assert len(pids) == workers
    assert (service.process.pid in pids) == (workers == 1)


@ONE_AND_MORE
def test_a_urlconf_that_fails_is_a_start_that_fails(django: Any, workers: int) -> None:
    service = django("pass\nimport no_such_module", workers=workers)
    line = service.told_by(lambda line: line.startswith("STATUS=failed"), "STATUS=failed …")
    assert "loading the URLconf urls failed" in line
    assert "no_such_module" in line
    assert service.process.wait(60) == 1
    service.logged('urls.py", line')


def test_the_traceback_of_a_view_is_told_whatever_logging_says(django: Any) -> None:
    service = django(
        "raise RuntimeError('no database')", health="http://example.org/up", supervised=False
    )
    assert service.process.wait(60) == 1
    service.logged("was answered 500 Internal Server Error:")
    service.logged("RuntimeError: no database")
    service.logged('urls.py", line')


def test_a_host_that_django_refuses(django: Any) -> None:
    service = django(health="/up", supervised=False)
    assert service.process.wait(60) == 1
    service.logged("was answered 400 Bad Request; Django answers so if the host is not in ALLOWED_")


def test_a_page_that_django_serves(django: Any) -> None:
    assert django(health="http://example.org/up").ready().process.poll() is None


# The setting


@pytest.mark.parametrize(
    "text",
    ["up", "//up", "/up#x", "/a b", "/ü", "ftp://x/", "http:///", "http://x", "https://a@b/"],
)
def test_what_is_not_a_page(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"SDACTIVATE_HEALTH=.* is not the path or the URL of a page"
    ):
        resolve({}, {}, {"SDACTIVATE_HEALTH": text})


@pytest.mark.parametrize(
    "text", ["/", "/up", "/up?x=/y", "https://[::1]:80/up", "http://a.b/c%20d"]
)
def test_what_is_a_page(text: str) -> None:
    assert BY_NAME["health"].parse(text, "") == text
    assert str(Page.parse(text)) == (text if "://" in text else f"http://localhost{text}")


def test_other_servers_have_no_health_check() -> None:
    from sdactivate.external_servers import SERVERS, check_settings

    with pytest.raises(UsageError, match="--health: gunicorn has no such setting"):
        check_settings(SERVERS["gunicorn"], resolve({}, {"server": "gunicorn", "health": "/"}, {}))


@given(st.sampled_from(sorted(REQUESTS)), st.binary())
def test_any_answer_is_read(protocol: str, answer: bytes) -> None:
    assert isinstance(status(protocol, answer), str)


def test_words_on_stderr_are_not_the_answer() -> None:
    def record(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBHHxx", 1, kind, 1, len(content)) + content

    answer = record(7, b"Status: 200 OK\r\n") + record(6, b"Status: 500 No\r\n\r\n")
    assert status("fastcgi", answer) == "500 No"
    assert (
        status("http", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 302 Found\r\n\r\n") == "302 Found"
    )
