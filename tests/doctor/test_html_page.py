"""The page: self-contained, without scripts, and as a real browser lays it out."""

import html
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sdactivate.cli import main
from sdactivate.doctor.exposure import Gap, gaps
from tests.doctor import broken
from tests.doctor.test_rules import write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium lays the page out")

_VOID = {"meta", "link", "br"}


class Strict(HTMLParser):
    """Fails on what doesn't close in order, and collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.ids: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        ids = [value for key, value in attrs if key == "id"]
        assert not self.ids.intersection(ids)
        self.ids.update(ids)
        assert tag != "script"
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Strict:
    parser = Strict()
    parser.feed(path.read_text())
    assert parser.open == []
    return parser


@pytest.fixture
def made(tmp_path: Path) -> Callable[[broken.Broken], Path]:
    def make(setup: broken.Broken) -> Path:
        units = write(tmp_path, broken.units(setup))
        page = tmp_path / "page.html"
        main(["doctor", "--offline", *map(str, units), "--html", str(page)])
        return page

    return make


def test_it_needs_nothing_but_itself(made: Callable[[broken.Broken], Path]) -> None:
    page = read(made(broken.Broken(socket="SocketMode=0666")))
    assert page.addresses == []
    assert "The socket's mode lets others write" in " ".join(page.text)


def test_what_units_say_is_text_and_nothing_else(made: Callable[[broken.Broken], Path]) -> None:
    evil = "</pre><script>alert(1)</script>"
    page = made(broken.Broken(socket=f"ListenStream=@{evil}", service=f"User={evil}"))
    assert "<script>" not in page.read_text()
    assert evil in "".join(read(page).text)


def test_several_deployments_have_their_own_findings(tmp_path: Path) -> None:
    """And two findings of one rule are no two places of one name."""
    files = {}
    for name, more in (("a", "FlushPending=yes"), ("b", "SocketMode=0666")):
        for file, text in broken.units(broken.Broken(f"Backlog=16\n{more}")).items():
            files[f"{name}/{file}"] = text
    write(tmp_path, files)
    main(["doctor", "--offline", str(tmp_path), "--html", str(tmp_path / "page.html")])
    first, second = "".join(read(tmp_path / "page.html").text).split("Findings of web")[1:]
    assert ("SDA011" in first, "SDA002" in first) == (True, False)
    assert ("SDA011" in second, "SDA002" in second) == (False, True)


@needs_chromium
@pytest.mark.parametrize("width", [600, 800, 1280])
def test_a_browser_shows_every_stop_and_finding(
    made: Callable[[broken.Broken], Path], width: int
) -> None:
    """Every box is there, none is squeezed or cut off, and nothing has to be scrolled to."""
    page = made(broken.Broken(socket="Backlog=16\nSocketMode=0666"))
    with tempfile.TemporaryDirectory() as profile:
        shown = measure(page, profile, width)
    # the path of offline units: client, socket, service, sandbox
    assert shown["stops"] == "4"
    assert shown["findings"] == "2"
    assert shown["scrolls"] == "no"
    assert shown["hidden"] == "0"


def measure(page: Path, profile: str, width: int) -> dict[str, str]:
    """What the browser makes of it: a script that is ours, in a copy, counts boxes."""
    counts = """
      const boxes = name => [...document.querySelectorAll(name)];
      const hidden = e => { const r = e.getBoundingClientRect();
        return r.width < 40 || r.height < 20 || r.right > innerWidth + 1; };
      document.body.dataset.counted = JSON.stringify({
        stops: boxes('.stop').length, findings: boxes('.finding').length,
        hidden: boxes('.stop,.finding').filter(hidden).length,
        scrolls: document.documentElement.scrollWidth > innerWidth ? 'yes' : 'no'});
    """
    copy = page.with_name("measured.html")
    copy.write_text(page.read_text().replace("</body>", f"<script>{counts}</script></body>"))
    argv = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        f"--window-size={width},2000",
        "--dump-dom",
        copy.as_uri(),
    ]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120)
    found = re.search(r'data-counted="([^"]*)"', done.stdout)
    assert found
    return {key: str(value) for key, value in json.loads(html.unescape(found[1])).items()}


def test_gaps_are_sorted_and_odd_answers_are_none() -> None:
    rows = '[{"name": "A=", "description": "a", "exposure": "0.1"}, '
    rows += '{"name": "B=", "description": "b", "exposure": "0.3"}, '
    rows += '{"name": "C=", "description": "c", "exposure": null}]'
    assert gaps(rows) == (Gap("B=", "b", 0.3), Gap("A=", "a", 0.1))
    assert gaps("no json") == gaps('{"a": 1}') == gaps('[{"exposure": "x"}]') == ()
