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
from sdactivate.doctor import html_page
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
        self.headings: list[int] = []
        self.landmarks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        ids = [value for key, value in attrs if key == "id"]
        assert not self.ids.intersection(ids)
        self.ids.update(ids)
        assert tag != "script"
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        self.landmarks += [tag] if tag in ("header", "nav", "main", "footer") else []
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
    assert all(it.startswith("#") for it in page.addresses)
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
    parts = "".join(read(tmp_path / "page.html").text).split("Findings of web")[1:]
    first, second = (it.partition("The path of a request")[0] for it in parts)
    assert ("SDA011" in first, "SDA002" in first) == (True, False)
    assert ("SDA011" in second, "SDA002" in second) == (False, True)


def doors(page: Path) -> dict[str, str]:
    """What each door of the page says, by its heading, its class included."""
    found = re.findall(r'<li class="(stop[^"]*)"><h4>(.*?)</h4>(.*?)(?=<li class="stop|</ol>)',
                       page.read_text(), re.DOTALL)  # fmt: skip
    return {html.unescape(name): f"{kind} {said}" for kind, name, said in found}


def test_a_door_with_a_finding_is_marked_and_leads_to_it(
    made: Callable[[broken.Broken], Path],
) -> None:
    path = made(broken.Broken(socket="SocketMode=0777", service="User=root\nDynamicUser=no"))
    shown = doors(path)
    assert list(shown) == ["Client", "Front", "/run", "/run/web.sock", "Service", "Sandbox"]
    marked = {name for name, said in shown.items() if said.startswith(("stop marked", "stop shut"))}
    assert marked == {"/run/web.sock", "Service"}
    socket = shown["/run/web.sock"]
    assert socket.startswith("stop marked error")
    link = re.search(r'<a href="#(finding-\d+)">error SDA002</a>', socket)
    assert link
    assert link[1] in read(path).ids
    assert "anyone on this host may pass" in socket
    assert "error SDA020" in shown["Service"]


def test_doors_without_a_finding_are_not_marked(made: Callable[[broken.Broken], Path]) -> None:
    shown = doors(made(broken.Broken()))
    assert not any("marked" in said or "may pass" in said for said in shown.values())
    assert "processes in group www-data: " in shown["Front"]
    assert "nginx" in shown["Front"]


def test_one_of_two_sockets_is_marked_alone(tmp_path: Path) -> None:
    """The directory that a unit makes is drawn, too."""
    units = {
        "web.socket": "[Socket]\nListenStream=/run/web/a.sock\nSocketMode=0660\n"
        "SocketGroup=www-data\nFileDescriptorName=a\n",
        "admin.socket": "[Socket]\nListenStream=/run/b.sock\nSocketMode=0666\n"
        "SocketGroup=www-data\nService=web.service\nFileDescriptorName=b\n",
        "web.service": "[Unit]\nRequires=web.socket admin.socket\nAfter=web.socket admin.socket\n"
        "[Service]\nDynamicUser=yes\nExecStart=/srv/web/serve\n",
    }
    write(tmp_path, units)
    main(["doctor", "--offline", str(tmp_path), "--html", str(tmp_path / "page.html")])
    shown = doors(tmp_path / "page.html")
    assert "created with mode 0755" in shown["/run/web"]
    assert "marked" not in shown["/run/web/a.sock"]
    assert "marked error" in shown["/run/b.sock"]


def test_effects_stand_inside_the_box_of_their_cause(
    made: Callable[[broken.Broken], Path],
) -> None:
    """SocketMode= behind a comment: SDA031 explains SDA001."""
    path = made(broken.Broken("SocketMode=0660 # here", without=("SocketMode=0660",)))
    text = path.read_text()
    cause, effect = text.index("error SDA031</span>"), text.index("error SDA001</span>")
    assert cause < effect
    assert "</article>" not in text[cause:effect]
    assert "Consequence of SDA031" in text[cause:effect]


def test_it_is_read_by_headings_and_landmarks(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, broken.units(broken.Broken("SocketMode=0666")))
    main(["doctor", "--offline", str(tmp_path), "--html", str(tmp_path / "page.html")])
    page = read(tmp_path / "page.html")
    assert page.landmarks == ["header", "nav", "main", "footer"]
    assert page.headings[0] == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in steps)
    assert page.addresses
    assert {it.removeprefix("#") for it in page.addresses} <= page.ids


def luminance(colour: str) -> float:
    """Relative luminance, of WCAG 2.2."""
    colour = "".join(it * 2 for it in colour) if len(colour) == 3 else colour
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4
                        for it in parts)  # fmt: skip
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_colour_of_text_has_contrast_enough() -> None:
    """4.5 to 1, light and dark: WCAG 2.2, 1.4.3."""
    style = Path(html_page.__file__).with_name("page.css").read_text()
    schemes = [dict(re.findall(r"--(\w+): #([0-9a-f]{3,6});", it))
               for it in re.findall(r":root \{(.*?)\}", style, re.DOTALL)]  # fmt: skip
    assert len(schemes) == 2
    for colours in schemes:
        for name in ("text", "yes", "no", "error", "warning", "note"):
            for back in ("back", "soft"):
                light, dark = sorted(map(luminance, (colours[name], colours[back])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, back)


@needs_chromium
@pytest.mark.parametrize("width", [500, 800, 1280])
def test_a_browser_shows_every_stop_and_finding(
    made: Callable[[broken.Broken], Path], width: int
) -> None:
    """Every box is there, none is squeezed or cut off, and nothing has to be scrolled to."""
    page = made(broken.Broken(socket="Backlog=16\nSocketMode=0666"))
    with tempfile.TemporaryDirectory() as profile:
        shown = measure(page, profile, width)
    # the path of offline units: client, front, /run, socket, service, sandbox
    assert shown["stops"] == "6"
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


@needs_chromium
def test_a_long_path_is_broken_where_a_screen_is_narrow(
    made: Callable[[broken.Broken], Path],
) -> None:
    path = f"/srv/{'long_' * 18}"
    page = made(broken.Broken(service=f"WorkingDirectory={path}"))
    with tempfile.TemporaryDirectory() as profile:
        shown = measure(page, profile, 500)
    assert path in page.read_text()
    assert (shown["scrolls"], shown["hidden"]) == ("no", "0")


def test_gaps_are_sorted_and_odd_answers_are_none() -> None:
    rows = '[{"name": "A=", "description": "a", "exposure": "0.1"}, '
    rows += '{"name": "B=", "description": "b", "exposure": "0.3"}, '
    rows += '{"name": "C=", "description": "c", "exposure": null}]'
    assert gaps(rows) == (Gap("B=", "b", 0.3), Gap("A=", "a", 0.1))
    assert gaps("no json") == gaps('{"a": 1}') == gaps('[{"exposure": "x"}]') == ()
