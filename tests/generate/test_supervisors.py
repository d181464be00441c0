"""What the files of the supervisors make of a command: the words arrive as they were meant."""

import configparser
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdactivate.errors import UsageError
from sdactivate.generate import supervisors
from sdactivate.generate.output import Output, Target
from sdactivate.site import Site
from sdactivate.values import parse_listen
from tests.effort import examples

TARGET = Target(252)
SUPERVISORS = ("daemontools", "runit", "s6", "supervisord", "circus", "openrc")
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=20)
SHOW = """\
#!/bin/sh
exec /usr/bin/python3 -I -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@"
"""


def site(**fields: object) -> Site:
    values = {"app": "mysite.wsgi:application", "run_as": "mysite", "group": "www-data", **fields}
    return Site("mysite", **values)  # type: ignore[arg-type]


def words(site_: Site) -> list[str]:
    """The launcher's command line, as it must arrive."""
    return [word for line in supervisors._launch(site_) for word in line]


def file(output: Output, name: str) -> str:
    return next(each.text for each in output.files if each.name == name)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that shows its arguments, in the place of the interpreter."""
    path = tmp_path_factory.mktemp("bin") / "show"
    path.write_text(SHOW)
    path.chmod(0o755)
    return path


def run(script: str) -> list[str]:
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, timeout=60)
    shown: list[str] = json.loads(done.stdout)
    return shown


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=VALUES)
def test_a_shell_reads_the_words_as_they_are(program: Path, value: str) -> None:
    given_ = site(python=str(program), env=(("A", value),))
    text = file(supervisors.runit(given_, TARGET), "mysite/run")
    assert run(text) == words(given_)[1:]


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(value=VALUES)
def test_openrc_reads_the_words_as_they_are(program: Path, value: str) -> None:
    given_ = site(python=str(program), env=(("A", value),))
    text = file(supervisors.openrc(given_, TARGET), "mysite")
    # as openrc-run's start-stop-daemon.sh does: eval "… $command … $command_args"
    assert run(text + '\neval "$command $command_args"') == words(given_)[1:]


@settings(max_examples=examples(50), deadline=None)
@given(value=VALUES)
def test_supervisord_reads_the_words_as_they_are_or_they_are_refused(value: str) -> None:
    given_ = site(env=(("A", value),))
    try:
        text = file(supervisors.supervisord(given_, TARGET), "mysite.conf")
    except UsageError as error:
        assert re.search(r"\s[;#]", value) or value[:1] in ";#", value
        assert "comment" in str(error)  # noqa: PT017
        return
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(text)
    command = parser["program:mysite"]["command"]
    assert shlex.split(command % {}) == words(given_)  # supervisord expands %(name)s


@pytest.mark.parametrize("kind", SUPERVISORS)
def test_a_user_and_an_application_are_needed(kind: str) -> None:
    make = getattr(supervisors, kind)
    with pytest.raises(UsageError, match="--run-as is needed"):
        make(site(run_as=""), TARGET)
    if kind != "circus":
        with pytest.raises(UsageError, match="--app"):
            make(site(app=""), TARGET)


@pytest.mark.parametrize("kind", SUPERVISORS)
def test_without_comments_the_script_stays_one(kind: str) -> None:
    for each in getattr(supervisors, kind)(site(), Target(252, comments=False)).files:
        if each.mode == 0o755:
            assert each.text.startswith("#!")
            subprocess.run(["sh", "-n"], input=each.text, text=True, check=True, timeout=60)
        comments = re.findall("^[#;](?!!).*", each.text, re.MULTILINE)
        assert all("written by sdactivate" in line for line in comments)


def test_several_sockets_with_names() -> None:
    listen = (parse_listen("web=/run/a.sock"), parse_listen("127.0.0.1:81"))
    found = words(site(listen=listen))
    assert found[4:8] == ["--listen", "web=/run/a.sock", "--listen", "127.0.0.1:81"]
    assert "--fd 3,4" in file(supervisors.circus(site(listen=listen), TARGET), "mysite.ini")


def test_s6_is_told_of_readiness_by_the_runtime() -> None:
    output = supervisors.s6(site(), TARGET)
    assert file(output, "mysite/notification-fd") == "9\n"
    run_ = file(output, "mysite/run")
    assert "--keep-fd 9" in run_
    assert "SDACTIVATE_NOTIFY_FD=9" in run_
    waiting = supervisors.s6(site(), TARGET, on_demand=True)
    assert [each.name for each in waiting.files] == ["mysite/run", "mysite/log/run"]
    assert "--on-demand" in file(waiting, "mysite/run")


def test_a_server_that_is_a_program_of_its_own_has_no_notification_fd() -> None:
    gunicorn = site(settings={"server": "gunicorn"})
    output = supervisors.s6(gunicorn, TARGET)
    assert [each.name for each in output.files] == ["mysite/run", "mysite/log/run"]
    assert "NOTIFY" not in output.files[0].text


@pytest.mark.parametrize("kind", SUPERVISORS)
def test_what_its_server_does_not_know_is_refused(kind: str) -> None:
    make = getattr(supervisors, kind)
    with pytest.raises(UsageError, match="gunicorn has no such setting"):
        make(site(settings={"server": "gunicorn", "header_bytes": "9"}), TARGET)
    with pytest.raises(UsageError, match="asgi"):
        make(site(app="mysite.asgi:application"), TARGET)


@pytest.mark.parametrize(
    ("name", "value"), [("A", "$HOME"), ("A", " x"), ("A", "$(circus.sockets.x)")]
)
def test_what_circus_would_replace_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="circus"):
        supervisors.circus(site(env=((name, value),)), TARGET)


def test_circus_can_not_tell_the_figures_socket() -> None:
    with pytest.raises(UsageError, match="without their names"):
        supervisors.circus(site(settings={"metrics": "figures"}), TARGET)
