"""What is told of a step, and how a command that has failed can be run again."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sdactivate.errors import Error
from sdactivate.operate.layout import Layout
from sdactivate.operate.progress import note, step
from sdactivate.operate.release import Site
from sdactivate.operate.step_unit import KEPT, StepFailed, run


def test_a_step_is_told_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with step("import \x1b[31mapp"):
        pass
    fails = pytest.raises(Error, match=r"^unpack: nowhere: No such file or directory$")
    with fails, step("unpack"):
        os.stat("nowhere")
    said = capsys.readouterr().err
    assert said.startswith("sdactivate: import \\x1b[31mapp (0.")
    assert said.count("\n") == 1


def test_on_a_terminal_it_is_there_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    with open(leader, "rb", buffering=0) as screen, open(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with step("migrate"):
            assert screen.read(100).endswith("sdactivate: migrate …".encode())
            note("something else")
        terminal.flush()
        said = b""
        while not said.endswith(b" s)\r\n"):  # a terminal may deliver it in pieces
            said += screen.read(200)
    *_, last = said.split(b"\x1b[K")
    assert last.startswith(b"sdactivate: migrate (0.")


def test_a_command_that_fails_can_be_run_again(tmp_path: Path) -> None:
    again = tmp_path / "again"
    argv = ["sh", "-c", 'echo "it\'s $1" >&2; exit 3', "sh", "a b\n$HOME"]
    with pytest.raises(StepFailed) as caught:
        run(argv, "try\nit", again)
    assert "failed (exit 3): it's a b\n$HOME\nTo run it again: sudo sh" in str(caught.value)
    assert stat.S_IMODE(again.stat().st_mode) == 0o600
    done = subprocess.run(["sh", again], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "it's a b\n$HOME\n")


def test_of_much_output_the_end_is_kept() -> None:
    assert run(["sh", "-c", "echo begin; yes | head -n 200000; echo end"], "it").endswith("end\n")
    with pytest.raises(StepFailed) as caught:
        run(["sh", "-c", "echo begin; yes | head -n 200000; exit 1"], "it")
    assert len(caught.value.output) <= KEPT
    assert str(caught.value).count("\n") < 30


def test_a_build_has_the_unit_s_own_variables() -> None:
    lines = [
        "User=mysite",
        'Environment=PWD=/srv/mysite/current "GREETING=good day" SDACTIVATE_THREADS=4',
        "Environment=GREETING=hello",
        "EnvironmentFile=/etc/mysite.env",
    ]
    site = Site(Layout("mysite"), None, properties=lines)
    assert site.environ() == {"GREETING": "hello"}
