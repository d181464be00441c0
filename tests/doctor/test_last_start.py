"""Why a start failed: what servers and systemd have written, word for word, and any other text.

tests/doctor/last_words has the servers' own words: gunicorn 27, uvicorn, hypercorn, daphne, uWSGI,
waitress and Celery, each started with an application that is broken in the way of the file's name.
Frames inside of packages are left out but for two.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdactivate.doctor import advice
from sdactivate.doctor.last_start import MOST_LINES, Cause, Line, cause, last_start
from sdactivate.doctor.steps import STEPS
from sdactivate.doctor.tracebacks import chains
from tests.effort import examples

WORDS = Path(__file__).parent / "last_words"
_IMPORT = "ModuleNotFoundError: No module named 'nowhere_pkg' (/srv/web/bad1.py, line 1: import"
_CHAINED = (
    "KeyError: 'SECRET_KEY' (/srv/web/bad2.py, line 3: os.environ[\"SECRET_KEY\"]), which became "
    "RuntimeError: Set the SECRET_KEY environment variable"
)
SAID = {
    "celery-broker": "it can't connect to amqp://guest:**@127.0.0.1:1//: [Errno 111] Connection",
    "celery-module": "The module nowhere was not found.",
    "env-program": "/usr/bin/env: \N{LEFT SINGLE QUOTATION MARK}nosuchprogram",
    "daphne-database": "OperationalError: unable to open database file (/srv/web/bad3.py, line 2",
    "gunicorn-attribute": "Failed to find attribute 'nothing' in 'app'.",
    "gunicorn-bind": "connection to /proc/x failed: [Errno 2] No such file or directory",
    "gunicorn-import": _IMPORT,
    "gunicorn-option": "gunicorn: error: unrecognized arguments: --nosuch",
    "hypercorn-module": "ModuleNotFoundError: No module named 'nowhere', which became NoAppError:",
    "uvicorn-chained": _CHAINED,
    "uvicorn-module": 'Error loading ASGI app. Could not import module "nowhere".',
    "uwsgi-attribute": "uWSGI finds no application of that name: unable to load app 0",
    "uwsgi-bind": "bind(): No such file or directory",
    "uwsgi-import": _IMPORT,
    "uwsgi-module": "ModuleNotFoundError: No module named 'nowhere'",
    "uwsgi-option": "/srv/web/venv/bin/uwsgi: unrecognized option '--nosuch'",
    "uwsgi-syntax": "SyntaxError: invalid syntax (/srv/web/bad4.py, line 1)",
    "waitress-chained": _CHAINED,
    "waitress-import": "importing the application: No module named 'nowhere_pkg'",
}


def test_every_server_s_words_are_tried() -> None:
    assert {it.stem for it in WORDS.glob("*.txt")} == SAID.keys()


def said(text: str) -> Cause:
    found = cause([Line(line) for line in text.splitlines()])
    assert found
    return found


@pytest.mark.parametrize("name", SAID)
def test_a_server_s_first_cause_is_found(name: str) -> None:
    found = said((WORDS / f"{name}.txt").read_text())
    assert found.said.startswith(SAID[name])
    assert found.kind


# What systemd 252 says of a step that fails
_STEPS = {
    "EXEC": (
        "Failed to locate executable /srv/web/python: No such file or directory\n"
        "Failed at step EXEC spawning /srv/web/python: No such file or directory",
        "/srv/web/python: No such file or directory",
        "/srv/web/python",
    ),
    "CHDIR": (
        "Changing to the requested working directory failed: Permission denied\n"
        "Failed at step CHDIR spawning /bin/true: Permission denied",
        "Changing to the requested working directory failed: Permission denied",
        "",
    ),
    "USER": (
        "Failed to determine user credentials: No such process\n"
        "Failed at step USER spawning /bin/true: No such process",
        "Failed to determine user credentials: No such process",
        "",
    ),
    "NAMESPACE": (
        "Failed to set up mount namespacing: /run/systemd/unit-root/srv/no: No such file or "
        "directory\nFailed at step NAMESPACE spawning /bin/true: No such file or directory",
        "/srv/no: No such file or directory",
        "/srv/no",
    ),
    "CREDENTIALS": (
        "Failed to set up credentials: Protocol error\n"
        "Failed at step CREDENTIALS spawning /bin/true: Protocol error",
        "Failed to set up credentials: Protocol error",
        "",
    ),
    "environment": (
        "Failed to load environment files: No such file or directory\n"
        "Failed to run 'start' task: No such file or directory",
        "a file of EnvironmentFile= can't be read: No such file or directory",
        "",
    ),
}


def by_systemd(text: str, start: str = "1") -> list[Line]:
    return [Line(f"web.service: {line}", True, start) for line in text.splitlines()]


@pytest.mark.parametrize("kind", _STEPS)
def test_a_step_of_systemd_s_is_told_with_what_it_names(kind: str) -> None:
    text, words, path = _STEPS[kind]
    end = "Main process exited, code=exited, status=1\nFailed with result 'exit-code'."
    lines = [Line("Started web.service.", True), *by_systemd(f"{text}\n{end}")]
    # journald may have the line of systemd's child before systemd's own
    for order in (lines, [lines[1], lines[0], *lines[2:]]):
        assert cause(order) == Cause(words, kind, path)


def test_steps_are_those_of_the_manual() -> None:
    assert {int(it) for it in STEPS} <= set(range(200, 246))
    assert len({it.name for it in STEPS.values()}) == len(STEPS)


def test_a_start_that_is_never_ready_is_told_from_one_that_failed() -> None:
    late = by_systemd("start operation timed out. Terminating.\nFailed with result 'timeout'.")
    serving = Line("INFO:     Uvicorn running on socket /run/web.sock (Press CTRL+C to quit)")
    found = cause([serving, *late])
    assert found
    assert found.kind == "not-ready"
    broken = [Line(it) for it in (WORDS / "uvicorn-chained.txt").read_text().splitlines()]
    found = cause([*broken, *late])
    assert found
    assert found.said == _CHAINED


_CAUGHT = """\
ERROR cache is down
Traceback (most recent call last):
  File "/srv/web/cache.py", line 9, in connect
    raise ConnectionError("no cache")
