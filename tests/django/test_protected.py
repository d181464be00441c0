"""protected_file(): a file that only the application lets out, by its front or by itself."""

import os
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.http import Http404, HttpRequest

from sdactivate.django.protected import protected_file
from sdactivate.protected import VARIABLE, WAYS, Protected

NAME = "Rechnung ü.txt"

if not settings.configured:
    settings.configure()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "protected" / NAME
    path.parent.mkdir()
    path.write_text("for one of them only")
    (tmp_path / "outside.txt").write_text("for nobody")
    return path


def tell(monkeypatch: pytest.MonkeyPatch, file: Path, way: str) -> Protected:
    told = Protected(way, (("/protected/", f"{file.parent}/"),))
    monkeypatch.setenv(VARIABLE, str(told))
    return told


@pytest.mark.parametrize("way", WAYS)
def test_the_front_sends_it(way: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tell(monkeypatch, file, way)
    response = protected_file(HttpRequest(), file, as_attachment=True)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers == {
        told.field: told.value(file),
        "Content-Type": "text/plain",
        "Content-Disposition": "attachment; filename*=utf-8''Rechnung%20%C3%BC.txt",
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }


def test_it_need_not_be_read_for_that(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, file, "accel")
    file.unlink()
    os.mkfifo(file)  # what would open it, would wait for ever
    with pytest.raises(Http404):
        protected_file(HttpRequest(), file)


@pytest.mark.parametrize("way", ["", "accel-raw"])
def test_without_a_front_that_can_django_sends_it(
    way: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = file.rename(file.with_name("100%?.txt"))
    monkeypatch.delenv(VARIABLE, raising=False)
    if way:
        tell(monkeypatch, odd, way)
    response = protected_file(HttpRequest(), str(odd), filename="a.pdf")
    assert b"".join(response.streaming_content) == b"for one of them only"
    assert response.headers["Content-Type"] == "application/pdf"
    assert response.headers["Content-Length"] == "20"
    assert "X-Accel-Redirect" not in response.headers
    response.close()


def test_what_is_not_let_out(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, file, "sendfile")
    for outside in (file.parent / ".." / "outside.txt", Path("/etc/hostname"), file.parent):
        with pytest.raises(SuspiciousFileOperation):
            protected_file(HttpRequest(), outside)
    with pytest.raises(Http404):
        protected_file(HttpRequest(), file.with_name("none"))
    with pytest.raises(ValueError, match="is not an absolute path"):
        protected_file(HttpRequest(), NAME)
