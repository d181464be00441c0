"""The pictures of docs/images are of the programs as they are now."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from script import pictures
from script.pictures import Output

CHECKOUT = Path(__file__).resolve().parent.parent
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def recording() -> list[Output]:
    head, *lines = (pictures.IMAGES / "demo.cast").read_text(encoding="utf-8").splitlines()
    assert json.loads(head)["version"] == 2
    return [Output(when, text) for when, kind, text in map(json.loads, lines) if kind == "o"]


def test_the_recording_has_each_step_of_the_demonstration(recording: list[Output]) -> None:
    shown = "".join(it.text for it in recording)
    demo = (CHECKOUT / "script" / "demo.py").read_text(encoding="utf-8")
    steps = [it for it in re.findall(r'step\("([^"]+)"\)', demo) if not it.startswith("Copy")]
    assert len(steps) > 5
    for step in steps:
        assert step in shown, "script/pictures demo records it again"
    assert "all files are removed" in shown
    assert max(map(len, re.sub(r"\x1b\[\d*m", "", shown).splitlines())) <= pictures.COLUMNS


def test_the_svg_is_drawn_of_the_recording(recording: list[Output]) -> None:
    picture = (pictures.IMAGES / "demo.svg").read_text(encoding="utf-8")
    assert picture == pictures.drawn(recording, after="1. ")
    texts = ElementTree.fromstring(picture).iter(f"{SVG}text")
    lines = ["".join(it.itertext()) for it in texts]
    assert lines[0].startswith("1. Write the units")
    shown = re.sub(r"\x1b\[\d*m", "", "".join(it.text for it in recording)).splitlines()
    assert lines == [it for it in shown[shown.index(lines[0]) :] if it.strip()]


def test_a_terminal_is_drawn_as_it_was() -> None:
    script = r"print('no'); print('\033[1m1. <b> & c\033[0m  d'); print('   e')"
    said = list(pictures.record(sys.executable, "-c", script))
    assert said[0].time > 0

    def again() -> Iterator[Output]:
        yield from said
        yield Output(said[-1].time + 60, "after a pause\r\n")

    drawn = pictures.drawn(pictures.merged(again()), after="1.")
    texts = list(ElementTree.fromstring(drawn).iter(f"{SVG}text"))
    assert ["".join(it.itertext()) for it in texts] == ["1. <b> & c  d", "   e", "after a pause"]
    assert [it.get("class") for it in texts[0]] == ["b", None]
    delays = [float(it) for it in re.findall(r"animation-delay:([\d.]+)s", drawn)]
    assert delays == sorted(delays)
    assert delays[-1] < 60


def test_what_fails_is_not_recorded() -> None:
    with pytest.raises(SystemExit, match="exit status 3"):
        list(pictures.record(sys.executable, "-c", "raise SystemExit(3)"))


def test_a_recording_is_without_this_machine_s_paths(recording: list[Output]) -> None:
    said = [
        Output(1.0, f"{CHECKOUT}/.venv/bin/python"),
        Output(2.0, " /run/sdactivate-demo-a_b1/x\n"),
    ]
    (line,) = pictures.merged(iter(said))
    assert line.text == "/usr/src/sdactivate/.venv/bin/python /run/sdactivate-demo/x\n"
    shown = "".join(it.text for it in recording)
    assert "/usr/src/sdactivate/.venv/bin/python" in shown


def test_the_doctor_s_picture_is_small() -> None:
    picture = (pictures.IMAGES / "doctor.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200 * 1024
