"""Options are added to a file of sites, and nothing else of it changes."""

import sys

import pytest

from sdactivate.errors import Error
from sdactivate.generate.sites_toml_edit import Value, with_options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = """\
# ours
[defaults]
group = "www-data"
writable = ["/srv/all"]

[sites.mysite]  # the shop
app = "a:b" # here
allow-syscall = [
  "listen",  # forkserver
]
network = "local"

[sites.other]
app = "c:d"
"""
AT = ("sites", "mysite")


def changed(text: str) -> tuple[list[str], list[str]]:
    before, after = FILE.splitlines(), text.splitlines()
    return [it for it in before if it not in after], [it for it in after if it not in before]


@pytest.mark.parametrize(
    ("options", "gone", "new"),
    [
        ({"proc": True}, [], ["proc = true"]),
        ({"network": True}, ['network = "local"'], ["network = true"]),
        # The defaults hold where the site says nothing: what it says replaces them.
        ({"writable": ["/srv/media"]}, [], ['writable = ["/srv/all", "/srv/media"]']),
        (
            {"allow-syscall": ["keyctl"]},
            ["allow-syscall = [", '  "listen",  # forkserver', "]"],
            ['allow-syscall = ["listen", "keyctl"]'],
        ),
        ({"allow-syscall": ["listen"]}, [], []),
        ({"device": ['/dev/"x\\y\u202e']}, [], ['device = ["/dev/\\"x\\\\y\u202e"]']),
    ],
)
def test_one_line_changes(options: dict[str, Value], gone: list[str], new: list[str]) -> None:
    made = with_options(FILE, AT, options)
    assert changed(made) == (gone, new)
    assert tomllib.loads(made)["sites"]["other"] == {"app": "c:d"}
    assert with_options(made, AT, options) == made


@pytest.mark.parametrize(
    "text",
    [
        '[sites]\nmysite = {app = "a:b"}\n',
        'sites.mysite.app = "a:b"\n',
        '[sites.other]\napp = "a:b"\n',
        '[sites]\n[sites.other]\nx = """\n[sites.mysite]\n"""\n',
    ],
)
def test_another_form_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(
        Error, match=r"can't be changed line by line; add this to it yourself: proc = true"
    ):
        with_options(text, AT, {"proc": True})


def test_what_is_not_utf_8_is_refused() -> None:
    """It would make the file unreadable for every site in it."""
    with pytest.raises(Error, match="UTF-8"):
        with_options(FILE, AT, {"writable": ["/srv/\udcff"]})


def test_json_is_left_to_the_program_that_writes_it() -> None:
    with pytest.raises(
        Error, match=r"the file is JSON, .*; add this with that program: proc = true"
    ):
        with_options('{"sites": {"mysite": {}}}', AT, {"proc": True})