ConnectionError: no cache
serving without a cache
Traceback (most recent call last):
  File "/srv/web/settings.py", line 3, in <module>
    import nothing
ModuleNotFoundError: No module named 'nothing'
Exception ignored in: <function Pool.__del__ at 0x7f>
Traceback (most recent call last):
  File "/srv/web/pool.py", line 3, in __del__
    self.close()
AttributeError: close
"""
_GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/web/tasks.py", line 4, in main
  |     async with TaskGroup() as group:
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/web/tasks.py", line 9, in connect
    |     raise OSError(97, "Address family not supported by protocol")
    | OSError: [Errno 97] Address family not supported by protocol
    +------------------------------------
"""
_HALT = """\
Traceback (most recent call last):
  File "/srv/web/wsgi.py", line 2, in <module>
    import nothing
ModuleNotFoundError: No module named 'nothing'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/srv/web/venv/lib/python3.11/site-packages/gunicorn/arbiter.py", line 209, in run
    self.sleep()
gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_CAUGHT, "ModuleNotFoundError: No module named 'nothing' (/srv/web/settings.py, line 3"),
        (_GROUP, "OSError: [Errno 97] Address family not supported by protocol (/srv/web/tasks"),
        (_HALT, "ModuleNotFoundError: No module named 'nothing' (/srv/web/wsgi.py, line 2: import"),
        ("sh: 1: exec: gunicorn: not found", "sh finds no command exec: gunicorn"),
        ("bash: line 1: gunicorn: command not found", "bash finds no command gunicorn"),
        ("/usr/bin/python3: No module named sdactivate", "/usr/bin/python3 has no module sdact"),
        ("python3: can't open file '/srv/a.py': [Errno 2] No such file", "/srv/a.py: No such file"),
        ("all is well\nnothing to see here\nINFO bye", "nothing to see here"),
        ("[2026] [9] [INFO] Listening\n[2026] [9] [INFO] Worker exiting", "[2026] [9] [INFO] Work"),
        ("ERROR: no licence\nERROR: giving up\nbye", "ERROR: no licence"),
    ],
)
def test_words_of_many_kinds(text: str, words: str) -> None:
    assert said(text).said.startswith(words)


def test_nothing_said_is_no_cause() -> None:
    assert cause([]) is None
    assert cause(by_systemd("Main process exited, code=exited, status=1/FAILURE")) is None


def test_the_last_start_is_told_from_those_before() -> None:
    first = [*by_systemd("Failed with result 'exit-code'.", "a"), Line("old words", start="a")]
    second = [Line("new words", start="b"), Line("of a process that had ended")]
    second += by_systemd("Failed with result 'exit-code'.", "b")
    third = [Line("Starting", True, "c")]
    assert last_start([*first, *second]) == second
    assert last_start([*first, *second, *third]) == third
    assert last_start([*first, *second, *third], is_restarting=True) == second
    assert last_start(third, is_restarting=True) == third
    assert last_start([]) == []


_PARTS = st.sampled_from(
    [
        "Traceback (most recent call last):",
        '  File "/srv/a.py", line 3, in f',
        "    x()",
        "ValueError: x",
        "KeyboardInterrupt",
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:",
        "",
        "  |   + Exception Group Traceback (most recent call last):",
        "web.service: Failed at step EXEC spawning /x: No such file or directory",
        "[1] [ERROR] Reason: x",
        "\x1b[2J{line}{0}",
    ]
)
_LINES = st.lists(
    st.builds(Line, _PARTS | st.text(max_size=80), st.booleans(), st.sampled_from(("", "a", "b"))),
    max_size=60,
)


@settings(max_examples=examples(200))
@given(_LINES, st.booleans())
def test_any_lines_have_a_cause_or_none(lines: list[Line], is_restarting: bool) -> None:
    found = cause(last_start(lines, is_restarting=is_restarting))
    assert found is None or len(found.said) < 2000
    places = [(it.start, it.end) for it in chains([line.text for line in lines])]
    assert places == sorted(places)
    assert all(start < end < len(lines) for start, end in places)


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        '  File "a", line 1, in f',
        "a." * 20000 + ": ",
        "(" * 50000,
        "sh: " * 10000 + ": not found",
        "/" * 50000 + ": x",
        "Failed to set up " + "/a: " * 10000,
        "Failed at step EXEC spawning " + "x: " * 10000,
    ],
)
def test_work_is_bounded(line: str) -> None:
    """Twice the lines cost no more once there are as many as are looked at."""
    for by in (False, True):
        cause([Line(line, by)] * 2 * MOST_LINES)


def test_a_user_without_a_name_is_advised_of() -> None:
    """In Python's own words, for a number that no account has."""
    argv = [sys.executable, "-c", "import pwd; pwd.getpwuid(61183)"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = said(done.stderr)
    assert "libnss-systemd" in str(advice.fix(found.said))
    assert advice.fix("KeyError: 'uid'") is None
