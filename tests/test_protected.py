"""What an application is told of the files that only it lets out, and what it answers."""

import os
import string
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdactivate.protected import WAYS, Protected, read
from sdactivate.settings import resolve

DIRECTORIES = (("/protected/", "/srv/mysite/protected/"), ("/more/", "/srv/more/"))


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_is_read(way: str) -> None:
    told = Protected(way, DIRECTORIES)
    assert read(str(told)) == told
    # It is no setting of the server, whichever that is
    resolve({}, {}, {"SDACTIVATE_PROTECTED": str(told)})


@pytest.mark.parametrize("text", ["", "X-Sendfile /a/=/b/", "accel /a/", "sendfile /a/=/b/ /c/"])
def test_what_no_generator_writes_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        read(text)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "path",
    [
        *("/srv/mysite/protected", "/srv/mysite/protected/", "/srv/mysite/protected/."),
        *("/srv/mysite/protected/../secret", "/srv/mysite/protected-too/x", "/etc/passwd"),
        *("/srv/more/../mysite/db.sqlite3", "srv/more/x", "/protected/x", "//srv/more/x"),
    ],
)
def test_nothing_outside_is_let_out(way: str, path: str) -> None:
    with pytest.raises(ValueError, match="is not in a protected directory"):
        Protected(way, DIRECTORIES).value(path)


def test_each_front_is_told_in_its_way() -> None:
    path = "/srv/more/a/../ü 100%?.txt"
    said = {way: (p.field, p.value(path)) for way in WAYS for p in [Protected(way, DIRECTORIES)]}
    name = "%C3%BC%20100%25%3F.txt"
    assert said == {
        "accel": ("X-Accel-Redirect", f"/more/{name}"),
        "accel-raw": ("X-Accel-Redirect", ""),  # Caddy can't be told: the application sends it
        "redirect": ("Location", f"/more/{name}"),
        "sendfile": ("X-Sendfile", f"/srv/more/{name}"),
    }
    raw = Protected("accel-raw", DIRECTORIES).value("/srv/more/ü a#b.txt")
    assert raw.encode("latin-1").decode() == "/more/ü a#b.txt"


@given(st.binary(min_size=1, max_size=20).filter(lambda name: not {*name} & {0, *b"/"}))
def test_whatever_a_file_is_called(name: bytes) -> None:
    """A value is a field's (RFC 9110, section 5.5), and means that file or nothing."""
    if name in (b".", b".."):
        return
    path = os.path.join("/srv/more", os.fsdecode(name))
    for way, (_, names, decodes) in WAYS.items():
        value = Protected(way, DIRECTORIES).value(path)
        if decodes:
            assert {*value} <= {*string.ascii_letters, *string.digits, *"%/._~-"}
        begin = b"/srv/more/" if names == "path" else b"/more/"
        assert not value or unquote_to_bytes(value.encode("latin-1")) == begin + name
        assert value.isprintable() or not value.isascii()
        assert value == value.strip(" \t")
