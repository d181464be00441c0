"""Error pages, the maintenance switch and the access log: what is written and what is refused.

tests/machine/test_front_pages.py runs it.
"""

import re
from pathlib import Path

import pytest

from sdactivate import fronts
from sdactivate.cli import main
from sdactivate.fronts import FRONTS, Front
from sdactivate.generate.fronts.options import files
from sdactivate.generate.fronts.outage import Outage
from sdactivate.generate.fronts.render import config
from sdactivate.generate.fronts.request import front_request, warnings
from sdactivate.site import Site

OPTIONS = ("error-pages", "maintenance", "front-log")
HAVE = [(front, option) for front in FRONTS.values() for option in OPTIONS]


def text(front: Front, server: str = "", **options: object) -> str:
    site = Site("mysite", settings={"server": server} if server else {})
    return config(front_request(front, site, distribution="debian", **options))


def name_of(value: object) -> str:
    return str(getattr(value, "name", value))


@pytest.mark.parametrize(("front", "option"), HAVE, ids=name_of)
def test_each_option_is_written_or_refused_with_a_reason(
    front: Front, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["gen", "mysite", "--kind", front.name, "--distribution", "debian"]
    (status,) = {main([*argv, f"--{option}", "/srv/x"])}
    out, err = capsys.readouterr()
    if why := front.not_outage.get(option):
        assert status == 2
        assert f"--{option}: {why}" in err
    else:
        assert status == 0
        assert ("/srv/x" in out) != front.pages_at_start  # there is no page to read
    assert main(argv) == 0
    assert not re.search("maintenance|error_?pages?|errorfile|request_us", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--maintenance", "/tmp/off"], "--maintenance /tmp/off: every user can write there"),
        (["--error-pages", "/dev/shm"], "--error-pages /dev/shm: every user can write there"),
        (
            ["--error-pages", "/"],
            "--error-pages /: this is the root directory; name a file",
        ),
        (["--front-log", "x.log"], "--front-log 'x.log' is not an absolute path"),
        (["--maintenance", "/etc/a;b"], "--maintenance '/etc/a;b' is not an absolute path"),
        (
            ["--media", "/m=/srv/media", "--maintenance", "/srv/media/off"],
            "--maintenance /srv/media/off: that is a directory of --media, which",
        ),
        (  # the second option that is looked at
            [
                *("--media", "/m=/srv/media", "--error-pages", "/srv/x"),
                *("--maintenance", "/srv/media/off"),
            ],
            "--maintenance /srv/media/off: that is a directory of --media, which",
        ),
    ],
)
def test_a_place_that_others_write_is_refused(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gen", "mysite", "--kind", "nginx", "--distribution", "debian", *argv]) == 2
    assert said in capsys.readouterr().err


def test_the_usual_places() -> None:
    for front, log in (
        (fronts.NGINX, "/var/log/nginx/mysite-access.log"),
        (fronts.APACHE, "/var/log/apache2/mysite-access.log"),
        (fronts.CADDY, "/var/log/caddy/mysite-access.log"),
    ):
        written = text(front, maintenance=True, front_log=True)
        assert "/etc/mysite.maintenance" in written
        assert log in written
    # As root newer versions would make the log, which caddy then can't write.
    assert "`runuser -u caddy -- caddy validate" in text(fronts.CADDY, front_log=True)
    assert "`caddy validate" in text(fronts.CADDY)
    assert "/var/log/lighttpd/mysite-access.log" in text(fronts.LIGHTTPD, front_log=True)


def test_no_location_has_an_error_page_of_its_own() -> None:
    """nginx: one error_page in a location cancels those of the server around it."""
    found = text(fronts.NGINX, "uvicorn", error_pages="/srv/x", mount="/app")
    assert re.findall(r"(?m)^( +)error_page (\d+)", found) == [
        ("    ", code) for code in ("418", "502", "503", "504")
    ]


def test_nothing_but_files_is_served_in_maintenance() -> None:
    static = (files("/static=/srv/static"),)
    nginx = text(fronts.NGINX, maintenance=True, static=static, mount="/app", php="/run/php.sock")
    blocks = re.findall(r"(?ms)^    location (.+?) \{\n(.*?)^    \}", nginx)
    closed = [where for where, block in blocks if "-f /etc/mysite.maintenance" in block]
    assert closed == ["= /app", "^~ /app/", "/", r"~ \.php$"]
    assert len(blocks) == len(closed) + 2  # the static files, and the page


def test_only_pages_that_are_there_are_written_for_haproxy(tmp_path: Path) -> None:
    (tmp_path / "503.html").write_text("page")
    # Where pytest puts it, everyone can write: what is refused is not looked at here.
    asked = front_request(fronts.HAPROXY, Site("mysite"), error_pages="/srv/x")
    object.__setattr__(asked, "error_pages", str(tmp_path))
    written = config(asked)
    assert f"http-error status 503 content-type text/html file {tmp_path}/503.html" in written
    assert "status 502" not in written
    (said,) = (line for line in warnings(asked) if line.startswith("--error-pages"))
    assert "has no 502.html, 504.html" in said


def test_what_is_read_and_opened_as_root_is_where_root_alone_writes(tmp_path: Path) -> None:
    """By a link there every client could read a file of root's, or the log be written over one."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for directory in (ours, theirs):
        directory.mkdir()
        (directory / "503.html").write_text("page")

    def said(front: Front, where: Path) -> str:
        asked = Outage(str(where), "", f"{where}/a.log")
        refused = [why for _, why in asked.conflicts(front, ())]
        return " ".join([*refused, *asked.warnings(front, False, "/var/log/nginx")])

    theirs.chmod(0o777)
    everyone = f"other users can change {theirs} (everyone can write to it)"
    assert f"HAProxy reads the pages as root, and {everyone}" in said(fronts.HAPROXY, theirs)
    for front in (fronts.NGINX, fronts.APACHE, fronts.LIGHTTPD):
        assert f"{front.title} opens it as root, and {everyone}" in said(front, theirs)
    assert "others can" not in said(fronts.CADDY, theirs)  # it opens its log as its own user
    for front in FRONTS.values():
        assert "others can" not in said(front, ours)
    (ours / "503.html").unlink()
    (ours / "503.html").symlink_to(theirs / "503.html")
    assert everyone in said(fronts.HAPROXY, ours)
