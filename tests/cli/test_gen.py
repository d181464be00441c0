"""The command as it is typed: what it prints, where, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate.cli import VERBS, main
from sdactivate.generate import options
from tests.effort import examples
from tests.generate.strategies import HOSTILE

APP = ("--kind", "service", "--app", "mysite.wsgi:application")
VALUED = [row.name for row in options.SITE if not row.flag]


def test_a_socket_unit_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gen", "mysite", "--group", "www-data"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("[Install]\nWantedBy=sockets.target\n")
    assert "SocketGroup=www-data\n" in out
    assert err == ""


def test_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gen", "mysite", "--group", "no-such-group"]) == 0
    out, err = capsys.readouterr()
    assert "SocketGroup=no-such-group\n" in out
    assert err.startswith("sdactivate gen: warning: --group no-such-group: ")


def test_an_option_that_a_kind_has_no_use_for_is_mentioned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["gen", "mysite", "--group", "www-data", "--threads", "4"]) == 0
    assert "--threads: --kind socket does not use it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["my site"], "NAME 'my site': a name consists of"),
        (["mysite", "--mode", "0999"], "--mode '0999': a mode is"),
        (["mysite", "--listen=--"], "--listen '--': a listen address is"),
        (["mysite", "--group=--"], "--group '--': a user or a group is"),
        (["mysite", "--listen", "x"], "--listen 'x': a listen address is"),
        (["mysite", *APP, "--env", "A"], "--env 'A': a variable is"),
        (["mysite", *APP, "--run-as", "root"], "run_as='root': root can change every socket"),
        (["mysite", *APP, "--idle-timeout", "soon"], "--idle-timeout 'soon' is not a time span"),
        (["mysite", "--kind", "service"], "--kind service needs --app"),
        (["mysite", "--systemd", "old"], "--systemd 'old': not a version of systemd"),
        (["mysite", "--kind", "sock"], "'sock' is not one of its values; did you mean socket?"),
        (["mysite", "--user", "a\nSocketMode=0666"], r"--user 'a\nSocketMode=0666'"),
    ],
)
def test_misuse_exits_2_with_a_sentence_and_no_unit(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gen", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


@settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(VALUED), HOSTILE | st.text())
def test_no_value_makes_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    code = main(["gen", "mysite", *APP, "--systemd=252", f"--{name}={value}"])
    out, err = capsys.readouterr()
    assert code in (0, 2)
    if code:
        assert out == ""
        assert err
    else:
        keys = [line.partition("=")[0] for line in out.splitlines() if "=" in line]
        assert main(["gen", "mysite", *APP, "--systemd=252"]) == 0
        known = capsys.readouterr().out.splitlines()
        own = {line.partition("=")[0] for line in known if "=" in line}
        new = set(keys) - own - {line for line in keys if line.startswith("#")}
        added = {"WorkingDirectory", "Environment", "EnvironmentFile", "User"}
        added |= {"ReadWritePaths", "DeviceAllow", "LoadCredential", "LoadCredentialEncrypted"}
        assert new <= added | {"MemoryMax", "CPUQuota", "TasksMax", "SupplementaryGroups"}
        assert len(keys) <= len(known) + 1


def test_all_that_the_options_give_reason_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "units"
    argv = ["gen", "mysite", "--kind", "all", f"--out={out}", "--group=www-data", *APP[2:]]
    argv += ["--chdir=/usr", "--command=clearsessions", "--listen=/run/mysite/mysite.sock"]
    assert main(argv) == 0
    written = capsys.readouterr().out.split()
    names = ["mysite.socket", "mysite.service", "mysite-clearsessions.timer"]
    names += ["mysite-clearsessions.service", "tmpfiles.d/mysite.conf"]
    assert written == [str(out / name) for name in names]
    assert all(Path(path).is_file() for path in written)
    assert main(argv) == 0
    assert capsys.readouterr().out == ""  # nothing has changed


def test_several_files_are_printed_with_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gen", "mysite", "--kind=template", "--group=www-data", *APP[2:]]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# --- mysite@.socket\n# mysite@.socket, written by sdactivate.")
    assert "\n# --- mysite@.service\n" in out


def typed(*argv: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [sys.executable, "-m", "sdactivate", *argv]
    return subprocess.run(command, text=True, timeout=60, **pipes)


@pytest.mark.parametrize(
    "argv", [("gen", "mysite", "--group=www-data"), ("gen", "--help"), ("--version",)]
)
def test_a_full_disk_is_an_error(argv: tuple[str, ...]) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        run = typed(*argv, stdout=full)
    assert run.returncode == 1
    assert run.stderr.endswith(": No space left on device\n")
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("argv", [("gen", "mysite", "--group=www-data"), ("gen", "--help")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_left_is_no_reason_for_words(
    argv: tuple[str, ...], unbuffered: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    run = typed(*argv, stdout=writer, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    os.close(writer)
    assert (run.returncode, run.stderr) == (1, "")


def test_a_closed_stream_is_not_the_other_one() -> None:
    argv = [sys.executable, "-m", "sdactivate", "gen", "mysite", "--group", "no-such-group"]
    for closed, left in (("1", "stderr"), ("2", "stdout")):
        shell = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *argv]
        run = subprocess.run(shell, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0
        words = {"stdout": run.stdout, "stderr": run.stderr}
        assert ("warning" in words[left]) is (left == "stderr")
        assert ("ListenStream=" in words[left]) is (left == "stdout")


def test_the_example_site_is_as_generated(capsys: pytest.CaptureFixture[str]) -> None:
    """units/README.md has the commands; what they print is what lies there."""
    directory = Path(__file__).parents[2] / "units"
    commands = [
        line.strip().removeprefix("sdactivate ").split()
        for line in (directory / "README.md").read_text().splitlines()
        if line.startswith("    sdactivate gen ")
    ]
    assert len(commands) >= 2
    for command in commands:
        *argv, redirect, file = command
        assert redirect == ">"
        assert main(argv) == 0
        assert capsys.readouterr().out == (directory / file).read_text()


def test_it_imports_little_more_than_jinja() -> None:
    """gen is typed all day: it answers within 1.5 times of `python -c "import jinja2"`.

    What can't be asserted by the clock on a busy machine is held by what is imported.
    """
    program = (
        "import sys, jinja2; before = set(sys.modules); from sdactivate.cli import main; "
        "main(['gen', 'mysite', '--group', 'www-data']); "
        "print(*(set(sys.modules) - before), file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name for name in run.stderr.split() if not name.startswith("sdactivate")}
    assert loaded <= {
        *("_locale", "argparse", "copy", "dataclasses", "gc", "gettext", "locale"),
        *("grp", "pwd", "inspect", "dis", "opcode", "_opcode", "encodings.unicode_escape"),
    }


def test_nothing_is_searched_for_garbage_at_the_end_but_an_applications_own() -> None:
    program = (
        "import gc, sys; from sdactivate.cli import entry; entry(sys.argv[1:]); "
        "print(gc.get_freeze_count(), file=sys.stderr)"
    )
    for argv, frozen in ((["gen", "mysite", "--group=www-data"], True), (["serve"], False)):
        command = [sys.executable, "-c", program, *argv]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (int(run.stderr.splitlines()[-1]) > 0) is frozen


@pytest.mark.parametrize("verb", VERBS)
def test_a_mistake_is_not_buried_under_options(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--nonsense"]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 8


def test_the_verbs_fit_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
