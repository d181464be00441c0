"""Which lines of the package the tests have run, their child processes included.

`script/test --all` runs pytest under coverage.py; the figure comes before pytest's closing line.
A child is counted by the .pth file that coverage.py installs, also after it has become another
program of ours by exec. One that SIGKILL ends tells nothing. Code that runs in the machines of
tests/machine or under another Python is not counted.

Each child costs 0.2 s of processor time for importing coverage.py. So children are counted where
they are what is tested, `COUNTED`, once for each test, and the others are left alone.
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

_counted: set[str] = set()


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
    counted = HERE in request.path.parents and request.path.relative_to(HERE).parts[0] in COUNTED
    with pytest.MonkeyPatch.context() as patch:
        if not counted:
            patch.delenv(TOLD_BY, raising=False)
        yield


@pytest.fixture(autouse=True)
def _children_counted_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count them for a test's first parameters only: the others run the same lines."""
    name, parameters, _ = request.node.nodeid.partition("[")
    if parameters and name in _counted:
        monkeypatch.delenv(TOLD_BY, raising=False)
    _counted.add(name)


@pytest.fixture
def children_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide coverage from the children of this test: they close files that are not theirs."""
    monkeypatch.delenv(TOLD_BY, raising=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what a process of pytest-xdist has counted: it has no end of its own."""
    if hasattr(session.config, "workerinput"):
        _stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figure, where coverage.py is at work."""
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
    if not _stop():
        return []
    import coverage

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


def _stop() -> bool:
    """Write what this process has counted. Returns whether it has counted."""
    if "coverage" not in sys.modules:
        return False
    import coverage

    running = coverage.Coverage.current()
    if running is None:
        return False
    running.stop()
    running.save()
    return True
