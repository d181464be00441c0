"""Which lines of the package the tests have run, their child processes included.

script/test runs pytest under coverage.py; this prints the figure before pytest's closing line.
A child is counted by the .pth file that coverage.py installs, also after it has become another
program of ours by exec. One that SIGKILL ends tells nothing. Code that runs in the machines of
tests/machine or under another Python is not counted.

Each child costs 0.2 s of processor time for importing coverage.py. So children are counted where
they are what is tested, `COUNTED`, and the others are left alone.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
COUNTED = ("access", "cli", "django", "install", "launch", "runtime", "servers", "systemd")
"""The directories of tests whose child processes are counted."""
ENOUGH = 90.0
"""Modules with fewer of their lines run, in percent, are listed with those that are missing."""
TOLD_BY = "COVERAGE_PROCESS_CONFIG"


class Row(NamedTuple):
    """A module: its lines with code, how many of them were not run, and which."""

    name: str
    lines: int
    missing: int
    which: str

    @property
    def percent(self) -> float:
        return 100.0 * (self.lines - self.missing) / self.lines if self.lines else 100.0


@pytest.fixture(autouse=True, scope="module")
def _children_counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hide from the children of most tests that coverage is measured."""
    told = os.environ.get(TOLD_BY)
    counted = HERE in request.path.parents and request.path.relative_to(HERE).parts[0] in COUNTED
    if told is not None and not counted:
        del os.environ[TOLD_BY]
    yield
    if told is not None:
        os.environ[TOLD_BY] = told


@pytest.fixture
def children_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide coverage from the children of this test: they close files that are not theirs."""
    monkeypatch.delenv(TOLD_BY, raising=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figure, where coverage.py is at work."""
    if "coverage" not in sys.modules:
        return
    rows = _rows()
    if not rows:
        return
    terminalreporter.section("coverage", sep="=")
    for line in lines(rows):
        terminalreporter.write_line(line)


def lines(rows: list[Row]) -> list[str]:
    """Return the report: the modules with too little, the worst first, and the total."""
    total = Row("in total", sum(r.lines for r in rows), sum(r.missing for r in rows), "")
    few = sorted((r for r in rows if r.percent < ENOUGH), key=lambda row: row.percent)
    listed = [f"{row.percent:5.1f} %  {row.name}: {row.which}" for row in few]
    return [
        *listed,
        f"{total.percent:5.1f} % of {total.lines} lines; {len(few)} of {len(rows)} modules below "
        f"{ENOUGH:g} %, listed with the lines that no test ran",
    ]


def _rows() -> list[Row]:
    import coverage

    running = coverage.Coverage.current()
    if running is None:
        return []
    running.stop()
    running.save()
    whole = coverage.Coverage(data_file=os.environ["COVERAGE_FILE"])
    with warnings.catch_warnings():
        # A child that was killed while it wrote its file tells nothing
        warnings.simplefilter("ignore", coverage.exceptions.CoverageWarning)
        whole.combine()
    found = []
    for path in sorted(whole.get_data().measured_files()):
        if not path.endswith(".py"):
            continue  # a template: Jinja2 gives what it compiles the template's own path
        _, code, _, missing, which = whole.analysis2(path)
        found.append(Row(os.path.relpath(path, HERE.parent), len(code), len(missing), which))
    return found
