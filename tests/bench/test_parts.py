"""A result in parts: each is kept by itself, and --resume leaves out what is there."""

import argparse
from pathlib import Path

import pytest

from bench import __main__ as commands
from bench import machine, report


def options(out: Path, resume: bool) -> argparse.Namespace:
    return argparse.Namespace(out=out, resume=resume, parts=["mixed", "beside"])


def test_a_part_replaces_itself_and_no_other(tmp_path: Path) -> None:
    for part, value in (("mixed", 1), ("beside", 2), ("mixed", 3)):
        commands.keep(tmp_path, "latency", part, {"rows": value})
    found = commands.kept(tmp_path, "latency")
    assert {part: result["rows"] for part, result in found.items()} == {"mixed": 3, "beside": 2}


def test_what_this_commit_has_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands.keep(tmp_path, "latency", "beside", {"rows": []})
    assert list(commands.wanted(options(tmp_path, False), "latency")) == ["mixed", "beside"]
    assert list(commands.wanted(options(tmp_path, True), "latency")) == ["mixed"]
    monkeypatch.setattr(machine, "commit", lambda: "another")
    assert list(commands.wanted(options(tmp_path, True), "latency")) == ["mixed", "beside"]


def test_the_report_has_what_there_is_of_the_parts(tmp_path: Path) -> None:
    row = {"p50_ms": 1.0, "p99_ms": 2.5, "ratio": 2.5, "goal": 3}
    commands.keep(tmp_path, "latency", "mixed", {"turns": 9, "rows": [row]})
    told = report.write(tmp_path).read_text()
    assert "## Latency" in told
    assert "| 1.0 | 2.5 | 2.50 | 3 |" in told
