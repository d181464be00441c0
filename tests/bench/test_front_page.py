"""The README's figures are those of bench/results."""

import json
import shutil
from pathlib import Path

from bench.front_page import filled

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
RESULTS = CHECKOUT / "bench" / "results"


def test_they_are_up_to_date() -> None:
    assert filled(README, RESULTS) == README, "python -m bench report brings them up to date"


def test_a_lost_request_is_shown(tmp_path: Path) -> None:
    for name in ("ratios.json", "leaving.json", "idle.json"):
        shutil.copy(RESULTS / name, tmp_path)
    path = tmp_path / "leaving.json"
    measured = json.loads(path.read_text())
    measured["rows"][0]["lost"] = 3
    path.write_text(json.dumps(measured))
    assert "| 3 of " in filled(README, tmp_path)
