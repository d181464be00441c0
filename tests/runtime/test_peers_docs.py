"""The figures in docs/allow-peer.md are those of bench/results/gate.json."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_figures_are_the_measured_ones() -> None:
    rows = json.loads((ROOT / "bench" / "results" / "gate.json").read_text())["rows"]
    text = (ROOT / "docs" / "allow-peer.md").read_text()
    lines = {
        "unit:, by the kernel": "| `unit:`, Linux 6.13",
        "unit:, by /proc": "| `unit:`, before",
        "user:": "| `user:`, `group:`",
    }
    for name, start in lines.items():
        (line,) = (line for line in text.splitlines() if line.startswith(start))
        assert line.endswith(f"| {rows[name]['median']:.1f} µs |")
