"""What the bench says of generating is counted right: all files, none, and the one that changed."""

from pathlib import Path

from bench import generate
from bench.report import generate_section


def test_only_what_has_changed_is_written_again(tmp_path: Path) -> None:
    rows = generate.files(tmp_path, 5)
    assert {row["run"]: row["lines"] for row in rows} == {
        "first": 10,
        "nothing changed": 0,
        "one changed": 1,
    }
    result = {
        "rounds": 1,
        "many": 5,
        "sites": 5,
        "file_system": "tmpfs",
        "systemd": "systemd 252",
        "files": rows,
        "reload": [{"without_s": 0.2, "with_s": 0.5}],
        "start": [{"gen_ms": 75.0, "jinja2_ms": 50.0}],
    }
    assert "| gen in terms of that import | 1.5 |" in generate_section(result)
