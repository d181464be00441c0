import shutil
import subprocess
from pathlib import Path

import pytest

from sdactivate import sandbox
from sdactivate.sandbox import BEYOND_NEEDS, NEEDS, TABLE, TOPICS


def test_every_row_is_complete() -> None:
    for row in TABLE:
        assert row.topic in TOPICS
        assert row.why.endswith((".", "..."))
        assert row.source in (sandbox.EXEC, sandbox.RESOURCES)
        assert set(row.relaxed) <= {*NEEDS, *BEYOND_NEEDS}


def test_every_need_relaxes_something_and_nothing_else() -> None:
    whole = sandbox.lines((), 252)
    for need in [*NEEDS, *BEYOND_NEEDS]:
        relaxed = sandbox.lines([need], 252)
        changed = {row.name for row in whole if row not in relaxed}
        assert changed == {row.name for row in TABLE if need in row.relaxed} != set()


def test_an_older_systemd_gets_no_line_that_it_does_not_know() -> None:
    names = {row.name for row in sandbox.lines((), 245)}
    assert names.isdisjoint({"ProtectProc", "ProcSubset", "PrivateIPC", "SocketBindDeny"})
    assert {"ProtectProc", "ProcSubset", "PrivateIPC", "SocketBindDeny"} <= {
        row.name for row in sandbox.lines((), 249)
    }


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_this_systemd_knows_every_line(tmp_path: Path) -> None:
    unit = tmp_path / "sandbox.service"
    lines = [row.line for row in TABLE]
    unit.write_text("\n".join(["[Service]", "ExecStart=/bin/true", *lines, ""]))
    run = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
