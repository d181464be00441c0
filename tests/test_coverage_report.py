"""The figure of coverage: printed before pytest's closing line, with the children counted."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.coverage_report import Row, lines

pytest.importorskip("coverage")


def test_what_is_not_run_is_named_the_worst_first() -> None:
    rows = [Row("a.py", 10, 2, "3-4"), Row("b.py", 10, 1, "7"), Row("c.py", 10, 9, "1-9")]
    assert lines(rows) == [
        " 10.0 %  c.py: 1-9",
        " 80.0 %  a.py: 3-4",
        " 60.0 % of 30 lines; 2 of 3 modules below 90 %, listed with the lines that no test ran",
    ]


@pytest.mark.parametrize(
    ("tests", "module", "counted"),
    [
        ("tests/systemd/test_escape.py", "sdactivate/systemd/listen_fds.py", False),
        # sockets that only a child process takes, after an exec
        (
            "tests/systemd/test_listen_fds.py::test_a_listening_socket_of_every_family",
            "sdactivate/systemd/listen_fds.py",
            True,
        ),
    ],
)
def test_children_count_and_pytest_has_the_last_line(
    tests: str, module: str, counted: bool, tmp_path: Path
) -> None:
    (tmp_path / "data.host.pid1.x").write_text("of a child that was killed while it wrote this")
    env = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-m", "coverage", "run", "-m", "pytest", "-q", tests],
        env={**env, "COVERAGE_FILE": str(tmp_path / "data")},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    *report, last = done.stdout.splitlines()
    assert re.match(r"\d+ passed", last)
    assert any(re.match(r" +[0-9.]+ % of \d+ lines; ", line) for line in report)
    percent = [line.split()[0] for line in report if f"  {module}: " in line]
    assert (percent != ["0.0"]) == counted
